"""Samples of a data set for training and evaluation, and batches of them without unreadable videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from kinoclip.data.augmentation import ClipAugmentation
from kinoclip.modeling.outputs import FrameFeatures
from kinoclip.modeling.video_processing import RecognizerVideoProcessor
from kinoclip.video import VideoDecodeError
from kinoclip.video.sampling import split_kept_frames
from kinoclip.video.sources import stored_source

if TYPE_CHECKING:
    import datasets

Sample = dict[str, Any]
_COLUMNS = ("video", "label", "name", "start", "end", "fps")


class VideoSamples(TorchDataset[Sample]):
    """The videos of a data set as tensors, one by one.

    Item i is `pixel_values_videos` (V, T, 3, H, W), `labels` (a class id, or multi-hot (K,) where a video has several),
    `index` (the row), `draw` (a random integer below 2^31, for the choice of a caption), `frame_times` (V, T) if the video
    processor returns them, and `discarded_pixel_values` (1, T', 3, H, W) on request. Item N + i is row i again with other random numbers, for a second pass in one epoch. Random
    numbers depend on the seed, the epoch and i only, not on workers, order or resuming.

    Args:
        dataset: with the columns `video` and `label`; optionally `name`, `start`, `end` (seconds of a segment) and `fps` (of
            frames without timestamps).
        video_processor: of the recognizer.
        augmentation: random changes; None crops as in evaluation.
        sampling: rule for choosing frames, if not the processor's own.
        random_frames: sample frames at random as in training; by default where there is an augmentation.
        discarded: also return the frames that SLLM leaves out, with the same augmentation.
        seed: of all random numbers.

    Raises:
        TypeError, ValueError: the data set has no random access, or lacks a column.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        video_processor: RecognizerVideoProcessor,
        *,
        augmentation: ClipAugmentation | None = None,
        sampling: str | None = None,
        random_frames: bool | None = None,
        discarded: bool = False,
        seed: int = 0,
    ):
        from datasets import Dataset, Video

        if not isinstance(dataset, Dataset):
            raise TypeError(f"A {type(dataset).__name__} has no random access. Load the data set without streaming.")
        names = dataset.column_names
        if "video" not in names:
            raise ValueError(f"The data set has no column `video`; it has {', '.join(names)}. Rename yours.")
        self.num_classes = len(class_names(dataset))
        columns = dataset.select_columns([name for name in _COLUMNS if name in names])
        self.dataset = columns.cast_column("video", Video(decode=False))
        self.video_processor = video_processor
        self.augmentation = augmentation
        self.sampling = sampling
        self.random_frames = augmentation is not None if random_frames is None else random_frames
        self.discarded = discarded
        self.seed, self.epoch = seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, before its workers start."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Read one video; `VideoDecodeError` names one that cannot be read."""
        row = self.dataset[index % len(self)]
        try:
            pixels = self._read(row, index)
        except (VideoDecodeError, OSError) as error:
            name = row.get("name") or row["video"]["path"] or f"video {index}"
            raise VideoDecodeError(str(error) if name in str(error) else f"{name}: {error}") from error
        return {**pixels, **self._facts(row, index)}

    def _facts(self, row: Mapping[str, Any], index: int) -> Sample:
        """Return the part of an item that needs no decoding."""
        draw = int(np.random.default_rng((self.seed, self.epoch, index, 2)).integers(2**31))
        label: int | Tensor = row["label"]
        if isinstance(row["label"], list):
            label = torch.zeros(self.num_classes)
            label[row["label"]] = 1.0
        return {"labels": label, "index": index % len(self), "draw": draw}

    def _read(self, row: Mapping[str, Any], index: int) -> dict[str, Tensor]:
        source, options = row_source(row)
        options["sampling"] = self.sampling
        if self.augmentation is not None or self.random_frames:
            return self._read_for_training(source, np.random.default_rng((self.seed, self.epoch, index)), options)
        sample = self.video_processor.sample(source, **options)
        pixels = {"pixel_values_videos": sample.pixel_values}
        if sample.frame_times is not None:
            pixels["frame_times"] = sample.frame_times
        if self.discarded:
            others = self.video_processor.sample(source, **options, discarded=True)
            pixels["discarded_pixel_values"] = others.pixel_values
        return pixels

    def _read_for_training(self, source: Any, rng: np.random.Generator, options: dict[str, Any]) -> dict[str, Tensor]:
        processor = self.video_processor
        draws = rng if self.random_frames else None
        frames, times = processor.sample_uncropped(source, rng=draws, discarded=self.discarded, **options)
        augmentation = self.augmentation or ClipAugmentation("center_crop", flip=False, grayscale=0.0)
        frames = augmentation.change_frames(frames, processor.crop_size["height"], rng)
        pixels = augmentation.erase(processor.normalize(frames), rng)
        further = {} if times is None else {"frame_times": times[None]}
        if not self.discarded:
            return {"pixel_values_videos": pixels[None], **further}
        kept, between, _ = split_kept_frames(processor.num_frames, processor.keep_every)
        return {"pixel_values_videos": pixels[None, kept], "discarded_pixel_values": pixels[None, between], **further}


def row_source(row: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the video of a row, and the options of `RecognizerVideoProcessor.sample` for its segment and frame rate."""
    video = row["video"]
    start, end = (None if value is None or isnan(value) else value for value in (row.get("start"), row.get("end")))
    options = {} if start is None and end is None else {"segment": (start, end)}
    fps = {} if row.get("fps") is None else {"fps": row["fps"]}
    return stored_source(video), options | fps


class ReadableSamples(TorchDataset[Sample]):
    """Samples without unreadable videos; `failed` of an item lists row and error of each that could not be read.

    So many `replacements` are tried in place of an unreadable video, chosen by the seed, the epoch and its index; the
    last error is raised if all of them fail. With 0 the item is `failed` alone.
    """

    def __init__(self, samples: VideoSamples, replacements: int = 0):
        self.samples, self.replacements = samples, replacements

    def __len__(self) -> int:
        """Number of videos."""
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        """Read a video, or a replacement."""
        samples = self.samples
        rng = np.random.default_rng((samples.seed, samples.epoch, index, 1))
        failed: list[tuple[int, str]] = []
        row = index
        while True:
            try:
                return {**samples[row], "failed": failed}
            except VideoDecodeError as error:
                failed.append((row % len(samples), str(error)))
                if not self.replacements:
                    return {"failed": failed}
                if len(failed) > self.replacements:
                    raise
                row = int(rng.integers(len(samples)))


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Build a batch of what the samples have.

    `pixel_values_videos` are (B * V, T, 3, H, W), `labels` (B,) or (B, K), `index` and `draw` (B,), and features of all views
    under `frames` become `FrameFeatures` (B * V, T, D).
    """
    first = samples[0]
    pixels = [name for name in ("pixel_values_videos", "frame_times", "discarded_pixel_values") if name in first]
    batch: dict[str, Any] = {name: torch.cat([sample[name] for sample in samples]) for name in pixels}
    if "frames" in first:
        joined = {name: torch.cat([sample["frames"][name] for sample in samples]) for name in first["frames"]}
        batch["frames"] = FrameFeatures(**joined)
    numbers = {name: [sample[name] for sample in samples] for name in ("labels", "index", "draw") if name in first}
    return batch | {
        name: torch.stack(values) if isinstance(values[0], Tensor) else torch.tensor(values)
        for name, values in numbers.items()
    }


def collate_readable(samples: Sequence[Sample]) -> dict[str, Any]:
    """Build a batch of the readable items of `ReadableSamples`; `failed` lists all failures.

    A batch without a readable item has `failed` alone.
    """
    readable = [sample for sample in samples if len(sample) > 1]
    failed = [failure for sample in samples for failure in sample["failed"]]
    return {**(collate(readable) if readable else {}), "failed": failed}


def class_names(dataset: datasets.Dataset) -> list[str]:
    """Return the names of the classes of `label`, in order; raise a `ValueError` if there are none."""
    label = (dataset.features or {}).get("label")
    names = getattr(getattr(label, "feature", label), "names", None)
    if not names:
        raise ValueError(
            f"The data set has no column `label` of classes; it has {', '.join(dataset.features or ())}. Rename the column, "
            "or cast it: dataset.cast_column('label', ClassLabel(names=[...]))."
        )
    return list(names)
