"""The videos that a recipe is trained and validated on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kinoclip.data import MissingSplitError, load_videos
from kinoclip.data.leaks import check_leaks
from kinoclip.data.samples import class_names
from kinoclip.data.splits import divide, few_shot
from kinoclip.text.attributes import read_attributes

from .recipe import Recipe

if TYPE_CHECKING:
    import datasets


def prepare_data(
    recipe: Recipe, source: str | Path, *, dataset: str | None = None, validation: float = 0.1
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Load the videos that a recipe trains on, and those that it is validated on.

    Data without splits is divided, the same share of each class in both parts.

    Args:
        recipe: says the splits, the fold, and how many shots.
        source: of `load_videos`.
        dataset: name in the catalog; found out when left out.
        validation: share of data without splits that is not trained on.

    Raises:
        FileNotFoundError, ValueError: of `load_videos`; a class has too few videos; or a video is in both parts.
    """
    data = recipe.data_settings
    options: dict[str, Any] = {"dataset": dataset, "fold": data.fold}
    train = _load_split(source, data.train_split, segments=data.segments, **options)
    held_out = _load_split(source, data.validation_split, **options)
    if held_out is None:
        held_out = _load_split(source, "test", **options)
    if train is None and held_out is not None:
        raise ValueError(f"{source} has videos to measure on, and none of the split {data.train_split!r} to train on.")
    if train is None:
        train = load_videos(source, segments=data.segments, **options)
    if held_out is None:
        train, held_out = divide(train, validation, recipe.training.seed)
    if data.shots:
        train = few_shot(train, data.shots, recipe.training.seed)
    if class_names(train) != class_names(held_out):
        raise ValueError("The classes of training and validation differ. Give both the same folders of classes.")
    check_leaks(train, held_out)
    return train, held_out


def _load_split(source: str | Path, split: str, **options: Any) -> datasets.Dataset | None:
    """Load a split, or give None where the data has none of that name."""
    try:
        return load_videos(source, split=split, **options)
    except MissingSplitError:
        return None


def keep_labelled(dataset: datasets.Dataset, multi_label: str) -> datasets.Dataset:
    """Leave out videos without any label where the right classes share the target."""
    if multi_label == "yes_no":
        return dataset
    labels = list(dataset["label"])
    if not labels or not isinstance(labels[0], list):
        return dataset
    return dataset.select([row for row, classes in enumerate(labels) if classes])


def encode_attributes(path: str | None, dataset: datasets.Dataset, processor: Any) -> Tensor | None:
    """Make one sentence of the attributes of each video in a file of `kinoclip.text.attributes`: (N, L).

    Raises:
        FileNotFoundError: no such file.
        ValueError: a video has none.
    """
    if path is None:
        return None
    known = read_attributes(path, processor.num_attributes)
    names: Sequence[str] = list(dataset["name"])
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            f"{path} has no attributes of {missing[0]} ({len(missing)} of {len(names)} videos are missing)."
        )
    sentences: Tensor = processor.encode_attributes([known[name] for name in names])
    return sentences.to(torch.long)
