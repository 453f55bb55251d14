"""Load the training, validation and test videos of a recipe, and their attributes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kinoclip.data import MissingSplitError, load_videos
from kinoclip.data.catalog import catalog
from kinoclip.data.leaks import check_leaks
from kinoclip.data.samples import class_names, row_source
from kinoclip.data.splits import base_classes, divide, few_shot, keep_classes, select_list
from kinoclip.inference.attributes import AttributeFinder
from kinoclip.kinoshapes.benchmarks import BENCHMARKS
from kinoclip.methods.auto import EMBEDDED
from kinoclip.text.attributes import read_attributes
from kinoclip.training.recipe import Recipe
from kinoclip.training.settings import DataSettings

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class DataParts:
    """The parts of a data set."""

    train: datasets.Dataset
    validation: datasets.Dataset  # measured after an epoch
    test: datasets.Dataset | None  # of the reported number; None if the data has no such part


def prepare_data(recipe: Recipe, source: str | Path, *, dataset: str | None = None) -> DataParts:
    """Load the videos that a recipe is trained, validated and tested on.

    With `evaluation.selection = "validation"` the validation videos are never those of the test part: if the data has no
    other part, a share `data.held_out` of each training class is held out, by seed. Otherwise the training part is complete,
    and the test part is measured after each epoch if the data has no validation part. Data without splits is always divided.

    Args:
        recipe: its splits, fold, number of shots, and selection.
        source: see `load_videos`.
        dataset: name in the catalog; detected by default.

    Raises:
        FileNotFoundError, ValueError: see `load_videos`; or a class has too few videos, or a video is in two parts.
    """
    data, selection = recipe.data_settings, recipe.evaluation["selection"]
    options: dict[str, Any] = {"dataset": dataset, "fold": data.fold}
    train = _load_split(source, data.train_split, segments=data.segments, **options)
    test_split = reported_split(recipe, dataset)
    test = _load_split(source, test_split, **options)
    own = None if data.validation_split == test_split else _load_split(source, data.validation_split, **options)
    if train is None and (test is not None or own is not None):
        raise ValueError(f"{source} has no split {data.train_split!r} to train on. Set data.train_split.")
    if train is None:
        train = load_videos(source, segments=data.segments, **options)
    if selection == "test":
        if test is None:
            raise ValueError(f'{source} has no split {test_split!r}, which evaluation.selection = "test" selects on.')
        validation = test
    elif own is not None:
        validation = own
    elif selection == "validation" or test is None:
        train, validation = divide(train, data.held_out, recipe.training.seed)
    else:
        validation = test
    for part in filter(None, (validation, test)):
        if class_names(train) != class_names(part):
            raise ValueError("The classes of training and test must be the same. Use the same class folders in both.")
        check_leaks(train, part)
    return DataParts(*_choose_shots(train, validation, data, recipe.training.seed), test)


def load_test(recipe: Recipe, source: str | Path) -> datasets.Dataset:
    """Load the videos of a recipe's reported number; errors are those of `load_videos`."""
    split = reported_split(recipe)
    return load_videos(source, split=None if split == "all" else split, fold=recipe.data["fold"])


def reported_split(recipe: Recipe, dataset: str | None = None) -> str:
    """Return the split of a recipe's reported number; by default "test", or what papers report on the data set."""
    if recipe.data["test_split"] is not None:
        return str(recipe.data["test_split"])
    facts = catalog().get(dataset or recipe.dataset)
    return "test" if facts is None else facts.evaluated_split


def _choose_shots(
    train: datasets.Dataset, validation: datasets.Dataset, data: DataSettings, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Select the training videos of a few-shot or base-to-novel setting, and validation videos of the same classes."""
    if data.classes == "base":
        base = base_classes(class_names(train))
        train, validation = keep_classes(train, base), keep_classes(validation, base)
    if data.shot_list is not None:
        train = select_list(train, data.shot_list)
    return (few_shot(train, data.shots, seed) if data.shots else train), validation


def _load_split(source: str | Path, split: str, **options: Any) -> datasets.Dataset | None:
    """Load a split; return None if the data has none of that name."""
    try:
        return None if split == "all" else load_videos(source, split=split, **options)
    except MissingSplitError:
        return None


def drop_unlabelled(dataset: datasets.Dataset, multi_label: str) -> datasets.Dataset:
    """Drop videos without any label if the labels of a video share the target."""
    if multi_label == "yes_no":
        return dataset
    labels = list(dataset["label"])
    if not labels or not isinstance(labels[0], list):
        return dataset
    return dataset.select([row for row, classes in enumerate(labels) if classes])


def load_attributes(recipe: Recipe, dataset: datasets.Dataset) -> dict[str, list[str]] | None:
    """Read the attributes of the videos of a part from the recipe's files; return None for a recipe without attributes.

    Those of a procedural benchmark are found by the embedded CLIP. A file that does not exist is a `FileNotFoundError`, a video without
    attributes a `ValueError`.
    """
    data = recipe.data_settings
    if data.attributes in BENCHMARKS:
        from datasets import Video

        phrases = [entity.unit for entity in BENCHMARKS[data.attributes].entities(data.attributes)]
        finder = AttributeFinder.load(EMBEDDED, phrases, data.num_attributes, device="cpu")
        videos = ((row["name"], *row_source(row)) for row in dataset.cast_column("video", Video(decode=False)))
        return {name: finder.find(source, **options) for name, source, options in videos}
    files = [file for file in (data.attributes, data.test_attributes) if file is not None]
    if not files:
        return None
    known = {name: phrases for file in files for name, phrases in read_attributes(file, data.num_attributes).items()}
    names = list(dataset["name"])
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            f"{' and '.join(files)}: no attributes of {missing[0]} ({len(missing)} of {len(names)} videos are missing). Find them "
            "first by `kinoclip attributes`, name their files with data.attributes and data.test_attributes, and leave out "
            "videos that cannot be read."
        )
    return {name: known[name] for name in names}


def encode_attributes(recipe: Recipe, dataset: datasets.Dataset, processor: Any) -> Tensor | None:
    """Tokenize one sentence of the attributes of each training video (`load_attributes`): (N, L), or None."""
    phrases = load_attributes(recipe, dataset)
    if phrases is None:
        return None
    sentences: Tensor = processor.encode_attributes(list(phrases.values()))
    return sentences.to(torch.long)
