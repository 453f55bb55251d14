"""The data sets that papers report: their facts, and readers of their official annotation files."""

import csv
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from kinoclip.data.annotations import Annotations, Entry
from kinoclip.data.files import FileTree, MissingSplitError, split_name
from kinoclip.text.labels import label_set, read_labels
from kinoclip.text.parsing import parse_json, read_text


@dataclass(frozen=True)
class DatasetFacts:
    """One data set as its authors published it."""

    name: str  # for `load_videos(dataset=...)`
    title: str  # as papers write it
    num_classes: int
    sizes: Mapping[str, int | list[int]]  # videos of each split; one number per fold where folds differ
    annotations: str  # the official files
    source: str  # where to get them
    files: str  # how videos are named on disk
    terms: str  # to consider before using or redistributing the videos
    labels: str | None = None  # the packaged label set
    folds: int = 1  # official partitions into training and test
    total: int | None = None  # labelled videos in all splits, where it is not the sum of the sizes
    frames_per_second: float | None = None  # of the frames that it is published as
    several_labels: bool = False  # a video can show several classes
    evaluated_split: str = (
        "test"  # that papers report; "validation" where the labels of the test videos are not public
    )
    notes: tuple[str, ...] = ()  # what surprises

    @property
    def class_names(self) -> list[str] | None:
        """Names of the classes as papers write them, where this package has them."""
        return None if self.labels is None else label_set(self.labels)

    def official_size(self, split: str | None, fold: int = 1) -> int | None:
        """Return the number of videos of a split, or of all splits for None; None if it is not known."""
        if not 1 <= fold <= self.folds:
            raise ValueError(f"The fold of {self.title} must be 1 to {self.folds}, got {fold}.")
        if split is None:
            sizes = self.sizes.values()
            return self.total or (sum(size for size in sizes if isinstance(size, int)) if sizes else None)
        if self.sizes and split not in self.sizes:
            raise MissingSplitError(f"{self.title} has the splits {', '.join(self.sizes)}, not {split!r}.")
        size = self.sizes.get(split)
        return size[fold - 1] if isinstance(size, list) else size


@cache
def catalog() -> Mapping[str, DatasetFacts]:
    """Return the facts of every data set by its name."""
    text = resources.files("kinoclip.data").joinpath("datasets.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text).items()
    return {name: DatasetFacts(name, **{**facts, "notes": tuple(facts.get("notes", ()))}) for name, facts in tables}


def dataset_facts(name: str) -> DatasetFacts:
    """Return the facts of one data set."""
    if name not in catalog():
        raise ValueError(f"dataset must be one of {', '.join(catalog())}, or None for your own videos; got {name!r}.")
    return catalog()[name]


@dataclass(frozen=True)
class AnnotationQuery:
    """A part of a data set of the catalog."""

    facts: DatasetFacts
    tree: FileTree  # of the folder with the annotation files
    split: str | None  # None is everything that has labels
    fold: int = 1  # of UCF101 and HMDB51
    segments: bool = False  # one row for each annotated interval, where there are intervals
    names: list[str] | None = None  # classes in the order of the caller

    def files(self) -> Iterator[tuple[Path, re.Match[str]]]:
        """Yield the annotation files, with the match of their names."""
        seen: dict[str, str] = {}
        for path in self.tree.others:
            name = path.rpartition("/")[2]
            if match := re.fullmatch(_FORMATS[self.facts.name][0], name, re.IGNORECASE):
                if name in seen:
                    raise ValueError(f"{self.tree.root} contains both {seen[name]} and {path}. Keep one of them.")
                seen[name] = path
                yield self.tree.root / path, match

    def includes(self, split: str) -> bool:
        """Check whether a split, in any spelling, is requested."""
        return self.split in (None, split_name(split))


def recognize(tree: FileTree) -> str | None:
    """Return the data set whose annotation files are in a folder; None if there are none or of several data sets."""
    distinctive = ("ucf101", "hmdb51", "activitynet", "charades", "ssv1")  # other data sets share file names
    found = [name for name in distinctive if any(AnnotationQuery(catalog()[name], tree, None).files())]
    return found[0] if len(found) == 1 else None


def read_official(query: AnnotationQuery) -> Annotations:
    """Read official annotations; a `ValueError` is raised if files are missing or do not label the split."""
    files, facts = list(query.files()), query.facts
    if not files:
        raise ValueError(f"{query.tree.root}: {facts.annotations} are missing. Get them from {facts.source}.")
    annotations = _FORMATS[facts.name][1](query, files)
    if not annotations.entries:
        raise MissingSplitError(
            f"{', '.join(path.name for path, _ in files[:3])} in {query.tree.root}: no labels for the split {query.split!r} of "
            f"{facts.title}. The official files are {facts.annotations}."
        )
    return annotations


_Files = list[tuple[Path, re.Match[str]]]


def _read_kinetics(query: AnnotationQuery, files: _Files) -> Annotations:
    entries, labels = [], set()
    for path, match in files:
        for row in csv.DictReader(read_text(path).splitlines()):
            label = (row.get("label") or "").strip()
            try:
                start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
                name = row["youtube_id"]
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}: not a row of Kinetics: {row}. The header is label,youtube_id,time_start,time_end,split."
                ) from error
            if not label:
                continue
            labels.add(label)
            if query.includes(match[1]):
                stems = (f"{name}_{start:06d}_{end:06d}", name)
                names = (one for stem in stems for one in (f"{match[1]}/{label}/{stem}", stem))
                entries.append(Entry(tuple(names), (label,)))
    return Annotations(tuple(entries), query.facts.class_names or sorted(labels))


def _read_ucf(query: AnnotationQuery, files: _Files) -> Annotations:
    entries = []
    for path, match in files:
        if int(match[2]) == query.fold and query.includes(match[1]):
            for line in read_text(path).splitlines():
                # the class is the folder: training lists add its number, counted from 1, and test lists do not
                if video := line.strip().partition(".avi")[0]:
                    entries.append(Entry((video, video.rpartition("/")[2]), (video.partition("/")[0],)))
    return Annotations(tuple(entries), query.facts.class_names)


def _read_hmdb(query: AnnotationQuery, files: _Files) -> Annotations:
    kept = {None: "012", "train": "1", "test": "2"}.get(query.split, "")
    entries = []
    for path, match in files:
        for line in read_text(path).splitlines() if int(match[2]) == query.fold else ():
            video, _, use = (part.strip() for part in line.strip().rpartition(" "))
            if video and use in kept:
                entries.append(Entry((f"{match[1]}/{video}", video), (match[1],)))
    return Annotations(tuple(entries), query.facts.class_names)


def _read_activitynet(query: AnnotationQuery, files: _Files) -> Annotations:
    entries, dropped = [], 0
    path = files[0][0]
    for video, row in parse_json(path, read_text(path)).get("database", {}).items():
        if not query.includes(row["subset"]) or (split_name(row["subset"]) == "test" and not row["annotations"]):
            continue
        intervals = row["annotations"] if query.segments else row["annotations"][:1]
        for one in intervals:
            start, end = one["segment"] if query.segments else (None, None)
            if start is None or start < end:
                entries.append(Entry((video, f"v_{video}"), (one["label"],), start, end))
            else:
                dropped += 1
        dropped += not intervals
    return Annotations(tuple(entries), query.facts.class_names, dropped=dropped)


def _read_charades(query: AnnotationQuery, files: _Files) -> Annotations:
    classes = query.names or _charades_classes(query)
    entries, dropped = [], 0
    for path, match in files:
        if not query.includes(match[1]):
            continue
        for row in csv.DictReader(read_text(path).splitlines(keepends=True)):
            actions = [action.split() for action in (row["actions"] or "").split(";") if action.strip()]
            intervals = [(classes[int(code[1:])], float(start), float(end)) for code, start, end in actions]
            if not query.segments:
                entries.append(Entry((row["id"],), tuple(dict.fromkeys(label for label, _, _ in intervals))))
                continue
            length = float(row["length"] or "inf")
            usable = [one for one in intervals if one[1] < min(one[2], length)]
            entries += [Entry((row["id"],), (label,), start, end) for label, start, end in usable]
            dropped += len(intervals) - len(usable)
    return Annotations(tuple(entries), classes, multi_label=not query.segments, dropped=dropped)


def _charades_classes(query: AnnotationQuery) -> list[str]:
    for path in query.tree.others:
        if path.rpartition("/")[2] == "Charades_v1_classes.txt":
            return read_labels(query.tree.root / path)
    raise ValueError(
        f"{query.tree.root}: Charades_v1_classes.txt with the names of the classes is missing. It is part of the annotations: "
        f"{query.facts.source}."
    )


def _read_something(query: AnnotationQuery, files: _Files) -> Annotations:
    entries = []
    for path, match in files:
        if not query.includes(next(split for split in match.groups() if split)):
            continue
        text = read_text(path)
        if path.suffix == ".json":
            rows = [(str(row["id"]), row.get("template", "")) for row in parse_json(path, text)]
        else:
            rows = [(video, label) for video, _, label in (line.partition(";") for line in text.splitlines())]
        # v2 writes the objects of a template as [something]
        labelled = ((video.strip(), re.sub(r"[\[\]]", "", label).strip()) for video, label in rows)
        entries += [Entry((video,), (label,)) for video, label in labelled if label]
    return Annotations(tuple(entries), query.facts.class_names)


_SPLIT = r"(train|training|val|valid|validate|validation|test|testing)"
# the names of the files, with the split, fold or class in groups, and their reader
_FORMATS: dict[str, tuple[str, Callable[[AnnotationQuery, _Files], Annotations]]] = {
    "kinetics400": (rf"(?:.*[-_])?{_SPLIT}\.csv", _read_kinetics),
    "kinetics600": (rf"(?:.*[-_])?{_SPLIT}\.csv", _read_kinetics),
    "ucf101": (r"(train|test)list0([1-3])\.txt", _read_ucf),
    "hmdb51": (r"(.+)_test_split([1-3])\.txt", _read_hmdb),
    "activitynet": (r"activity_net.*\.json", _read_activitynet),
    "charades": (r"Charades_v1_(train|test)\.csv", _read_charades),
    "ssv1": (rf"something-something-v1-{_SPLIT}\.csv", _read_something),
    "ssv2": (rf"(?:something-something-v2-)?(?:{_SPLIT}\.json|(test)-answers\.csv)", _read_something),
}
