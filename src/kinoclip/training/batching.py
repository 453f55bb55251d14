"""Which videos an update sees: the same for any number of processes, micro-batches, workers, and after a resumption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kinoclip.data.samples import VideoSamples
from kinoclip.outputs import FrameFeatures
from kinoclip.video import VideoDecodeError

from .features import collate_features

# videos that take the place of an unreadable one before training gives up
_ATTEMPTS = 10


@dataclass(frozen=True)
class BatchPlan:
    """How the videos of an epoch are shared out.

    Attributes:
        count: videos.
        batch_size: of an update, over all processes and micro-batches.
        accumulation: micro-batches of an update.
        processes: that work on each of them.
        repeat: passes over the videos in an epoch.
        seed: of the order.
    """

    count: int
    batch_size: int
    accumulation: int = 1
    processes: int = 1
    repeat: int = 1
    seed: int = 0

    @classmethod
    def fitting(cls, count: int, batch_size: int, **parts: int) -> BatchPlan:
        """Plan batches of the wanted size, or of all videos where there are fewer.

        Raises:
            ValueError: the batch cannot be shared evenly, or there are too few videos.
        """
        shares = parts.get("accumulation", 1) * parts.get("processes", 1)
        if batch_size % shares:
            raise ValueError(
                f"training.batch_size is {batch_size}, which {parts.get('processes', 1)} processes with "
                f"{parts.get('accumulation', 1)} micro-batches do not share evenly. Choose a multiple of {shares}."
            )
        total = count * parts.get("repeat", 1)
        if total < shares:
            raise ValueError(
                f"There are {total} videos for {shares} micro-batches. Use fewer processes or micro-batches."
            )
        return cls(count, min(batch_size, total // shares * shares), **parts)

    @property
    def updates_per_epoch(self) -> int:
        """Updates in an epoch; the videos of an incomplete batch wait for another epoch's order."""
        return self.count * self.repeat // self.batch_size

    def micro_batches(self, epoch: int, process: int, first_update: int = 0) -> list[list[int]]:
        """Return the items of each micro-batch of a process, `accumulation` of them for each update.

        Pass n over the videos has the items n * count to (n + 1) * count - 1, so that each pass draws other random numbers.
        """
        rng = np.random.default_rng((self.seed, epoch))
        order = np.concatenate([rng.permutation(self.count) + number * self.count for number in range(self.repeat)])
        updates = order[: self.updates_per_epoch * self.batch_size].reshape(
            -1, self.accumulation, self.processes, self.size
        )
        mine: list[list[int]] = updates[first_update:, :, process].reshape(-1, self.size).tolist()
        return mine

    @property
    def size(self) -> int:
        """Videos of a micro-batch on one process."""
        return self.batch_size // (self.accumulation * self.processes)


class ReadableSamples(Dataset[dict[str, Any]]):
    """Samples in which another video takes the place of one that cannot be read; which one, the seed, epoch and row decide."""

    def __init__(self, samples: VideoSamples):
        self.samples = samples

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a video, or the first readable one of some others; `failed` holds the rows that were not.

        Raises:
            VideoDecodeError: none of them can be read.
        """
        rng = np.random.default_rng((self.samples.seed, self.samples.epoch, index, 1))
        failed: list[tuple[int, str]] = []
        row = index
        while True:
            try:
                return {**self.samples[row], "failed": failed}
            except VideoDecodeError as error:
                failed.append((row % len(self.samples), str(error)))
                if len(failed) > _ATTEMPTS:
                    raise
                row = int(rng.integers(len(self.samples)))


def collate_readable(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch, with the rows that could not be read, and why, under "failed"."""
    return {**collate_features(samples), "failed": [failure for sample in samples for failure in sample["failed"]]}


def update_batches(
    samples: VideoSamples, plan: BatchPlan, epoch: int, process: int, first_update: int = 0, num_workers: int = 0
) -> Iterator[list[dict[str, Any]]]:
    """Give the micro-batches of each update of an epoch."""
    samples.set_epoch(epoch)
    loader = DataLoader(
        ReadableSamples(samples),
        batch_sampler=plan.micro_batches(epoch, process, first_update),
        num_workers=num_workers,
        collate_fn=collate_readable,
        worker_init_fn=_leave_interrupts_to_the_loop if num_workers else None,
        pin_memory=torch.cuda.is_available(),
    )
    waiting = []
    for micro_batch in loader:
        waiting.append(micro_batch)
        if len(waiting) == plan.accumulation:
            yield waiting
            waiting = []


def _leave_interrupts_to_the_loop(worker: int) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)


def seed_micro_batch(seed: int, update: int, micro_batch: int, process: int) -> None:
    """Make what is random in a micro-batch (dropout, noise, mixing) depend on its place in the run alone."""
    state = np.random.SeedSequence((seed, update, micro_batch, process)).generate_state(1, np.uint64)[0]
    torch.manual_seed(int(state >> np.uint64(1)))


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Move the tensors of a batch, and features among them."""

    def move(value: Any) -> Any:
        if isinstance(value, FrameFeatures):
            return FrameFeatures(**{name: move(tensor) for name, tensor in value.items()})
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

    return {name: move(value) for name, value in batch.items()}
