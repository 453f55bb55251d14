"""Write explanations as pictures, pages and data."""

import json
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kinoclip.explain.drawing import draw_explanation
from kinoclip.explain.html import GENERATOR, explanation_page
from kinoclip.inference.records import Record, classification_record
from kinoclip.modeling.classification import Classification, Span
from kinoclip.storage import encode_json, readable_by, write_bytes, write_text

FORMATS = ("png", "html", "json")


def save_explanation(answer: Classification, path: str | Path, spans: Sequence[Span] | None = None) -> Path:
    """Write an explanation atomically, in the format of the suffix.

    Args:
        answer: made with `explain=True`.
        path: ends in .png (a picture of all frames), .html (a page that needs no other file), or .json
            (`explanation_record`).
        spans: of a long video, for the time line of a page.

    Raises:
        ValueError: another suffix, or an answer without an explanation.
        FileExistsError: the file exists and is not of this function.
        OSError: the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix.removeprefix(".") not in FORMATS:
        suffixes = ", ".join(f".{name}" for name in FORMATS)
        raise ValueError(f"The file of an explanation must end in one of {suffixes}, got {path}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".png":
        picture, content, facts = draw_explanation(answer), BytesIO(), PngInfo()
        facts.add_text("Software", "kinoclip")
        picture.save(content, "PNG", pnginfo=facts)
        return write_bytes(path, content.getvalue(), owns=_is_picture)
    if suffix == ".json":
        return write_text(path, encode_json(explanation_record(answer)), owns=_is_record)
    page = explanation_page(answer, classification_record(answer, answer.label), spans)
    return write_bytes(path, page.encode("utf-8", "backslashreplace"), owns=_is_page)


@readable_by
def _is_picture(path: Path) -> bool:
    with Image.open(path, formats=["PNG"]) as picture:
        return bool(picture.info["Software"] == "kinoclip")


@readable_by
def _is_record(path: Path) -> bool:
    known = {"video", "predictions", "frame_indices", "timestamps", "saliency"}
    return known <= set(json.loads(path.read_bytes()))


@readable_by
def _is_page(path: Path) -> bool:
    return GENERATOR.encode() in path.read_bytes()[:1000]


def explanation_record(answer: Classification) -> Record:
    """Convert an answer with its whole explanation to JSON-able data.

    The record of `kinoclip classify --explain` and, where the answer has them, `attention` (T, rows, columns), which sums to one over
    each frame; `regions` (T, rows, columns), the region of each patch; and `entity_map` (T, rows, columns), the index of the
    entity of each patch in the order of `entities`, -1 for another.
    """
    record = classification_record(answer, answer.label)
    if answer.attention is not None:
        record["attention"] = [[[round(v, 5) for v in row] for row in frame] for frame in answer.attention.tolist()]
    maps = {"regions": answer.regions, "entity_map": answer.entity_map}
    return record | {name: values.tolist() for name, values in maps.items() if values is not None}
