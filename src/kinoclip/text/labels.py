"""Label names: packaged sets of known datasets, and files of one's own."""

import csv
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from .parsing import load_json, naming_table

LabelStyle = Literal["paper", "words"]

LABEL_SETS = ("activitynet200", "hmdb51", "kinetics400", "ssv1", "ssv2", "ucf101")
_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def label_set(name: str, style: LabelStyle = "paper") -> list[str]:
    """The class names of a dataset, in class order.

    Args:
        name: "kinetics400", "activitynet200", "hmdb51", "ucf101", "ssv1" or "ssv2" (Something-Something).
        style: "paper" gives the names that the papers' prompts were made of (UCF101: "ApplyEyeMakeup"); "words" spells
            them out, see `spell_out`.
    """
    if name not in LABEL_SETS:
        raise ValueError(
            f"There is no packaged label set {name!r}. Use one of {', '.join(LABEL_SETS)}, or read a file."
        )
    text = resources.files("kinoclip.text").joinpath("data", f"{name}.json").read_text(encoding="utf-8")
    labels: list[str] = json.loads(text)["labels"]
    match style:
        case "paper":
            return labels
        case "words":
            return [spell_out(label) for label in labels]
        case _:
            raise ValueError(f"There is no label style {style!r}. Use 'paper' or 'words'.")


def spell_out(label: str) -> str:
    """Turn a label written as one word into plain words; a label that already has spaces keeps its letters.

    >>> spell_out("ApplyEyeMakeup"), spell_out("brush_hair"), spell_out("passing American football")
    ('apply eye makeup', 'brush hair', 'passing American football')
    """
    if " " in label:
        return label.replace("_", " ")
    return _WORD_STARTS.sub(" ", label).replace("_", " ").lower()


def match_key(label: str) -> str:
    """What the spellings of a label have in common: they differ in spaces, underscores and capitals only.

    >>> match_key("Brush_Hair"), match_key("brush hair")
    ('brushhair', 'brushhair')
    """
    return "".join(label.replace("_", " ").split()).casefold()


def load_names(source: str | Path | Sequence[str]) -> list[str]:
    """Give the names in a file, those of a packaged label set (spelled out), or a sequence of names as it is.

    Raises:
        FileNotFoundError: there is no such file, nor a label set of that name.
        ValueError: the file cannot be read as names.
    """
    if not isinstance(source, str | Path):
        return list(source)
    if str(source) in LABEL_SETS and not Path(source).exists():
        return label_set(str(source), style="words")
    return read_labels(source)


def read_labels(path: str | Path) -> list[str]:
    """Read label names from a file, in class order.

    Formats, by ending: `.csv` with the header `id,name` and ids 0, 1, 2, ... in any order; `.json` with a list of
    names or an id2label object; anything else is text with one name per line. If every line of a text begins with its own
    number, counted from 1 as in UCF101's `classInd.txt` or from c000 as in Charades, the numbers are dropped.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for an empty or repeated name, naming the line, or a file of another format.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of labels.")
    # utf-8-sig: spreadsheets put a byte order mark in front of the first name.
    text = path.read_text(encoding="utf-8-sig")
    match path.suffix.lower():
        case ".csv":
            with naming_table(path):
                labels = _parse_csv(path, text)
        case ".json":
            labels = _parse_json(path, text)
        case _:
            labels = _parse_lines(path, text)
    if not labels:
        raise ValueError(f"{path}: the file holds no label. Write one name per line.")
    return labels


def _parse_lines(path: Path, text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    _check_names(path, lines)
    for number_format, first in (("{} ", 1), ("c{:03d} ", 0)):
        prefixes = [number_format.format(number) for number in range(first, first + len(lines))]
        if all(line.startswith(prefix) for line, prefix in zip(lines, prefixes, strict=True)):
            lines = [line.removeprefix(prefix).strip() for line, prefix in zip(lines, prefixes, strict=True)]
            _check_names(path, lines)
            break
    return lines


def _parse_csv(path: Path, text: str) -> list[str]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if not {"id", "name"} <= set(reader.fieldnames or ()):
        raise ValueError(f"{path}, line 1: the header is {reader.fieldnames}. Begin the file with 'id,name'.")
    names: dict[str, str] = {}
    line_numbers: dict[str, int] = {}
    for row in reader:
        class_id = (row["id"] or "").strip()
        if not class_id.isdecimal():
            raise ValueError(
                f"{path}, line {reader.line_num}: the id is {class_id!r}. Number the classes 0, 1, 2, ..."
            )
        class_id = str(int(class_id))
        if class_id in names:
            raise ValueError(
                f"{path}, line {reader.line_num}: id {class_id} was given on line {line_numbers[class_id]}."
            )
        names[class_id] = (row["name"] or "").strip()
        line_numbers[class_id] = reader.line_num
    _check_names(path, list(names.values()), list(line_numbers.values()))
    return _in_class_order(path, names)


def _parse_json(path: Path, text: str) -> list[str]:
    try:
        content = load_json(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    if isinstance(content, dict):
        content = _in_class_order(path, content)
    if not isinstance(content, list):
        raise ValueError(
            f"{path}: holds a {type(content).__name__}. Give a list of names or an object from id to name."
        )
    for entry, name in enumerate(content, start=1):
        if not isinstance(name, str):
            raise ValueError(f"{path}, entry {entry}: {name!r} is not a name. Give texts in quotes.")
    labels = [name.strip() for name in content]
    _check_names(path, labels, place="entry")
    return labels


def _in_class_order(path: Path, names: Mapping[str, Any]) -> list[Any]:
    expected = [str(class_id) for class_id in range(len(names))]
    missing = [class_id for class_id in expected if class_id not in names]
    if missing:
        raise ValueError(
            f"{path}: {len(names)} names, but no id {missing[0]}. Number the classes from 0 to {len(names) - 1}."
        )
    return [names[class_id] for class_id in expected]


def _check_names(path: Path, names: list[str], numbers: list[int] | None = None, place: str = "line") -> None:
    first_seen: dict[str, int] = {}
    for number, name in zip(numbers or range(1, len(names) + 1), names, strict=True):
        if not name:
            raise ValueError(f"{path}, {place} {number}: the name is empty. Remove it or fill it in.")
        if name in first_seen:
            raise ValueError(
                f"{path}, {place} {number}: {name!r} was already given on {place} {first_seen[name]}. "
                "Keep one of them."
            )
        first_seen[name] = number
