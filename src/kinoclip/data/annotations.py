"""Annotations of one's own: tables (CSV, JSON lines) and list files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

from kinoclip.text.labels import match_key
from kinoclip.text.parsing import load_json, naming_table

from .layouts import split_name

VIDEO_COLUMNS = ("video", "path", "file_name", "video_path", "filename", "file")
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json")
LABEL_COLUMNS = ("label", "class", "action", "category", "labels")


@dataclass(frozen=True)
class Entry:
    """One annotated video, or one part of a video.

    Args:
        names: what its file may be called, best first; see `FileTree.find`.
        labels: names of its classes.
        start: second it begins at; None for the video's beginning.
        end: second it ends at; None for the video's end.
    """

    names: tuple[str, ...]
    labels: tuple[str, ...]
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Annotations:
    """What annotation files say.

    Args:
        entries: the videos of a split.
        classes: names in class order, of all splits; None where no file says.
        several: videos have several labels.
        splits: those that a table has rows of, where it says.
        dropped: rows that cannot be used, such as intervals that end before they begin.
    """

    entries: tuple[Entry, ...]
    classes: list[str] | None = None
    several: bool = False
    splits: frozenset[str] = frozenset()
    dropped: int = 0


def class_order(labels: Iterable[str]) -> list[str]:
    """Put the different labels in the order of the alphabet; spellings of one label are one, with spaces.

    >>> class_order(["wave", "brush_hair", "brush hair"])
    ['brush hair', 'wave']
    """
    names: dict[str, str] = {}
    for label in sorted(labels):
        names.setdefault(match_key(label), label.replace("_", " ").strip())
    return sorted(names.values())


def read_annotations(path: Path, names: Sequence[str] | None, split: str | None) -> Annotations:
    """Read a table (.csv, .tsv, .jsonl, .json) or a list file (anything else).

    Args:
        path: the file.
        names: of the classes in their order, for labels that are numbers.
        split: keep the rows of this split alone, where the table has a column for it.

    Raises:
        ValueError: a line cannot be read; the message says which.
    """
    if path.suffix.lower() in TABLE_SUFFIXES:
        return read_table(path, names, split)
    return read_list(path, names)


def read_list(path: Path, names: Sequence[str] | None) -> Annotations:
    """Read lines "PATH LABEL" or "PATH FRAMES LABEL"; a path may hold spaces, and the label is a number.

    Raises:
        ValueError: a line of another form, or a number without a name.
    """
    rows = []
    for line_number, line in enumerate(read_text(path).splitlines(), 1):
        if line.strip():
            video, space, label = line.strip().rpartition(" ")
            if not space or not label.isdecimal():
                raise ValueError(f"{path}, line {line_number}: {line!r} does not end in a number. Write 'PATH LABEL'.")
            rows.append((line_number, video.strip(), int(label)))
    has_counts = all(" " in video and video.rpartition(" ")[2].isdecimal() for _, video, _ in rows)
    if has_counts:
        rows = [(line_number, video.rpartition(" ")[0].strip(), label) for line_number, video, label in rows]
    to_name = _names_by_number(path, names)
    entries = [Entry((video,), (to_name(label, line_number, video),)) for line_number, video, label in rows]
    return Annotations(tuple(entries), list(names) if names else None)


def read_table(path: Path, names: Sequence[str] | None, split: str | None) -> Annotations:
    """Read a CSV with a header, or a JSON object on each line, with a video and a label in each.

    Known columns: `video` (or `path`, `file_name`, `video_path`, ...), `label` (or `class`, `action`, ...; a list, or `labels`
    with semicolons between, for several), `start`, `end` in seconds, `split` or `subset`.

    Raises:
        ValueError: a column is missing, or a row cannot be read.
    """
    with naming_table(path):
        rows = list(_rows(path))
    known = {column: None for _, row in rows for column in row}
    video = _column(path, known, VIDEO_COLUMNS, "video")
    label = _column(path, known, LABEL_COLUMNS, "label")
    split_column = next((column for column in ("split", "subset") if column in known), None)
    to_name = _names_by_number(path, names)
    entries, several = [], label == "labels"
    all_labels: set[str] = set()
    splits: set[str] = set()
    for number, row in rows:
        value = row.get(label)
        several |= isinstance(value, list)
        values = value if isinstance(value, list) else str(value or "").split(";") if label == "labels" else [value]
        values = [one for one in values if one not in (None, "")]
        if not row.get(video) or (not values and not several):
            raise ValueError(
                f"{path}, line {number}: the {video} or the {label} is empty. Fill it in, or remove the line."
            )
        labels = tuple(to_name(one, number, str(row[video])) for one in values)
        all_labels.update(labels)
        own_split = split_name(str(row.get(split_column or "")))
        splits.add(own_split or "other")
        if split and split_column and own_split != split:
            continue
        entries.append(
            Entry((str(row[video]),), labels, *(_seconds(path, number, row.get(c)) for c in ("start", "end")))
        )
    return Annotations(
        tuple(entries),
        list(names) if names else class_order(all_labels),
        several,
        frozenset(splits if split_column else ()),
    )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() in (".csv", ".tsv"):
        lines = read_text(path).splitlines(keepends=True)
        reader = csv.DictReader(lines, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", skipinitialspace=True)
        for row in reader:
            yield reader.line_num, row
        return
    text = read_text(path)
    if path.suffix.lower() == ".json" and text.lstrip().startswith("["):
        yield from enumerate(parse_json(path, text), 1)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            row = parse_json(path, line, number)
            if not isinstance(row, dict):
                raise ValueError(
                    f'{path}, line {number}: {line!r} is no object. Write {{"video": ..., "label": ...}}.'
                )
            yield number, row


def parse_json(path: Path, text: str, line: int | None = None) -> Any:
    """Read JSON text of a file.

    Raises:
        ValueError: it is none.
    """
    try:
        return load_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {line or error.lineno}: not valid JSON ({error.msg}).") from error


def read_text(path: Path) -> str:
    """Read a file of UTF-8.

    Raises:
        ValueError: it is something else.
    """
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: the file is no UTF-8 text. Save it as UTF-8.") from error


def _column(path: Path, known: Mapping[str, Any], wanted: Sequence[str], purpose: str) -> str:
    found = next((column for column in wanted if column in known), None)
    if found is None:
        raise ValueError(
            f"{path}: no column names the {purpose}; there are {', '.join(map(str, known)) or 'none'}. "
            f"Call it {wanted[0]!r}."
        )
    return found


def _names_by_number(path: Path, names: Sequence[str] | None) -> Callable[[Any, int, str], str]:
    """Give the function that names a label, number or text; a number must agree with the class folder of the path."""
    keys = {match_key(name): number for number, name in enumerate(names or ())}

    def to_name(label: Any, line: int, video: str) -> str:
        text = str(label).strip()
        if not text.isdecimal():
            return text
        if names is None:
            raise ValueError(
                f"{path}, line {line}: the label is the number {text}. Say which class that is: give labels= with the names "
                "in their order, or a file of them."
            )
        if int(text) >= len(names):
            raise ValueError(
                f"{path}, line {line}: the label is {text}, but {len(names)} names were given, 0 to {len(names) - 1}."
            )
        folder = video.split("/")[-2] if "/" in video else ""
        if keys.get(match_key(folder), int(text)) != int(text):
            raise ValueError(
                f"{path}, line {line}: the label {text} of {video} is {names[int(text)]!r} in the names that were given. The list "
                "was written for another order: give its own as labels=."
            )
        return names[int(text)]

    return to_name


def _seconds(path: Path, line: int, value: Any) -> float | None:
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}, line {line}: {value!r} is no number of seconds.") from error
    return None if isnan(seconds) else seconds
