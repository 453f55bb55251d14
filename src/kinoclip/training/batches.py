"""The batches of each update: the same for any number of processes, micro-batches and workers, and after a resumption."""

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from kinoclip.data.samples import ReadableSamples, VideoSamples, collate_readable, row_source
from kinoclip.inference.feature_cache import FeatureStore
from kinoclip.modeling.recognizer import VideoRecognizer, evaluation_mode
from kinoclip.modeling.video_processing import frame_inputs
from kinoclip.storage import hash_tensors
from kinoclip.video import VideoDecodeError

# videos that are tried in place of an unreadable one before training stops
_REPLACEMENTS = 10
# stored features that a process keeps in memory
_KEPT_BYTES = 2**28


@dataclass(frozen=True)
class BatchPlan:
    """How the videos of an epoch are distributed over updates, micro-batches and processes."""

    count: int  # videos
    batch_size: int  # videos per update, over all processes and micro-batches
    accumulation: int = 1  # micro-batches per update
    processes: int = 1  # that share each micro-batch
    repeat: int = 1  # passes over the videos in an epoch
    seed: int = 0  # of the order

    @classmethod
    def fitting(cls, count: int, batch_size: int, **parts: int) -> Self:
        """Plan batches of the given size, or of all videos if there are fewer.

        A batch that is not divisible, or too few videos, are a `ValueError`.
        """
        processes, accumulation = parts.get("processes", 1), parts.get("accumulation", 1)
        shares = accumulation * processes
        if batch_size % shares:
            raise ValueError(
                f"training.batch_size must be divisible by {processes} processes x {accumulation} micro-batches, got "
                f"{batch_size}. Choose a multiple of {shares}."
            )
        total = count * parts.get("repeat", 1)
        if total < shares:
            raise ValueError(
                f"There are {total} videos for {shares} micro-batches. Use fewer processes or micro-batches."
            )
        return cls(count, min(batch_size, total // shares * shares), **parts)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in an epoch; the videos of an incomplete last batch are skipped in this epoch."""
        return self.count * self.repeat // self.batch_size

    @property
    def size(self) -> int:
        """Videos of a micro-batch on one process."""
        return self.batch_size // (self.accumulation * self.processes)

    def micro_batches(self, epoch: int, process: int, first_update: int = 0) -> list[list[int]]:
        """Return the items of each micro-batch of a process, `accumulation` of them for each update.

        Pass n over the videos has the items n * count to (n + 1) * count - 1, so that each pass has its own random numbers.
        """
        rng = np.random.default_rng((self.seed, epoch))
        order = np.concatenate([rng.permutation(self.count) + number * self.count for number in range(self.repeat)])
        shape = (-1, self.accumulation, self.processes, self.size)
        updates = order[: self.updates_per_epoch * self.batch_size].reshape(shape)
        return updates[first_update:, :, process].reshape(-1, self.size).tolist()


def update_batches(
    samples: VideoSamples, plan: BatchPlan, epoch: int, process: int, first_update: int = 0, num_workers: int = 0
) -> Iterator[list[dict[str, Any]]]:
    """Yield the micro-batches of each update of an epoch."""
    samples.set_epoch(epoch)
    loader = DataLoader(
        ReadableSamples(samples, replacements=_REPLACEMENTS),
        batch_sampler=plan.micro_batches(epoch, process, first_update),
        num_workers=num_workers,
        collate_fn=collate_readable,
        worker_init_fn=_ignore_interrupts if num_workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    micro_batches = []
    for micro_batch in loader:
        micro_batches.append(micro_batch)
        if len(micro_batches) == plan.accumulation:
            yield micro_batches
            micro_batches = []


def _ignore_interrupts(worker: int) -> None:
    """Leave Ctrl-C to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def seed_micro_batch(seed: int, update: int, micro_batch: int, process: int) -> None:
    """Seed torch for a micro-batch, so that dropout, noise and mixing depend on its position in the run only."""
    state = np.random.SeedSequence((seed, update, micro_batch, process)).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(state >> np.uint64(1)))


class UnreadSamples(VideoSamples):
    """The labels of videos that are not read: item i is `labels`, `index` and `draw`."""

    def __init__(self, samples: VideoSamples):
        vars(self).update(vars(samples))
        self.dataset = samples.dataset.remove_columns("video")

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return what is known of one video."""
        return self._facts(self.dataset[index % len(self)], index)


class FeatureSamples(VideoSamples):
    """The stored frame features of videos instead of their pixels, which must be the same in each epoch.

    Item i is `frames` (name to tensor of all views), `labels`, `index` and `draw`. Several runs may share the folder: models share
    features if they encode the first readable video alike, whatever follows the encoder.

    Raises:
        ValueError: the pixels or the encoder change in training.
    """

    def __init__(self, samples: VideoSamples, folder: Path, model: VideoRecognizer):
        from accelerate.utils import broadcast_object_list

        vars(self).update(vars(samples))
        self._samples = samples
        if samples.augmentation is not None or samples.random_frames:
            raise ValueError(
                "Features can be stored only if the pixels are the same in each epoch. Set "
                "data.augmentation to none and data.random_frames to false, or training.cache_features to false."
            )
        self._rows = self.dataset.remove_columns("video")
        self._keys: dict[int, str] = {}
        self._failures: dict[int, str] = {}
        self._kept: dict[int, dict[str, Tensor]] = {}
        self._free = _KEPT_BYTES
        found = ((index, self._encode(index, model)) for index in range(len(self)))
        first, frames = next(((index, frames) for index, frames in found if frames), (0, {}))
        [encoder] = broadcast_object_list([hash_tensors(frames)])  # processors may differ in the last digits
        settings = [samples.video_processor.to_dict(), samples.sampling, "views", samples.discarded]
        self._store = FeatureStore(folder, encoder, settings)
        if frames:
            self._store.save(self._key(first), frames)

    @classmethod
    def filled(
        cls, samples: VideoSamples, folder: Path, model: VideoRecognizer, process: int = 0, processes: int = 1
    ) -> Self:
        """Encode and store every n-th video without features, skip unreadable ones, and return the samples."""
        stored = cls(samples, folder, model)
        for index in range(process, len(stored), processes):
            key = stored._key(index)
            if not stored._store.path(key).exists() and (frames := stored._encode(index, model)):
                stored._store.save(key, frames)
        return stored

    def _encode(self, index: int, model: VideoRecognizer) -> dict[str, Tensor]:
        """Encode a video; return nothing if it cannot be read."""
        if index in self._failures:
            return {}
        try:
            sample = self._samples[index]
        except VideoDecodeError as error:
            self._failures[index] = str(error)
            return {}
        others = {name: sample[name].to(model.device) for name in ("discarded_pixel_values",) if name in sample}
        with evaluation_mode(model):
            frames = model.encode_fixed(**frame_inputs(sample, model.device), **others)
        if any(tensor.requires_grad for tensor in frames.values()):
            raise ValueError(
                'Features can be stored only if the encoder of frames is frozen. Set training.freeze = "towers", or '
                "training.cache_features to false."
            )
        return dict(frames.items())

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return the features of one video; raise a `VideoDecodeError` if they are missing (an unreadable video)."""
        number = index % len(self)
        frames = self._kept.get(number) or self._load(number)
        return {"frames": dict(frames), **self._facts(self._rows[number], index)}

    def _load(self, number: int) -> dict[str, Tensor]:
        """Load the features of a video, and keep them if there is room."""
        stored = self._store.load(self._key(number))
        if stored is None:
            name = self._rows[number].get("name") or f"video {number}"
            unknown = f"{name} could not be read when features were computed."
            raise VideoDecodeError(self._failures.get(number, unknown))
        frames: dict[str, Tensor] = stored[0]
        self._free -= sum(tensor.nbytes for tensor in frames.values())
        if self._free >= 0:
            self._kept[number] = frames
        return frames

    def _key(self, number: int) -> str:
        if number not in self._keys:  # a key is the hash of a whole file
            source, options = row_source(self.dataset[number])
            self._keys[number] = self._store.video_key(source, options)
        return self._keys[number]
