"""Label names: packaged sets of known datasets, and files of your own."""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any

from kinoclip.text.parsing import parse_json, read_text, table_errors

_SUFFIXES = (".csv", ".json", ".txt")
LABEL_SETS = ("activitynet200", "hmdb51", "kinetics400", "ssv1", "ssv2", "ucf101")
_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def packaged_text(name: str) -> str:
    """Return the text of a file in `kinoclip/text/data`."""
    return resources.files("kinoclip.text").joinpath("data", name).read_text(encoding="utf-8")


def label_set(name: str) -> list[str]:
    """Return the class names of a dataset (one of `LABEL_SETS`) in class order, as in the papers' prompts ("ApplyEyeMakeup")."""
    if name not in LABEL_SETS:
        sets = ", ".join(LABEL_SETS)
        raise ValueError(f"The label set must be one of {sets}, or a file; got {name!r}.{nearest(name, LABEL_SETS)}")
    labels: list[str] = json.loads(packaged_text(f"{name}.json"))["labels"]
    return labels


def spell_out(label: str) -> str:
    """Split a label written as one word into plain words; a label with spaces keeps its letters.

    >>> spell_out("ApplyEyeMakeup"), spell_out("brush_hair"), spell_out("passing American football")
    ('apply eye makeup', 'brush hair', 'passing American football')
    """
    if " " in label:
        return label.replace("_", " ")
    return _WORD_STARTS.sub(" ", label).replace("_", " ").lower()


def match_key(label: str) -> str:
    """Return a key that all spellings of a label share: they differ in spaces, underscores and case only.

    >>> match_key("Brush_Hair"), match_key("brush hair")
    ('brushhair', 'brushhair')
    """
    return "".join(label.replace("_", " ").split()).casefold()


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known name closest to an unknown one; empty if none is close."""
    ends = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    close = (ends or get_close_matches(name, known, n=1, cutoff=0.4))[:1]
    return f" The nearest known one is {close[0]!r}." if close else ""


def load_names(source: str | Path | Sequence[str]) -> list[str]:
    """Load names from a file (`read_labels`) or a packaged label set (spelled out), or return a sequence as it is."""
    if not isinstance(source, str | Path):
        return list(source)
    if (str(source) in LABEL_SETS or not Path(source).suffix) and not Path(source).exists():
        return [spell_out(label) for label in label_set(str(source))]
    return read_labels(source)


def split_names(text: str) -> tuple[str, ...]:
    r"""Split names: one per line, or in a single line at commas and semicolons.

    >>> split_names("red circle, blue square;green star"), split_names("pushing, slowly\njumping")
    (('red circle', 'blue square', 'green star'), ('pushing, slowly', 'jumping'))
    """
    lines = text.strip().split("\n")
    names = lines if len(lines) > 1 else re.split("[,;]", text)
    # a line may end with the comma of a list
    return tuple(name.strip() for name in (name.strip().strip(",;") for name in names) if name.strip())


def as_labels(labels: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Return labels as a user gives them: a sequence, a packaged set or a file by name, or names in one string (`split_names`).

    >>> as_labels("diving, archery"), len(as_labels("kinetics400"))
    (('diving', 'archery'), 400)
    """
    if isinstance(labels, str) and labels not in LABEL_SETS and Path(labels).suffix.lower() not in _SUFFIXES:
        return split_names(labels)
    return tuple(load_names(labels))


def check_labels(labels: Sequence[str]) -> None:
    """Raise a `ValueError` if labels are missing, empty, not strings or duplicated."""
    if not labels:
        raise ValueError("Labels are missing. Pass at least one, such as labels=['diving', 'archery'].")
    seen: set[str] = set()
    for number, label in enumerate(labels, 1):
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"Label {number} of {len(labels)} must be a non-empty string, got {label!r}.")
        if label in seen:
            raise ValueError(f"The label {label!r} is given twice. Leave one of them out.")
        seen.add(label)


def read_labels(path: str | Path) -> list[str]:
    """Read label names from a file, in class order.

    Formats, by extension: `.csv` with the header `id,name` and ids 0, 1, 2, ... in any order; `.json` with a list of
    names or an id2label object; anything else is text with one name per line, and blank lines are skipped. If every line of a text begins with its own
    number, counted from 1 as in UCF101's `classInd.txt` or from c000 as in Charades, the numbers are removed.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a name is empty or repeated, with its line, or the file has another format.
    """
    path = Path(path)
    text = read_text(path, "labels")
    parse = {".csv": _parse_csv, ".json": _parse_json}.get(path.suffix.lower(), _parse_lines)
    with table_errors(path):
        labels = parse(path, text)
    if not labels:
        raise ValueError(f"{path}: the file contains no label. Write one name per line.")
    return labels


def _parse_lines(path: Path, text: str) -> list[str]:
    lines = _check_names(path, [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()])
    for number_format, first in (("{} ", 1), ("c{:03d} ", 0)):
        prefixes = [number_format.format(number) for number in range(first, first + len(lines))]
        if all(line.startswith(prefix) for line, prefix in zip(lines, prefixes, strict=True)):
            names = [line.removeprefix(prefix) for line, prefix in zip(lines, prefixes, strict=True)]
            return _check_names(path, enumerate(names, 1))
    return lines


def _parse_csv(path: Path, text: str) -> list[str]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if not {"id", "name"} <= set(reader.fieldnames or ()):
        raise ValueError(f"{path}, line 1: the header must be 'id,name', got {reader.fieldnames}.")
    names: dict[str, tuple[int, str]] = {}
    for row in reader:
        class_id = (row["id"] or "").strip()
        if not class_id.isdecimal():
            raise ValueError(f"{path}, line {reader.line_num}: the id must be 0, 1, 2, ..., got {class_id!r}.")
        class_id = str(int(class_id))
        if class_id in names:
            line = names[class_id][0]
            raise ValueError(f"{path}, line {reader.line_num}: id {class_id} was already given on line {line}.")
        names[class_id] = reader.line_num, (row["name"] or "").strip()
    _check_names(path, names.values())
    return [name for _, name in _in_class_order(path, names)]


def _parse_json(path: Path, text: str) -> list[str]:
    content = parse_json(path, text)
    if isinstance(content, dict):
        content = _in_class_order(path, content)
    if not isinstance(content, list):
        raise ValueError(f"{path}: must hold a list or an object from id to name, got a {type(content).__name__}.")
    for entry, name in enumerate(content, start=1):
        if not isinstance(name, str):
            raise ValueError(f"{path}, entry {entry}: a name must be a string, got {name!r}.")
    return _check_names(path, enumerate(content, 1), unit="entry")


def _in_class_order(path: Path, names: Mapping[str, Any]) -> list[Any]:
    ids = [str(class_id) for class_id in range(len(names))]
    missing = [class_id for class_id in ids if class_id not in names]
    if missing:
        raise ValueError(f"{path}: id {missing[0]} is missing. Number the classes from 0 to {len(names) - 1}.")
    return [names[class_id] for class_id in ids]


def _check_names(path: Path, names: Iterable[tuple[int, str]], unit: str = "line") -> list[str]:
    """Strip numbered names and check that none is empty or repeated."""
    first_seen: dict[str, int] = {}
    for number, name in ((number, name.strip()) for number, name in names):
        if not name:
            raise ValueError(f"{path}, {unit} {number}: the name is empty. Remove it or fill it in.")
        if name in first_seen:
            raise ValueError(f"{path}, {unit} {number}: {name!r} was already given on {unit} {first_seen[name]}.")
        first_seen[name] = number
    return list(first_seen)
