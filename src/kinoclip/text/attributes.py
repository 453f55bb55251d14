"""BIKE's attributes: phrases of a lexicon that describe a video, best first, and the sentence made of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from .parsing import load_json
from .templates import TEMPLATES, fill_template

_PHRASES_KEY = "classname_topk"


def attribute_sentence(attributes: Sequence[str], template: str = TEMPLATES["bike"]) -> str:
    """One sentence that lists the attributes, best first.

    Source: BIKE sec. 2.2. The official code joins by a comma without a space.

    >>> attribute_sentence(["juggling soccer ball", "shooting goal"])
    'This is a video about juggling soccer ball,shooting goal'
    """
    if not attributes:
        raise ValueError("There are no attributes to list. Give at least one phrase.")
    return fill_template(template, ",".join(attributes))


def rank_attributes(frame_embeds: Tensor, lexicon_embeds: Tensor, top_k: int = 5) -> tuple[Tensor, Tensor]:
    """Find the phrases of a lexicon that are nearest to a video in a CLIP that was not fine-tuned.

    Args:
        frame_embeds: (B, T, D), as the image tower gives them; averaged before anything is normalized.
        lexicon_embeds: (N, D), any length.
        top_k: phrases per video.

    Returns:
        indices (B, top_k) into the lexicon, best first, and their cosines (B, top_k).

    Source: BIKE sec. 2.2. The authors published the result (from ViT-L/14), not the code.
    """
    if not 1 <= top_k <= len(lexicon_embeds):
        raise ValueError(
            f"top_k is {top_k}, but the lexicon holds {len(lexicon_embeds)} phrases. Ask for 1 to that many."
        )
    videos = functional.normalize(frame_embeds.mean(dim=1), dim=-1)
    best = (videos @ functional.normalize(lexicon_embeds, dim=-1).T).topk(top_k, dim=1)
    return best.indices, best.values


def read_attributes(path: str | Path, top_k: int | None = None) -> dict[str, list[str]]:
    """Read which attributes each video has, from a file in the format that BIKE's authors published.

    Args:
        path: JSON, `{"video": {"classname_topk": ["best phrase", "second", ...]}}`, named as in the annotation list.
        top_k: phrases kept per video; all of them when left out. A processor reads as many as its `num_attributes` says.

    Returns:
        Phrases by video, best first.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has another format.
    """
    path = Path(path)
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}. Keep at least 1 phrase per video.")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of attributes.")
    try:
        content = load_json(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}. Give an object from video to attributes.")
    return {video: _phrases(path, video, entry)[:top_k] for video, entry in content.items()}


def write_attributes(path: str | Path, attributes: Mapping[str, Sequence[str]]) -> None:
    """Write which attributes each video has, in the format of BIKE's authors.

    Args:
        path: replaced if it exists.
        attributes: phrases by video, best first.
    """
    content = {video: {_PHRASES_KEY: list(phrases)} for video, phrases in attributes.items()}
    Path(path).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _phrases(path: Path, video: str, entry: object) -> list[str]:
    phrases = entry.get(_PHRASES_KEY) if isinstance(entry, dict) else None
    if not isinstance(phrases, list) or not phrases or not all(isinstance(phrase, str) for phrase in phrases):
        raise ValueError(f"{path}: {video!r} needs {{'{_PHRASES_KEY}': [phrases, best first]}}, but holds {entry!r}.")
    return phrases
