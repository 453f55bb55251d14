"""BIKE's attributes: phrases of a lexicon that describe a video, best first, and the sentence made of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from kinoclip.storage import Owner, encode_json, readable_by, write_text
from kinoclip.text.parsing import parse_json, read_text
from kinoclip.text.templates import TEMPLATES, fill_template

_PHRASES_KEY = "classname_topk"


def attribute_sentence(attributes: Sequence[str], template: str = TEMPLATES["bike"]) -> str:
    """Return one sentence that lists the attributes, best first.

    Source: BIKE sec. 2.2. The official code joins by a comma without a space.

    >>> attribute_sentence(["juggling soccer ball", "shooting goal"])
    'This is a video about juggling soccer ball,shooting goal'
    """
    if not attributes:
        raise ValueError("At least one attribute must be given.")
    return fill_template(template, ",".join(attributes))


def rank_attributes(frame_embeds: Tensor, lexicon_embeds: Tensor, top_k: int = 5) -> tuple[Tensor, Tensor]:
    """Find the phrases of a lexicon that are nearest to a video in a CLIP that was not fine-tuned.

    Frames (B, T, D), from the image tower, are averaged before anything is normalized; the lexicon is (N, D), of any
    length. Returns indices (B, top_k) into it, best first, and their cosines (B, top_k).

    Source: BIKE sec. 2.2. The authors published the result (from ViT-L/14), not the code.
    """
    if not 1 <= top_k <= len(lexicon_embeds):
        raise ValueError(f"top_k must be 1 to {len(lexicon_embeds)}, the size of the lexicon, got {top_k}.")
    videos = functional.normalize(frame_embeds.mean(dim=1), dim=-1)
    best = (videos @ functional.normalize(lexicon_embeds, dim=-1).T).topk(top_k, dim=1)
    return best.indices, best.values


def read_attributes(path: str | Path, top_k: int | None = None) -> dict[str, list[str]]:
    """Read the `top_k` attributes of each video, best first, or all, from a file in the format of BIKE's authors.

    It is JSON, `{"video": {"classname_topk": ["best phrase", "second", ...]}}`, named as in the annotation list. A
    processor reads as many phrases as its `num_attributes` says.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has another format.
    """
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}.")
    content = parse_json(path, read_text(path, "attributes"))
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold an object from video to attributes, got a {type(content).__name__}.")
    for video, entry in content.items():
        phrases = entry.get(_PHRASES_KEY) if isinstance(entry, dict) else None
        if not isinstance(phrases, list) or not phrases or not all(isinstance(phrase, str) for phrase in phrases):
            raise ValueError(f"{path}: {video!r} needs {{'{_PHRASES_KEY}': [phrases, best first]}}, got {entry!r}.")
    return {video: entry[_PHRASES_KEY][:top_k] for video, entry in content.items()}


def write_attributes(path: str | Path, attributes: Mapping[str, Sequence[str]], *, owns: Owner | None = None) -> None:
    """Write the attributes of each video, best first, in the format of BIKE's authors, atomically.

    By default it replaces any file in this format.
    """
    content = {video: {_PHRASES_KEY: list(phrases)} for video, phrases in attributes.items()}
    write_text(path, encode_json(content, indent=1), owns=owns or readable_by(read_attributes))
