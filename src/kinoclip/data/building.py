"""Annotations and files to a `datasets.Dataset`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoclip.text.labels import match_key

from .annotations import Annotations, Entry
from .coverage import Coverage, segment_name
from .layouts import FileTree, is_video_file

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class ClassOrder:
    """Classes by number, found by any spelling of their names.

    Args:
        names: in order.
    """

    names: Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_numbers", {match_key(name): number for number, name in enumerate(self.names)})

    def number(self, label: str, video: str) -> int:
        """Give the number of a class.

        Raises:
            ValueError: there is none of that name.
        """
        numbers: dict[str, int] = self._numbers  # type: ignore[attr-defined]
        if match_key(label) not in numbers:
            shown = ", ".join(map(repr, self.names[:3]))
            raise ValueError(
                f"The label {label!r} of {video} is none of the {len(self.names)} classes ({shown}, ...). Give the names of all "
                "classes as labels=."
            )
        return numbers[match_key(label)]


def build_dataset(
    annotations: Annotations, tree: FileTree, classes: Sequence[str], fps: float | None, coverage: Coverage
) -> datasets.Dataset:
    """Find the files of all entries and make a row of each.

    Args:
        annotations: what to look for.
        tree: where.
        classes: in order.
        fps: of frames, where videos are folders of them.
        coverage: completed with what was found, and kept with the data set.

    Raises:
        ValueError: a label is none of the classes, or one video has two.
    """
    order = ClassOrder(classes)
    rows: dict[str, dict[str, Any]] = {}
    missing: dict[str, None] = {}
    num_repeated = 0
    for entry in annotations.entries:
        source = _find(tree, entry)
        if source is None:
            missing[entry.names[0]] = None
            continue
        row = _row(tree, source, entry, order, annotations.several, fps)
        earlier = rows.setdefault(row["name"], row)
        num_repeated += earlier is not row
        if earlier["label"] != row["label"]:
            one, other = classes[earlier["label"]], classes[row["label"]]
            raise ValueError(f"{row['name']} is listed as {one!r} and as {other!r}. Keep one of them.")
    listed = len({entry.names[0] for entry in annotations.entries})
    coverage = replace(coverage, listed=listed, num_repeated=num_repeated, dropped=annotations.dropped)
    return _to_dataset(list(rows.values()), classes, annotations.several, coverage.with_missing(list(missing)))


def note_coverage(dataset: datasets.Dataset, coverage: Coverage) -> datasets.Dataset:
    """Keep a coverage with a data set: in its description, which selecting, shuffling and saving leave alone."""
    dataset.info.description = json.dumps({"coverage": coverage.to_dict()}, ensure_ascii=False)
    return dataset


def _find(tree: FileTree, entry: Entry) -> str | None:
    """Give the path or address of a video, relative to the tree where it lies in it."""
    if entry.names[0].startswith(("http://", "https://")):
        return entry.names[0]
    found = tree.find(entry.names)
    if found is None and tree.holds(entry.names[0]):  # with an unusual ending
        return entry.names[0]
    return found


def _row(
    tree: FileTree, source: str, entry: Entry, order: ClassOrder, several: bool, fps: float | None
) -> dict[str, Any]:
    numbers = [order.number(label, source) for label in entry.labels]
    is_part = entry.start is not None or entry.end is not None
    return {
        "video": {"path": source if "://" in source else str(tree.root / source), "bytes": None},
        "label": sorted(numbers) if several else numbers[0],
        "name": segment_name(source, entry.start, entry.end, entry.labels[0]) if is_part else source,
        "start": entry.start,
        "end": entry.end,
        "fps": None if is_video_file(Path(source)) else fps,
    }


def _to_dataset(
    rows: list[dict[str, Any]], classes: Sequence[str], several: bool, coverage: Coverage
) -> datasets.Dataset:
    from datasets import ClassLabel, Dataset, Features, List, Value, Video

    label = ClassLabel(names=list(classes))
    features = {"video": Video(decode=False), "label": List(label) if several else label, "name": Value("string")}
    if any(row["start"] is not None or row["end"] is not None for row in rows):
        features |= {"start": Value("float64"), "end": Value("float64")}
    if any(row["fps"] is not None for row in rows):
        features["fps"] = Value("float64")
    columns = {name: [row[name] for row in rows] for name in features}
    return note_coverage(Dataset.from_dict(columns, Features(features)), coverage)
