"""Read untrusted text, JSON and CSV files: anything wrong with them is a `ValueError` that names the file."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def load_json(text: str | bytes, **options: Any) -> Any:
    """Parse JSON as `json.loads` does; input that is nested too deeply is a `json.JSONDecodeError` too."""
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise json.JSONDecodeError("it is nested too deeply", "", 0) from error


def read_text(path: str | Path, kind: str = "text") -> str:
    """Read a UTF-8 file; `kind` names its content in a `FileNotFoundError`, or a `ValueError` if it is not UTF-8."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The file of {kind} {path} does not exist.")
    try:
        return path.read_text(encoding="utf-8-sig")  # spreadsheets write a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text. Save it as UTF-8.") from error


def parse_json(path: str | Path, text: str, *, line: int | None = None, unique_keys: bool = False) -> Any:
    """Parse JSON text of a file, or its line of this number; a `ValueError` names the file and the line.

    With `unique_keys`, an object that has a key twice is refused.
    """

    def check_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise ValueError(f"{path}: {key!r} is given twice. Keep one of them.")
            content[key] = value
        return content

    try:
        return load_json(text, object_pairs_hook=check_keys if unique_keys else None)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {line or error.lineno}: not valid JSON ({error.msg}).") from error


@contextmanager
def table_errors(path: str | Path) -> Iterator[None]:
    """Convert errors of the `csv` module into a `ValueError` that names the file."""
    try:
        yield
    except csv.Error as error:
        raise ValueError(f"{path}: not a valid table ({error}).") from error
