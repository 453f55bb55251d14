"""Reproducible parts of a data set: few shots, base and novel classes, training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kinoclip.data.coverage import video_of
from kinoclip.data.samples import class_names
from kinoclip.storage import nothing, write_text
from kinoclip.text.labels import match_key

if TYPE_CHECKING:
    import datasets


def few_shot(dataset: datasets.Dataset, shots: int, seed: int = 0) -> datasets.Dataset:
    """Sample K videos of each class; a `ValueError` names classes that have fewer.

    The result depends only on the seed and the names of a class's own videos, not on their order. Save it with `write_list`.
    """
    if shots < 1:
        raise ValueError(f"shots must be at least 1, got {shots}.")
    names, groups = class_names(dataset), _by_class(dataset)
    small = [f"{names[number]} ({len(rows)})" for number, rows in enumerate(groups) if len(rows) < shots]
    if small:
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        raise ValueError(f"Each class must have {shots} videos; these have fewer: {', '.join(small[:5])}{more}.")
    return dataset.select([row for number, rows in enumerate(groups) for row in _draw(rows, shots, seed, number)])


def divide(
    dataset: datasets.Dataset, validation: float = 0.1, seed: int = 0
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Divide a data set into training and validation, with the share `validation` (0 to 1) of each class, at least one video."""
    if not 0 < validation < 1:
        raise ValueError(f"validation must be a share between 0 and 1, got {validation}.")
    names, groups = class_names(dataset), _by_class(dataset)
    kept: list[int] = []
    for number, rows in enumerate(groups):
        if len(rows) == 1:
            raise ValueError(
                f"The class {names[number]!r} has one video, which cannot be in both training and validation. Add another one, or "
                "remove the class."
            )
        count = min(max(round(validation * len(rows)), 1), len(rows) - 1) if rows else 0
        kept += _draw(rows, count, seed, number)
    others = set(range(len(dataset))) - set(kept)
    return dataset.select(sorted(others)), dataset.select(sorted(kept))


def keep_classes(dataset: datasets.Dataset, classes: Sequence[str]) -> datasets.Dataset:
    """Select the videos of some classes, numbered in the given order; for example one of Kinetics-600's lists of 160 new classes."""
    from datasets import ClassLabel

    numbers = {match_key(name): number for number, name in enumerate(class_names(dataset))}
    unknown = [name for name in classes if match_key(name) not in numbers]
    if unknown:
        raise ValueError(f"{', '.join(map(repr, unknown[:5]))} are not among the data set's {len(numbers)} classes.")
    new = {numbers[match_key(name)]: number for number, name in enumerate(classes)}
    kept = dataset.select([row for row, label in enumerate(_labels(dataset)) if label in new])
    labels = [new[label] for label in kept["label"][:]]
    return kept.remove_columns("label").add_column("label", labels, feature=ClassLabel(names=list(classes)))


def base_classes(names: Sequence[str]) -> list[str]:
    """Return the first half of the classes, rounded up; the others are the novel ones."""
    return list(names[: (len(names) + 1) // 2])


def write_list(dataset: datasets.Dataset, path: str | Path) -> Path:
    """Write lines "NAME NUMBER", which `load_videos` and `select_list` read, atomically."""
    labels, names = _labels(dataset), list(dataset["name"][:])
    if any(video_of(name) != name for name in names):
        raise ValueError("A list cannot represent parts of videos. Save the data set with save_to_disk.")
    return write_text(
        path, "".join(f"{name} {label}\n" for name, label in zip(names, labels, strict=True)), owns=nothing
    )


def select_list(dataset: datasets.Dataset, path: str | Path) -> datasets.Dataset:
    """Select the videos of a list of `write_list`, in its order."""
    rows = {name: row for row, name in enumerate(dataset["name"][:])}
    labels = _labels(dataset)
    kept = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        name, _, label = line.rpartition(" ")
        if name not in rows or str(labels[rows[name]]) != label:
            problem = (
                f"has the label {labels[rows[name]]} in the data set" if name in rows else "is not in the data set"
            )
            raise ValueError(f"{path}, line {number}: {line!r} {problem}. The list belongs to other videos or labels.")
        kept.append(rows[name])
    return dataset.select(kept)


def _labels(dataset: datasets.Dataset) -> list[int]:
    labels = list(dataset["label"][:])
    if labels and isinstance(labels[0], list):
        raise ValueError("Videos with several labels cannot be divided by class. Use dataset.select.")
    return labels


def _by_class(dataset: datasets.Dataset) -> list[list[int]]:
    """Return the rows of each class, sorted by name."""
    names = list(dataset["name"][:]) if "name" in dataset.column_names else [f"{i:08d}" for i in range(len(dataset))]
    groups: list[list[int]] = [[] for _ in class_names(dataset)]
    for row, label in sorted(enumerate(_labels(dataset)), key=lambda pair: names[pair[0]]):
        groups[label].append(row)
    return groups


def _draw(rows: Sequence[int], count: int, seed: int, class_id: int) -> list[int]:
    """Sample rows of one class, with a generator of its own."""
    order = np.random.default_rng((seed, class_id)).permutation(len(rows))
    return [rows[index] for index in order[:count]]
