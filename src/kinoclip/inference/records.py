"""One record per video, as JSON Lines, CSV and Parquet."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from kinoclip.modeling.classification import Classification, ScoreError, Span
from kinoclip.storage import Journal, encode_json, escape_text, unescape_text
from kinoclip.video.errors import VideoDecodeError, error_line

Record = dict[str, Any]
SUFFIXES = (".jsonl", ".csv", ".parquet")
# Errors of a single video; other errors end the job.
VIDEO_ERRORS = (VideoDecodeError, ScoreError, OSError)
# what the groups of digits of a job stand for, see `BatchJob.identity`
JOB_PARTS = (
    "another model or corpus",
    "other frames, texts or their processing",
    "another backend, device, dtype or batch size",
    "other labels or phrases",
    "other options",
)
_JOB = re.compile("[0-9a-f]{12}|[0-9a-f]{8}(-[0-9a-f]{8}){4}")  # earlier versions had twelve digits
# the answer for a video that shows none of the labels
NONE_OF_THESE = "none of these"
# JSON in one column of a table: in CSV, and in Parquet, where keys such as labels cannot be columns
_CSV_JSON = ("saliency", "entities", "languages", "agreement", "spans", "file")
_PARQUET_JSON = ("saliency", "entities", "languages", "file")
_PARQUET_ROWS = 10_000


def classification_record(answer: Classification, label: str | None) -> Record:
    """Convert an answer to a record; `label` is the decision, None for none of these."""
    return answer.to_dict() | {"label": NONE_OF_THESE if label is None else label}


def span_record(span: Span) -> Record:
    """Convert a span to JSON-able data."""
    times = {"start": round(span.start_seconds, 3), "end": round(span.end_seconds, 3)}
    return {**times, "label": span.label, "probability": round(span.probability, 4)}


def error_record(video: str, error: BaseException) -> Record:
    """Build the record of a video that cannot be read."""
    return {"video": video, "error": {"type": type(error).__name__, "message": error_line(error)}}


def check_job(path: Path, before: str, now: str) -> None:
    """Check that records in a file were made by the present job.

    Raises:
        ValueError: another one made them; the message names what differs.
    """
    if before != now:
        changed = compare_jobs(before, now) if before.count("-") == now.count("-") else ""
        raise ValueError(
            f"{path} holds records that were made with {changed or 'another version of kinoclip'}. Label them "
            "again with --retry changed, choose another output file, or remove this one."
        )


def compare_jobs(before: str, now: str) -> str:
    """Name what differs between two identities of jobs, or their first groups; empty if nothing does."""
    parts = zip(JOB_PARTS, before.split("-"), now.split("-"), strict=False)
    return " and ".join(name for name, one, other in parts if one != other)


def read_records(path: Path) -> list[Record]:
    """Read the records of a JSONL, CSV or Parquet file; a JSONL may end within a line.

    Raises:
        ValueError: the file does not hold records.
    """
    if not path.is_file():
        raise ValueError(f"The output {path} is not a regular file. Name a new file, or one to continue.")
    if path.suffix == ".jsonl":
        return list(_check_records(path, Journal(path, ("video", "job")).records))
    try:
        return list(_check_records(path, {".csv": _read_csv, ".parquet": _read_parquet}[path.suffix](path)))
    except (ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
        raise ValueError(f"{path} does not hold records of kinoclip. Choose another output file.") from error


def _check_records(path: Path, records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        if not isinstance(record["video"], str) or not _JOB.fullmatch(str(record["job"])):
            raise ValueError(f"{path} does not hold records of kinoclip. Choose another output file.")
        yield record


def write_records(path: Path, suffix: str, records: Sequence[Record], top_k: int = 5) -> None:
    """Write a whole file in the format of a suffix."""
    if suffix == ".parquet":
        _write_parquet(path, records)
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        if suffix == ".jsonl":
            file.writelines(map(encode_json, records))
            return
        top_k = max([top_k, *(len(record.get("predictions", ())) for record in records)])
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_csv_columns(top_k))
        writer.writerows(_to_csv(record, top_k) for record in records)


def _csv_columns(top_k: int) -> list[str]:
    pairs = [name for rank in range(1, top_k + 1) for name in (f"label_{rank}", f"probability_{rank}")]
    facts = ("error", "duration_seconds", "timestamps", "frame_indices", "attributes")
    return ["video", "label", *pairs, *facts, *_CSV_JSON, "picture", "model", "job"]


def _to_csv(record: Record, top_k: int) -> list[Any]:
    pairs = [value for p in record.get("predictions", []) for value in (p["label"], p["probability"])]
    error = record.get("error")
    row = [
        record["video"],
        record.get("label", ""),
        *pairs,
        *[""] * (2 * top_k - len(pairs)),
        f"{error['type']}: {error['message']}" if error else "",
        record.get("duration_seconds"),
        " ".join(map(str, record.get("timestamps") or [])),
        " ".join(map(str, record.get("frame_indices") or [])),
        ", ".join(record.get("attributes") or []),
        *(encode_json(record[name]).rstrip() if name in record else "" for name in _CSV_JSON),
        record.get("picture", ""),
        record.get("model", ""),
        record["job"],
    ]
    return [escape_text(cell, cell=True) if isinstance(cell, str) else cell for cell in row]


def _read_csv(path: Path) -> Iterator[Record]:
    """Read a CSV so that it is written as it was; attributes stay joined."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, strict=True)
        header = next(rows, None)
        if header is None:
            return
        top_k = sum(name.startswith("label_") for name in header)
        if header != _csv_columns(top_k):
            raise ValueError(header)
        for row in rows:
            cells = dict(zip(header, map(unescape_text, row), strict=True))
            given = {name: cells[name] for name in ("video", "label", "picture", "model", "job") if cells[name]}
            pairs = [(cells[f"label_{rank}"], cells[f"probability_{rank}"]) for rank in range(1, top_k + 1)]
            kind, _, message = cells["error"].partition(": ")
            yield {
                "video": cells["video"],
                **given,
                **{name: json.loads(cells[name]) for name in _CSV_JSON if cells[name]},
                **({"error": {"type": kind, "message": message}} if kind else {}),
                "predictions": [{"label": label, "probability": float(share)} for label, share in pairs if share],
                "duration_seconds": float(cells["duration_seconds"]) if cells["duration_seconds"] else None,
                "timestamps": list(map(float, cells["timestamps"].split())),
                "frame_indices": list(map(int, cells["frame_indices"].split())),
                "attributes": [cells["attributes"]],
                "job": cells["job"],
            }


def check_pyarrow() -> None:
    """Check that pyarrow is installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "A Parquet output needs pyarrow. Install it with `pip install 'kinoclip[train]'`, or write .jsonl or .csv."
        ) from error


def _schema() -> Any:
    import pyarrow as pa

    scored = {"label": pa.string(), "probability": pa.float64()}
    columns = {
        "video": pa.string(),
        "label": pa.string(),
        "predictions": pa.list_(pa.struct(scored)),
        "error": pa.struct({"type": pa.string(), "message": pa.string()}),
        "duration_seconds": pa.float64(),
        "timestamps": pa.list_(pa.float64()),
        "frame_indices": pa.list_(pa.int64()),
        "attributes": pa.list_(pa.string()),
        "spans": pa.list_(pa.struct({"start": pa.float64(), "end": pa.float64(), **scored})),
        **dict.fromkeys(_PARQUET_JSON, pa.string()),
        "agreement": pa.float64(),
        "picture": pa.string(),
        "model": pa.string(),
        "job": pa.string(),
    }
    return pa.schema(columns)


def _write_parquet(path: Path, records: Sequence[Record]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, rows = _schema(), iter(records)
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(rows, _PARQUET_ROWS)):
            writer.write_table(pa.Table.from_pylist([_to_parquet(record) for record in batch], schema))


def _to_parquet(record: Record) -> Record:
    row: Record = _map_text(escape_text, {k: v for k, v in record.items() if k not in _PARQUET_JSON})
    return row | {name: encode_json(record[name]).rstrip() for name in _PARQUET_JSON if name in record}


def _map_text(change: Callable[[str], str], value: Any) -> Any:
    """Change all texts in lists and dicts."""
    if isinstance(value, dict):
        return {name: _map_text(change, each) for name, each in value.items()}
    if isinstance(value, list):
        return [_map_text(change, each) for each in value]
    return change(value) if isinstance(value, str) else value


def _read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(_schema()):
                raise ValueError(f"columns are {', '.join(file.schema_arrow.names)}")
            for batch in file.iter_batches(_PARQUET_ROWS):
                for row in batch.to_pylist():
                    given = {name: value for name, value in row.items() if value is not None}
                    yield {
                        name: json.loads(value) if name in _PARQUET_JSON else _map_text(unescape_text, value)
                        for name, value in given.items()
                    }
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
