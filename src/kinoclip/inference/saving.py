"""The reasons for an answer as a file: a picture, a film, a page, or data."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

from kinoclip.whole_files import whole_file

from .classification import Classification
from .explain import draw_explanation
from .explanation_page import explanation_page
from .film import draw_film, encode_gif, encode_mp4
from .records import Record, classification_record
from .timeline import Span

FORMATS = ("png", "gif", "mp4", "html", "json")


def save_explanation(answer: Classification, path: str | Path, spans: Sequence[Span] | None = None) -> Path:
    """Write why an answer was given; the ending decides what becomes of it, and the file appears whole or not at all.

    Args:
        answer: made with `explain=True`.
        path: ends in .png (all frames and reasons in one picture), .gif or .mp4 (frame by frame), .html (a page that needs
            no other file), or .json (`explanation_record`).
        spans: when each label is seen, for a page of a long video.

    Raises:
        ValueError: another ending, or an answer without an explanation.
        OSError: the file cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        endings = ", ".join(f".{name}" for name in FORMATS)
        raise ValueError(f"{path} ends in {path.suffix or 'nothing'}. An explanation ends in one of {endings}.")
    content = _encode(answer, kind, spans)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_bytes(content)
    return path


def explanation_record(answer: Classification) -> Record:
    """Give an answer with all its reasons as JSON has it.

    What `kinoclip classify --explain` writes, and, as far as the answer has them, `attention` (T, rows, columns), which sums to one
    over each frame; `regions` (T, rows, columns), the region of each patch; and `entity_map` (T, rows, columns), the number of the
    entity that each patch shows, in the order of `entities`, -1 for another.
    """
    record = classification_record(answer, answer.label)
    if answer.attention is not None:
        record["attention"] = [[[round(v, 5) for v in row] for row in frame] for frame in answer.attention.tolist()]
    if answer.regions is not None:
        record["regions"] = answer.regions.tolist()
    if answer.entity_map is not None:
        record["entity_map"] = answer.entity_map.tolist()
    return record


def _encode(answer: Classification, kind: str, spans: Sequence[Span] | None) -> bytes:
    if kind == "json":
        return json.dumps(explanation_record(answer), ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    if kind == "html":
        record = classification_record(answer, answer.label)
        return explanation_page(answer, record, spans).encode("utf-8", "backslashreplace")
    if kind in ("gif", "mp4"):
        return (encode_gif if kind == "gif" else encode_mp4)(draw_film(answer))
    buffer = io.BytesIO()
    draw_explanation(answer).save(buffer, "PNG")
    return buffer.getvalue()
