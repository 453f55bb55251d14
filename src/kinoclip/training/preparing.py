"""The parts of a data set that a recipe trains, selects and reports on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kinoclip.data import MissingSplitError, load_videos
from kinoclip.data.catalog import catalog
from kinoclip.data.leaks import check_leaks
from kinoclip.data.samples import class_names
from kinoclip.data.splits import base_classes, divide, few_shot, keep_classes, select_list
from kinoclip.text.attributes import read_attributes

from .recipe import Recipe
from .settings import DataSettings

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class DataParts:
    """The parts of a data set.

    Attributes:
        train: videos that are trained on.
        validation: videos that are measured after an epoch; None where there are none. They select the published epoch
            unless `evaluation.selection = "last"`.
        test: videos of the reported number; None where the data has no such part.
    """

    train: datasets.Dataset
    validation: datasets.Dataset | None
    test: datasets.Dataset | None


def prepare_data(recipe: Recipe, source: str | Path, *, dataset: str | None = None) -> DataParts:
    """Load the videos that a recipe is trained, validated and tested on.

    With `evaluation.selection = "validation"` the validation videos are never those of the test part: where the data has no
    other part, a share `data.held_out` of each training class is held out, by seed. Otherwise the training part is complete,
    and the test part is measured after each epoch where there is no validation part. Data without any splits is always divided.

    Args:
        recipe: says the splits, the fold, the number of shots, and the selection.
        source: of `load_videos`.
        dataset: name in the catalog; detected when left out.

    Raises:
        FileNotFoundError, ValueError: of `load_videos`; a class has too few videos; or a video is in two parts.
    """
    data, selection = recipe.data_settings, recipe.evaluation.get("selection")
    options: dict[str, Any] = {"dataset": dataset, "fold": data.fold}
    train = _load_split(source, data.train_split, segments=data.segments, **options)
    test_split = reported_split(recipe, dataset)
    test = _load_split(source, test_split, **options)
    own = None if data.validation_split == test_split else _load_split(source, data.validation_split, **options)
    if train is None and (test is not None or own is not None):
        raise ValueError(f"{source} has videos to measure on, and none of the split {data.train_split!r} to train on.")
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
            raise ValueError("The classes of training and test differ. Give both the same folders of classes.")
        check_leaks(train, part)
    return DataParts(*_choose_shots(train, validation, data, recipe.training.seed), test)


def load_test(recipe: Recipe, source: str | Path, *, dataset: str | None = None) -> datasets.Dataset:
    """Load the videos of a recipe's reported number.

    Raises:
        MissingSplitError: the data has splits, but not that one.
        FileNotFoundError, ValueError: of `load_videos`.
    """
    split = reported_split(recipe, dataset)
    return load_videos(source, split=None if split == "all" else split, dataset=dataset, fold=recipe.data["fold"])


def reported_split(recipe: Recipe, dataset: str | None = None) -> str:
    """Return the split of a recipe's reported number: "test", or what papers report on the data set."""
    if recipe.data["test_split"] is not None:
        return str(recipe.data["test_split"])
    facts = catalog().get(dataset or recipe.dataset)
    return "test" if facts is None else facts.evaluated_split


def _choose_shots(
    train: datasets.Dataset, validation: datasets.Dataset, data: DataSettings, seed: int
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Keep the training videos of a few-shot or base-to-novel setting, and validation videos of the same classes."""
    if data.classes == "base":
        base = base_classes(class_names(train))
        train, validation = keep_classes(train, base), keep_classes(validation, base)
    if data.shot_list is not None:
        train = select_list(train, data.shot_list)
    return (few_shot(train, data.shots, seed) if data.shots else train), validation


def _load_split(source: str | Path, split: str, **options: Any) -> datasets.Dataset | None:
    """Load a split, or return None where the data has none of that name."""
    try:
        return None if split == "all" else load_videos(source, split=split, **options)
    except MissingSplitError:
        return None


def keep_labelled(dataset: datasets.Dataset, multi_label: str) -> datasets.Dataset:
    """Drop videos without any label where the matching classes share the target."""
    if multi_label == "yes_no":
        return dataset
    labels = list(dataset["label"])
    if not labels or not isinstance(labels[0], list):
        return dataset
    return dataset.select([row for row, classes in enumerate(labels) if classes])


def read_phrases(recipe: Recipe, dataset: datasets.Dataset) -> dict[str, list[str]] | None:
    """Read the attributes of the videos of a part from the recipe's files; None for a recipe without attributes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a video has none.
    """
    data = recipe.data_settings
    files = [file for file in (data.attributes, data.test_attributes) if file is not None]
    if not files:
        return None
    known = {name: phrases for file in files for name, phrases in read_attributes(file, data.num_attributes).items()}
    names: Sequence[str] = list(dataset["name"])
    missing = [name for name in names if name not in known]
    if missing:
        raise ValueError(
            f"{' and '.join(files)}: no attributes of {missing[0]} ({len(missing)} of {len(names)} videos are missing). Find them "
            "first, and name their files with data.attributes and data.test_attributes."
        )
    return {name: known[name] for name in names}


def encode_attributes(recipe: Recipe, dataset: datasets.Dataset, processor: Any) -> Tensor | None:
    """Encode one sentence of the attributes of each training video: (N, L); None for a recipe without attributes.

    Raises:
        FileNotFoundError, ValueError: of `read_phrases`.
    """
    phrases = read_phrases(recipe, dataset)
    if phrases is None:
        return None
    sentences: Tensor = processor.encode_attributes(list(phrases.values()))
    return sentences.to(torch.long)
