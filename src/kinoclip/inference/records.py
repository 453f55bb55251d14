"""What is written down about each video."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from kinoclip.video import VideoDecodeError

from .classification import Classification

Record = dict[str, Any]
_LONGEST_LINE = 1000
# what may be wrong with one video; anything else is a fault of the job and ends it
VIDEO_ERRORS = (VideoDecodeError, OSError)
# the answer for a video that shows none of the labels
NONE_OF_THESE = "none of these"
# fields of a record that are JSON in a table, in the order of their columns
_NESTED = ("saliency", "entities", "languages", "agreement", "spans")


def classification_record(answer: Classification, label: str | None) -> Record:
    """Give what a record says of one video; `label` is the answer, None for none of these."""
    record: Record = {
        "video": answer.video,
        "label": NONE_OF_THESE if label is None else label,
        "predictions": [{"label": p.label, "probability": round(p.probability, 6)} for p in answer],
        "frame_indices": answer.frame_indices,
        "timestamps": _rounded(answer.timestamps),
        "duration_seconds": None if answer.duration_seconds is None else round(answer.duration_seconds, 3),
    }
    if answer.attributes is not None:
        record["attributes"] = answer.attributes
    if answer.saliency is not None:
        record["saliency"] = {label: _rounded(weights, 4) for label, weights in answer.saliency.items()}
    if answer.entities is not None:
        record["entities"] = {name: _rounded(scores) for name, scores in answer.entities.items()}
    if answer.languages is not None:
        by_language = answer.languages.items()
        record["languages"] = {
            name: {label: round(vote, 4) for label, vote in votes.items()} for name, votes in by_language
        }
        record["agreement"] = round(answer.agreement or 0.0, 4)
    return record


def error_record(video: str, error: BaseException) -> Record:
    """Give the record of a video that cannot be read."""
    return {"video": video, "error": {"type": type(error).__name__, "message": error_line(error)}}


def error_line(error: BaseException) -> str:
    """Give an error as one line, as a person reads it, and no more of it than fits on a screen."""
    if isinstance(error, OSError) and error.strerror:
        named = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{named}"
    line = " ".join(str(error).split()) or type(error).__name__
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE // 2]} ... {line[-_LONGEST_LINE // 2 :]}"


def json_line(record: Record) -> bytes:
    """Give a record as a line of JSON; a file name that is no text survives as an escape, which JSON reads back."""
    return (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def csv_header(top_k: int) -> bytes:
    """Name the columns of `csv_line`."""
    pairs = [name for rank in range(1, top_k + 1) for name in (f"label_{rank}", f"probability_{rank}")]
    facts = ("error", "duration_seconds", "timestamps", "frame_indices", "attributes")
    return write_csv(["video", "label", *pairs, *facts, *_NESTED, "picture", "job"])


def csv_line(record: Record, top_k: int) -> bytes:
    """Give a record as a row of a table with `top_k` labels."""
    predictions = record.get("predictions", [])
    pairs = [value for p in predictions for value in (p["label"], p["probability"])]
    pairs += [""] * (2 * top_k - len(pairs))
    error = record.get("error")
    return write_csv(
        [
            record["video"],
            record.get("label", ""),
            *pairs,
            f"{error['type']}: {error['message']}" if error else "",
            record.get("duration_seconds"),
            " ".join(map(str, record.get("timestamps") or [])),
            " ".join(map(str, record.get("frame_indices") or [])),
            ", ".join(record.get("attributes") or []),
            *(json.dumps(record[name], ensure_ascii=False) if name in record else "" for name in _NESTED),
            record.get("picture", ""),
            record["job"],
        ]
    )


def write_csv(values: Sequence[Any]) -> bytes:
    """Give one row of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _rounded(values: Sequence[float] | None, digits: int = 3) -> list[float] | None:
    return None if values is None else [round(value, digits) for value in values]
