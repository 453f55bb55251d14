"""What is known of the data sets that papers report: classes, official sizes, where annotations come from."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from kinoclip.text.labels import label_set

from .layouts import MissingSplitError


@dataclass(frozen=True)
class DatasetFacts:
    """One data set as its makers published it.

    Args:
        name: as `load_videos(dataset=...)` takes it.
        title: as papers write it.
        num_classes: how many.
        sizes: split to its number of videos; one number for each fold where folds differ.
        annotations: the official files.
        source: where to get them.
        files: how videos are named on disk.
        terms: what to mind before using or passing on the videos.
        labels: the packaged label set with its class names.
        folds: how many official partitions into training and test there are.
        total: videos with a label, all splits together, where that is not the sum of the sizes.
        frames_per_second: of the frames that it is published as.
        several_labels: a video can show several classes.
        evaluated_split: split that papers report on: "validation" where the labels of the test videos are not public.
        notes: what surprises.
    """

    name: str
    title: str
    num_classes: int
    sizes: Mapping[str, int | list[int]]
    annotations: str
    source: str
    files: str
    terms: str
    labels: str | None = None
    folds: int = 1
    total: int | None = None
    frames_per_second: float | None = None
    several_labels: bool = False
    evaluated_split: str = "test"
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> list[str] | None:
        """Give the names of its classes as papers write them, where this package has them."""
        return None if self.labels is None else label_set(self.labels)

    def official_size(self, split: str | None, fold: int = 1) -> int | None:
        """Give the number of videos of a split, or of all splits for None; None where it is not known.

        Raises:
            MissingSplitError: there is no such split.
            ValueError: there is no such fold.
        """
        if not 1 <= fold <= self.folds:
            raise ValueError(f"{self.title} has no fold {fold}. Choose one from 1 to {self.folds}.")
        if split is None:
            sizes = self.sizes.values()
            return self.total or (sum(size for size in sizes if isinstance(size, int)) if sizes else None)
        if self.sizes and split not in self.sizes:
            raise MissingSplitError(f"{self.title} has no split {split!r}. Choose one of {', '.join(self.sizes)}.")
        size = self.sizes.get(split)
        return size[fold - 1] if isinstance(size, list) else size

    def describe(self) -> str:
        """Say all of it in a few lines."""
        sizes = [f"{split} {_number(size)}" for split, size in self.sizes.items()]
        lines = [
            f"{self.title}: {self.num_classes} classes" + (", several in one video" if self.several_labels else ""),
            f"videos: {', '.join(sizes) or 'no exact numbers are known'}"
            + (f"; {self.total:,} labelled in all" if self.total else ""),
            f"papers report on: {self.evaluated_split}",
            f"annotations: {self.annotations}",
            f"from: {self.source}",
            f"files: {self.files}",
            f"terms: {self.terms}",
            *self.notes,
        ]
        return "\n".join(lines)


@cache
def catalog() -> Mapping[str, DatasetFacts]:
    """Give the facts of every data set by its name."""
    text = resources.files("kinoclip.data").joinpath("datasets.toml").read_text(encoding="utf-8")
    return {name: _read(name, facts) for name, facts in tomllib.loads(text).items()}


def dataset_facts(name: str) -> DatasetFacts:
    """Give the facts of one data set.

    Raises:
        ValueError: it is not in the catalog.
    """
    if name not in catalog():
        raise ValueError(
            f"There is no data set {name!r} in the catalog. Use one of {', '.join(catalog())}; videos of your own need no name."
        )
    return catalog()[name]


def _read(name: str, facts: dict[str, Any]) -> DatasetFacts:
    return DatasetFacts(**{**facts, "name": name, "notes": tuple(facts.get("notes", ()))})


def _number(size: int | list[int]) -> str:
    return f"{size:,}" if isinstance(size, int) else " / ".join(f"{fold:,}" for fold in size)
