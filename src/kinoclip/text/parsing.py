"""JSON and CSV of strangers: whatever is wrong with them is a `ValueError`."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def load_json(text: str | bytes, **options: Any) -> Any:
    """Do as `json.loads`, and take brackets within brackets without end for what they are: no JSON.

    Raises:
        json.JSONDecodeError: the text is no JSON.
    """
    try:
        return json.loads(text, **options)
    except RecursionError as error:
        raise json.JSONDecodeError("it is nested too deeply", "", 0) from error


@contextmanager
def naming_table(path: str | Path) -> Iterator[None]:
    """Make a `ValueError` with the name of the file of what `csv` says while it reads.

    Raises:
        ValueError: the file is no CSV.
    """
    try:
        yield
    except csv.Error as error:
        raise ValueError(f"{path}: no table can be read from it ({error}).") from error
