"""Fair parts of a data set: few shots, base and novel classes, training and validation; the same for everyone with one seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kinoclip.text.labels import match_key

from .coverage import video_of
from .samples import class_names

if TYPE_CHECKING:
    import datasets


def few_shot(dataset: datasets.Dataset, shots: int, seed: int = 0) -> datasets.Dataset:
    """Draw K videos of each class.

    The draw depends on the seed and the names of a class's own videos alone, not on their order. Keep it with `write_list`.

    Raises:
        ValueError: a class has fewer videos.
    """
    if shots < 1:
        raise ValueError(f"shots is {shots}. Draw at least one video of each class.")
    names, groups = class_names(dataset), _by_class(dataset)
    small = [f"{names[number]} ({len(rows)})" for number, rows in enumerate(groups) if len(rows) < shots]
    if small:
        more = f" and {len(small) - 5} more" if len(small) > 5 else ""
        raise ValueError(
            f"{shots} videos of each class are wanted, but there are fewer of {', '.join(small[:5])}{more}."
        )
    return dataset.select([row for number, rows in enumerate(groups) for row in _draw(rows, shots, seed, number)])


def divide(
    dataset: datasets.Dataset, validation: float = 0.1, seed: int = 0
) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Divide a data set into training and validation, the same share of each class; a class with two videos is in both.

    Args:
        dataset: one label for each video.
        validation: share of each class, between 0 and 1.
        seed: of the draw.

    Raises:
        ValueError: another share, or a class with one video.
    """
    if not 0 < validation < 1:
        raise ValueError(f"validation is {validation}. Give the share of it, between 0 and 1.")
    names, groups = class_names(dataset), _by_class(dataset)
    kept: list[int] = []
    for number, rows in enumerate(groups):
        if len(rows) == 1:
            raise ValueError(
                f"The class {names[number]!r} has one video, which cannot be in both parts. Leave it out."
            )
        count = min(max(round(validation * len(rows)), 1), len(rows) - 1) if rows else 0
        kept += _draw(rows, count, seed, number)
    others = set(range(len(dataset))) - set(kept)
    return dataset.select(sorted(others)), dataset.select(sorted(kept))


def keep_classes(dataset: datasets.Dataset, classes: Sequence[str]) -> datasets.Dataset:
    """Keep the videos of some classes, numbered in the order given; such as one of Kinetics-600's lists of 160 new ones.

    Raises:
        ValueError: a class is not in the data set.
    """
    from datasets import ClassLabel

    numbers = {match_key(name): number for number, name in enumerate(class_names(dataset))}
    unknown = [name for name in classes if match_key(name) not in numbers]
    if unknown:
        raise ValueError(
            f"The data set has no class {', '.join(map(repr, unknown[:5]))}. It has {len(numbers)} others."
        )
    new = {numbers[match_key(name)]: number for number, name in enumerate(classes)}
    rows = [row for row, label in enumerate(_labels(dataset)) if label in new]
    kept = dataset.select(rows)
    labels = [new[label] for label in kept["label"][:]]
    return kept.remove_columns("label").add_column("label", labels, feature=ClassLabel(names=list(classes)))


def base_and_novel(
    train: datasets.Dataset, test: datasets.Dataset, shots: int = 16, seed: int = 0
) -> tuple[datasets.Dataset, datasets.Dataset, datasets.Dataset]:
    """Divide the classes into a first and a second half: few shots of the base ones to train, both to test.

    The halves and shots that ViFi-CLIP published are lists of their own: load them with `load_videos`.

    Returns:
        Training videos of the base classes, their test videos, test videos of the novel classes.

    Raises:
        ValueError: the classes differ, or one has fewer videos than `shots`.
    """
    names = class_names(train)
    if class_names(test) != names:
        raise ValueError("Training and test have different classes. Load both with the same labels=.")
    base = base_classes(names)
    novel = names[len(base) :]
    return few_shot(keep_classes(train, base), shots, seed), keep_classes(test, base), keep_classes(test, novel)


def base_classes(names: Sequence[str]) -> list[str]:
    """Return the first half of the classes, rounded up; the others are the novel ones."""
    return list(names[: (len(names) + 1) // 2])


def write_list(dataset: datasets.Dataset, path: str | Path) -> Path:
    """Write lines "NAME NUMBER", which `load_videos` and `select_list` read; the file appears whole or not at all.

    Raises:
        ValueError: the data set has parts of videos, or several labels for one, which a list cannot say.
    """
    path = Path(path)
    labels, names = _labels(dataset), list(dataset["name"][:])
    if any(video_of(name) != name for name in names):
        raise ValueError("The data set has parts of videos, which a list cannot say. Save it with save_to_disk.")
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(
        "".join(f"{name} {label}\n" for name, label in zip(names, labels, strict=True)), encoding="utf-8"
    )
    return partial.replace(path)


def select_list(dataset: datasets.Dataset, path: str | Path) -> datasets.Dataset:
    """Keep the videos of a list that `write_list` wrote, in its order.

    Raises:
        ValueError: one of them is not in the data set, or has another label there.
    """
    rows = {name: row for row, name in enumerate(dataset["name"][:])}
    labels = _labels(dataset)
    kept = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        name, _, label = line.rpartition(" ")
        if name not in rows or str(labels[rows[name]]) != label:
            why = f"has the label {labels[rows[name]]} in the data set" if name in rows else "is not in the data set"
            raise ValueError(f"{path}, line {number}: {line!r} {why}. The list belongs to other videos or labels.")
        kept.append(rows[name])
    return dataset.select(kept)


def _labels(dataset: datasets.Dataset) -> list[int]:
    labels = list(dataset["label"][:])
    if labels and isinstance(labels[0], list):
        raise ValueError("Videos with several labels cannot be divided by class. Choose them by hand: dataset.select.")
    return labels


def _by_class(dataset: datasets.Dataset) -> list[list[int]]:
    """Give the rows of each class, by name."""
    names = list(dataset["name"][:]) if "name" in dataset.column_names else [f"{i:08d}" for i in range(len(dataset))]
    groups: list[list[int]] = [[] for _ in class_names(dataset)]
    for row, label in sorted(enumerate(_labels(dataset)), key=lambda pair: names[pair[0]]):
        groups[label].append(row)
    return groups


def _draw(rows: Sequence[int], count: int, seed: int, number: int) -> list[int]:
    """Draw from one class, with a generator of its own."""
    order = np.random.default_rng((seed, number)).permutation(len(rows))
    return [rows[place] for place in order[:count]]
