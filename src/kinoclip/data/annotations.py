"""Read annotations of your own: tables (CSV, JSON lines) and list files."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from kinoclip.data.files import split_name
from kinoclip.text.labels import match_key
from kinoclip.text.parsing import parse_json, read_text, table_errors

VIDEO_COLUMNS = ("video", "path", "file_name", "video_path", "filename", "file")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
LABEL_COLUMNS = ("label", "class", "action", "category", "labels")


@dataclass(frozen=True)
class Entry:
    """One annotated video, or one part of a video."""

    names: tuple[str, ...]  # possible names of its file, best first; see `FileTree.find`
    labels: tuple[str, ...]  # names of its classes
    start: float | None = None  # seconds; None is the beginning of the video
    end: float | None = None  # seconds; None is its end


@dataclass(frozen=True)
class Annotations:
    """The content of annotation files."""

    entries: tuple[Entry, ...]
    classes: list[str] | None = None  # names in class order, of all splits; None if the files do not define it
    multi_label: bool = False
    splits: frozenset[str] = frozenset()  # of the rows of a table that has a column for it
    dropped: int = 0  # rows that cannot be used, such as intervals that end before they begin


def class_order(labels: Iterable[str]) -> list[str]:
    """Return the distinct labels in alphabetical order; spellings of one label are merged, with spaces.

    >>> class_order(["wave", "brush_hair", "brush hair"])
    ['brush hair', 'wave']
    """
    names: dict[str, str] = {}
    for label in sorted(labels):
        names.setdefault(match_key(label), label.replace("_", " ").strip())
    return sorted(names.values())


def read_annotations(path: Path, names: Sequence[str] | None, split: str | None) -> Annotations:
    """Read a table (.csv, .tsv, .jsonl, .json) or a list file (anything else).

    A list has lines "PATH LABEL" or "PATH FRAMES LABEL"; a path may contain spaces, and the label is a number, the index of one of
    the `names`. A table is a CSV with a header, or a JSON object on each line, with the columns `video` (or `path`, `file_name`,
    `video_path`, ...) and `label` (or `class`, `action`, ...; several labels are a list, or `labels` separated by semicolons), and
    optionally `start`, `end` in seconds and `split` or `subset`; only the rows of the given split are read.

    Raises:
        ValueError: a column is missing or a line cannot be read; the message names it.
    """
    to_name = _label_names(path, names)
    if path.suffix.lower() in TABLE_SUFFIXES:
        return _read_table(path, names, split, to_name)
    return Annotations(tuple(_read_list(path, to_name)), list(names) if names else None)


def _read_list(path: Path, to_name: Callable[[Any, int, str], str]) -> list[Entry]:
    rows = []
    for line_number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            video, space, label = line.strip().rpartition(" ")
            if not space or not label.isdecimal():
                raise ValueError(f"{path}, line {line_number}: {line!r} does not end in a number. Write 'PATH LABEL'.")
            rows.append((line_number, video.strip(), int(label)))
    if all(" " in video and video.rpartition(" ")[2].isdecimal() for _, video, _ in rows):  # numbers of frames
        rows = [(line_number, video.rpartition(" ")[0].strip(), label) for line_number, video, label in rows]
    return [Entry((video,), (to_name(label, line_number, video),)) for line_number, video, label in rows]


def _read_table(
    path: Path, names: Sequence[str] | None, split: str | None, to_name: Callable[[Any, int, str], str]
) -> Annotations:
    with table_errors(path):
        rows = list(_rows(path))
    columns = dict.fromkeys(column for _, row in rows for column in row)
    video, label = _column(path, columns, VIDEO_COLUMNS), _column(path, columns, LABEL_COLUMNS)
    split_column = next((column for column in ("split", "subset") if column in columns), None)
    entries, multi_label = [], label == "labels"
    all_labels: set[str] = set()
    splits: set[str] = set()
    for number, row in rows:
        value = row.get(label)
        multi_label |= isinstance(value, list)
        values = value if isinstance(value, list) else str(value or "").split(";") if label == "labels" else [value]
        values = [one for one in values if one not in (None, "")]
        if not row.get(video) or (not values and not multi_label):
            raise ValueError(f"{path}, line {number}: {video} or {label} is empty. Fill it in, or remove the line.")
        labels = tuple(to_name(one, number, str(row[video])) for one in values)
        all_labels.update(labels)
        own_split = split_name(str(row.get(split_column or "")))
        splits.add(own_split or "other")
        if not (split and split_column) or own_split == split:
            start, end = (_seconds(path, number, row.get(column)) for column in ("start", "end"))
            entries.append(Entry((str(row[video]),), labels, start, end))
    classes = list(names) if names else class_order(all_labels)
    return Annotations(tuple(entries), classes, multi_label, frozenset(splits if split_column else ()))


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    text, suffix = read_text(path), path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        delimiter = "\t" if suffix == ".tsv" else ","
        reader = csv.DictReader(text.splitlines(keepends=True), delimiter=delimiter, skipinitialspace=True)
        yield from ((reader.line_num, row) for row in reader)
    elif suffix == ".json" and text.lstrip().startswith("["):
        yield from enumerate(parse_json(path, text), 1)
    else:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                row = parse_json(path, line, line=number)
                if not isinstance(row, dict):
                    raise ValueError(f'{path}, line {number}: must be {{"video": ..., "label": ...}}, got {line!r}.')
                yield number, row


def _column(path: Path, columns: Mapping[str, Any], known: Sequence[str]) -> str:
    for column in known:
        if column in columns:
            return column
    given = ", ".join(map(str, columns)) or "none"
    raise ValueError(f"{path}: the column {known[0]!r} is missing; there are {given}. Rename yours to {known[0]!r}.")


def _label_names(path: Path, names: Sequence[str] | None) -> Callable[[Any, int, str], str]:
    """Return a function that names a label, number or text; a number must agree with the class folder of the path."""
    keys = {match_key(name): number for number, name in enumerate(names or ())}

    def to_name(label: Any, line: int, video: str) -> str:
        text = str(label).strip()
        if not text.isdecimal():
            return text
        if names is None:
            raise ValueError(
                f"{path}, line {line}: the label is the number {text}. Pass the names of the classes as labels=."
            )
        if int(text) >= len(names):
            raise ValueError(
                f"{path}, line {line}: {len(names)} names need labels of 0 to {len(names) - 1}, got {text}."
            )
        folder = video.split("/")[-2] if "/" in video else ""
        if keys.get(match_key(folder), int(text)) != int(text):
            raise ValueError(
                f"{path}, line {line}: the label {text} of {video} is {names[int(text)]!r} in the names that were given. The list "
                "was written for another order of the classes: pass its own as labels=."
            )
        return names[int(text)]

    return to_name


def _seconds(path: Path, line: int, value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}, line {line}: start and end must be seconds, got {value!r}.") from error
    return None if isnan(seconds) else seconds
