"""The official annotation files of the data sets in the catalog, as their makers wrote them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kinoclip.text.labels import read_labels

from .annotations import Annotations, Entry, parse_json, read_text
from .catalog import DatasetFacts, catalog
from .layouts import FileTree, MissingSplitError, split_name

_SPLIT = r"(train|training|val|valid|validate|validation|test|testing)"
_FILES = {
    "kinetics400": rf"(?:.*[-_])?{_SPLIT}\.csv",
    "kinetics600": rf"(?:.*[-_])?{_SPLIT}\.csv",
    "ucf101": r"(train|test)list0([1-3])\.txt",
    "hmdb51": r"(.+)_test_split([1-3])\.txt",
    "activitynet": r"activity_net.*\.json",
    "charades": r"Charades_v1_(train|test)\.csv",
    "ssv1": rf"something-something-v1-{_SPLIT}\.csv",
    "ssv2": rf"(?:something-something-v2-)?(?:{_SPLIT}\.json|(test)-answers\.csv)",
}
# those whose file names no other data set has
_TELLING = ("ucf101", "hmdb51", "activitynet", "charades", "ssv1")


@dataclass(frozen=True)
class Wanted:
    """Which part of a data set is asked for.

    Args:
        facts: the data set.
        tree: the folder that holds its annotation files.
        split: "train", "validation", "test", or None for everything that has labels.
        fold: of UCF101 and HMDB51.
        segments: one row for each annotated interval, where there are intervals.
        names: classes in the order of the caller.
    """

    facts: DatasetFacts
    tree: FileTree
    split: str | None
    fold: int = 1
    segments: bool = False
    names: list[str] | None = None

    def files(self) -> Iterator[tuple[Path, re.Match[str]]]:
        """Give the annotation files, with the match of their names.

        Raises:
            ValueError: two of them have the same name.
        """
        seen: dict[str, str] = {}
        for path in self.tree.others:
            name = path.rpartition("/")[2]
            match = re.fullmatch(_FILES[self.facts.name], name, re.IGNORECASE)
            if match is None:
                continue
            if name in seen:
                raise ValueError(f"{self.tree.root} holds both {seen[name]} and {path}. Keep one of them.")
            seen[name] = path
            yield self.tree.root / path, match

    def includes(self, split: str) -> bool:
        """Tell whether a split, however it is spelled, is asked for."""
        return self.split in (None, split_name(split))


def recognize(tree: FileTree) -> str | None:
    """Give the data set whose annotation files lie in a folder, and None if there are none or of several."""
    found = [name for name in _TELLING if any(Wanted(catalog()[name], tree, None).files())]
    return found[0] if len(found) == 1 else None


def read_official(wanted: Wanted) -> Annotations | None:
    """Read the official annotations; None where their files are not there.

    Raises:
        MissingSplitError: the files say nothing of the split.
        ValueError: a file cannot be read.
    """
    files = list(wanted.files())
    if not files:
        return None
    annotations = _READERS[wanted.facts.name](wanted, files)
    if not annotations.entries:
        names = ", ".join(path.name for path, _ in files[:3])
        raise MissingSplitError(
            f"{names} in {wanted.tree.root}: no labels for the split {wanted.split!r} of {wanted.facts.title}. "
            f"The official files are {wanted.facts.annotations}."
        )
    return annotations


_Files = list[tuple[Path, re.Match[str]]]


def _read_kinetics(wanted: Wanted, files: _Files) -> Annotations:
    entries, labels = [], set()
    for path, match in files:
        for row in csv.DictReader(read_text(path).splitlines()):
            label = (row.get("label") or "").strip()
            try:
                start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
                name = row["youtube_id"]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}: the row {row} is none of Kinetics. The header is label,youtube_id,time_start,time_end,split."
                ) from error
            if not label:
                continue
            labels.add(label)
            if wanted.includes(match[1]):
                ids = (f"{name}_{start:06d}_{end:06d}", name)
                names = (one for stem in ids for one in (f"{match[1]}/{label}/{stem}", stem))
                entries.append(Entry(tuple(names), (label,)))
    return Annotations(tuple(entries), wanted.facts.class_names or sorted(labels))


def _read_ucf(wanted: Wanted, files: _Files) -> Annotations:
    entries = []
    for path, match in files:
        if int(match[2]) == wanted.fold and wanted.includes(match[1]):
            for line in read_text(path).splitlines():
                # the class is the folder: training lists add its number, counted from 1, and test lists do not
                video = line.strip().partition(".avi")[0]
                if video:
                    entries.append(Entry((video, video.rpartition("/")[2]), (video.partition("/")[0],)))
    return Annotations(tuple(entries), wanted.facts.class_names)


def _read_hmdb(wanted: Wanted, files: _Files) -> Annotations:
    kept = {None: "012", "train": "1", "test": "2"}.get(wanted.split, "")
    entries = []
    for path, match in files:
        if int(match[2]) != wanted.fold:
            continue
        for line in read_text(path).splitlines():
            video, _, use = (part.strip() for part in line.strip().rpartition(" "))
            if video and use in kept:
                entries.append(Entry((f"{match[1]}/{video}", video), (match[1],)))
    return Annotations(tuple(entries), wanted.facts.class_names)


def _read_activitynet(wanted: Wanted, files: _Files) -> Annotations:
    entries, dropped = [], 0
    path = files[0][0]
    database = parse_json(path, read_text(path)).get("database", {})
    for video, row in database.items():
        if not wanted.includes(row["subset"]) or (split_name(row["subset"]) == "test" and not row["annotations"]):
            continue
        names = (video, f"v_{video}")
        intervals = row["annotations"] if wanted.segments else row["annotations"][:1]
        for one in intervals:
            start, end = one["segment"] if wanted.segments else (None, None)
            if start is None or start < end:
                entries.append(Entry(names, (one["label"],), start, end))
            else:
                dropped += 1
        dropped += not intervals
    return Annotations(tuple(entries), wanted.facts.class_names, dropped=dropped)


def _read_charades(wanted: Wanted, files: _Files) -> Annotations:
    classes = wanted.names or _charades_classes(wanted)
    entries, dropped = [], 0
    for path, match in files:
        if not wanted.includes(match[1]):
            continue
        for row in csv.DictReader(read_text(path).splitlines(keepends=True)):
            actions = [action.split() for action in (row["actions"] or "").split(";") if action.strip()]
            intervals = [(classes[int(code[1:])], float(start), float(end)) for code, start, end in actions]
            if not wanted.segments:
                entries.append(Entry((row["id"],), tuple(dict.fromkeys(label for label, _, _ in intervals))))
                continue
            length = float(row["length"] or "inf")
            usable = [one for one in intervals if one[1] < min(one[2], length)]
            entries += [Entry((row["id"],), (label,), start, end) for label, start, end in usable]
            dropped += len(intervals) - len(usable)
    return Annotations(tuple(entries), classes, several=not wanted.segments, dropped=dropped)


def _charades_classes(wanted: Wanted) -> list[str]:
    found = [path for path in wanted.tree.others if path.rpartition("/")[2] == "Charades_v1_classes.txt"]
    if not found:
        raise ValueError(
            f"{wanted.tree.root}: Charades_v1_classes.txt is not there, so the actions have no names. It comes with the "
            f"annotations: {wanted.facts.source}."
        )
    return read_labels(wanted.tree.root / found[0])


def _read_something(wanted: Wanted, files: _Files) -> Annotations:
    entries = []
    for path, match in files:
        if not wanted.includes(next(split for split in match.groups() if split)):
            continue
        text = read_text(path)
        if path.suffix == ".json":
            rows = [(str(row["id"]), row.get("template", "")) for row in parse_json(path, text)]
        else:
            rows = [(video, label) for video, _, label in (line.partition(";") for line in text.splitlines())]
        # v2 writes the objects of a template as [something]
        labelled = ((video, re.sub(r"[\[\]]", "", label).strip()) for video, label in rows)
        entries += [Entry((video.strip(),), (label,)) for video, label in labelled if label]
    return Annotations(tuple(entries), wanted.facts.class_names)


_READERS: dict[str, Callable[[Wanted, _Files], Annotations]] = {
    "kinetics400": _read_kinetics,
    "kinetics600": _read_kinetics,
    "ucf101": _read_ucf,
    "hmdb51": _read_hmdb,
    "activitynet": _read_activitynet,
    "charades": _read_charades,
    "ssv1": _read_something,
    "ssv2": _read_something,
}
