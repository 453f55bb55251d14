"""Rows of a data set to what a recognizer is trained and evaluated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from kinoclip.video import VideoDecodeError
from kinoclip.video.sampling import split_kept_frames
from kinoclip.video.transforms import normalize_frames
from kinoclip.video_processing import RecognizerVideoProcessor, Segment

from .augmentation import ClipAugmentation

if TYPE_CHECKING:
    import datasets

_COLUMNS = ("video", "label", "name", "start", "end", "fps")


class VideoSamples(TorchDataset[dict[str, Any]]):
    """The videos of a data set as tensors, one by one.

    Item i is `pixel_values_videos` (V, T, 3, H, W), `labels` (a class id, or multi-hot (K,) where a video has several),
    `index` (the row), `draw` (a random integer below 2^31, for the choice of a caption), and `discarded_pixel_values`
    (1, T', 3, H, W) if asked for. Item N + i is row i again with other random numbers, for a second pass in one epoch. What is
    random depends on the seed, the epoch and i alone: workers, order and resuming change nothing.

    Args:
        dataset: with the columns `video` and `label`; `name`, `start`, `end` (seconds of a segment) and `fps` (of frames
            without a clock) where it has them.
        video_processor: of the recognizer.
        augmentation: the crop of `ClipAugmentation`; None crops as in evaluation.
        sampling: which frames, if not the processor's own rule.
        random_frames: draw them as in training; None does where there is an augmentation.
        discarded: give the frames that SLLM leaves out too, changed as the others are.
        seed: of everything random.
        options: of `ClipAugmentation`.

    Raises:
        TypeError, ValueError: a column or an option is missing or wrong.
    """

    def __init__(
        self,
        dataset: datasets.Dataset,
        video_processor: RecognizerVideoProcessor,
        *,
        augmentation: str | None = None,
        sampling: str | None = None,
        random_frames: bool | None = None,
        discarded: bool = False,
        seed: int = 0,
        **options: Any,
    ):
        self.dataset, self.num_classes = _prepare(dataset)
        self.video_processor = video_processor
        self.augmentation = ClipAugmentation.from_options(augmentation, options)
        self.sampling = sampling
        self.random_frames = augmentation is not None if random_frames is None else random_frames
        self.discarded = discarded
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes, before its workers start."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Count the videos."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one video.

        Raises:
            VideoDecodeError: it cannot be read; the message names it.
        """
        row = self.dataset[index % len(self)]
        try:
            pixels = self._read(row, index)
        except (VideoDecodeError, OSError) as error:
            name = row.get("name") or row["video"]["path"] or f"video {index}"
            raise VideoDecodeError(str(error) if name in str(error) else f"{name}: {error}") from error
        return {**pixels, **self._facts(row, index)}

    def _facts(self, row: Mapping[str, Any], index: int) -> dict[str, Any]:
        """Return the part of an item that needs no decoding."""
        draw = int(np.random.default_rng((self.seed, self.epoch, index, 2)).integers(2**31))
        return {"labels": self._target(row["label"]), "index": index % len(self), "draw": draw}

    def _read(self, row: Mapping[str, Any], index: int) -> dict[str, Tensor]:
        video = row["video"]
        source = video["path"] if video["bytes"] is None else video["bytes"]
        options: dict[str, Any] = {"sampling": self.sampling, "segment": _segment(row), "fps": row.get("fps")}
        if self.augmentation is not None or self.random_frames:
            return self._read_for_training(source, np.random.default_rng((self.seed, self.epoch, index)), options)
        pixels = {"pixel_values_videos": self.video_processor.sample(source, **options).pixel_values}
        if self.discarded:
            others = self.video_processor.sample(source, **options, discarded=True)
            pixels["discarded_pixel_values"] = others.pixel_values
        return pixels

    def _read_for_training(self, source: Any, rng: np.random.Generator, options: dict[str, Any]) -> dict[str, Tensor]:
        processor = self.video_processor
        draws = rng if self.random_frames else None
        frames = processor.sample_uncropped(source, rng=draws, discarded=self.discarded, **options)
        augmentation = self.augmentation or ClipAugmentation("center_crop", flip=False, grayscale=0.0)
        frames = augmentation.change_frames(frames, processor.crop_size["height"], rng)
        pixels = augmentation.erase(normalize_frames(frames, processor.image_mean, processor.image_std), rng)
        if not self.discarded:
            return {"pixel_values_videos": pixels[None]}
        kept, between, _ = split_kept_frames(processor.num_frames, processor.keep_every)
        return {"pixel_values_videos": pixels[None, kept], "discarded_pixel_values": pixels[None, between]}

    def _target(self, label: int | list[int]) -> int | Tensor:
        if not isinstance(label, list):
            return label
        target = torch.zeros(self.num_classes)
        target[label] = 1.0
        return target


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Make a batch: `pixel_values_videos` (B * V, T, 3, H, W), `labels` (B,) or (B, K), `index` and `draw` (B,)."""
    batch: dict[str, Tensor] = {
        name: torch.cat([sample[name] for sample in samples])
        for name in ("pixel_values_videos", "discarded_pixel_values")
        if name in samples[0]
    }
    labels = [sample["labels"] for sample in samples]
    batch["labels"] = torch.stack(labels) if isinstance(labels[0], Tensor) else torch.tensor(labels)
    for name in ("index", "draw"):
        batch[name] = torch.tensor([sample[name] for sample in samples])
    return batch


def class_names(dataset: datasets.Dataset) -> list[str]:
    """Give the names of the classes of `label`, in order.

    Raises:
        ValueError: the column is missing, or holds no classes.
    """
    label = (dataset.features or {}).get("label")
    names = getattr(getattr(label, "feature", label), "names", None)
    if not names:
        raise ValueError(
            f"The data set has no column `label` of classes, but {', '.join(dataset.features or ())}. Rename the column, or cast "
            "it: dataset.cast_column('label', ClassLabel(names=[...]))."
        )
    return list(names)


def _prepare(dataset: datasets.Dataset) -> tuple[datasets.Dataset, int]:
    """Keep the columns that are read, none of them decoded."""
    from datasets import Dataset, Video

    if not isinstance(dataset, Dataset):
        raise TypeError(f"A {type(dataset).__name__} cannot be read by index. Load the data set without streaming.")
    if "video" not in dataset.column_names:
        raise ValueError(f"The data set has no column `video`, but {', '.join(dataset.column_names)}. Rename yours.")
    num_classes = len(class_names(dataset))
    dataset = dataset.select_columns([name for name in _COLUMNS if name in dataset.column_names])
    return dataset.cast_column("video", Video(decode=False)), num_classes


def _segment(row: Mapping[str, Any]) -> Segment:
    start, end = row.get("start"), row.get("end")
    return _second(start), _second(end)


def _second(value: float | None) -> float | None:
    return None if value is None or isnan(value) else value
