"""Records as a Parquet file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from .records import Record

# their keys are labels and entities, which are no columns
_TEXTS = ("saliency", "entities", "languages")
_ROWS_AT_ONCE = 10_000


def need_pyarrow() -> None:
    """Make sure that Parquet can be written.

    Raises:
        ImportError: with what to install.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "A Parquet output needs pyarrow. Install it with `pip install 'kinoclip[train]'`, or write .jsonl or .csv."
        ) from error


def write_parquet(path: Path, records: Iterable[Record]) -> None:
    """Write records as a table with a column for each field; what has keys of its own is JSON in a text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, rows = _schema(), iter(records)
    with pq.ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist([_to_row(record) for record in some], schema))


def read_parquet(path: Path) -> Iterator[Record]:
    """Read what `write_parquet` wrote.

    Raises:
        ValueError: it is something else.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(_schema()):
                raise ValueError(f"columns are {', '.join(file.schema_arrow.names)}")
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                yield from (_to_record(row) for row in batch.to_pylist())
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(
            f"{path} holds something else than records of kinoclip. Choose another output file."
        ) from error


def table_name(video: str) -> str:
    """Give the name of a video as a table can hold it: letters that are no text become escapes."""
    return video.encode("utf-8", "backslashreplace").decode("utf-8")


def _schema() -> Any:
    import pyarrow as pa

    scored = {"label": pa.string(), "probability": pa.float64()}
    span = {"start": pa.float64(), "end": pa.float64(), **scored}
    columns = {
        "video": pa.string(),
        "label": pa.string(),
        "predictions": pa.list_(pa.struct(scored)),
        "error": pa.struct({"type": pa.string(), "message": pa.string()}),
        "duration_seconds": pa.float64(),
        "timestamps": pa.list_(pa.float64()),
        "frame_indices": pa.list_(pa.int64()),
        "attributes": pa.list_(pa.string()),
        "spans": pa.list_(pa.struct(span)),
        **{name: pa.string() for name in _TEXTS},
        "agreement": pa.float64(),
        "picture": pa.string(),
        "job": pa.string(),
    }
    return pa.schema(columns)


def _to_row(record: Record) -> Record:
    texts = {name: json.dumps(record[name], ensure_ascii=False) for name in _TEXTS if name in record}
    row = {**record, **texts, "video": table_name(record["video"])}
    if "error" in row:
        row["error"] = {name: table_name(text) for name, text in row["error"].items()}
    if "picture" in row:
        row["picture"] = table_name(row["picture"])
    return row


def _to_record(row: Record) -> Record:
    given = {name: value for name, value in row.items() if value is not None}
    return {name: json.loads(value) if name in _TEXTS else value for name, value in given.items()}
