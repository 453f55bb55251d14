"""Texts to the token ids of CLIP's authors."""

import html
import logging
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

CONTEXT_LENGTH = 77


def clean_text(text: str) -> str:
    """Repair damaged encoding, unescape HTML entities and collapse white space, before CLIP's tokenizer.

    The encoding is repaired by ftfy where it is installed. Plain ASCII texts come out the same without it.

    Source: OpenAI CLIP `simple_tokenizer.py`, `basic_clean` and `whitespace_clean`.
    """
    if not (text.isascii() and text.isprintable()):
        ftfy = _import_ftfy()
        text = ftfy.fix_text(text) if ftfy is not None else text
    return " ".join(html.unescape(html.unescape(text)).split())


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    context_length: int = CONTEXT_LENGTH,
    too_long: Literal["error", "truncate"] = "error",
) -> tuple[Tensor, Tensor]:
    """Tokenize texts, each padded with id 0 to the whole context.

    CLIP's authors pad with 0, the Hugging Face tokenizer with the end token. It matters wherever the features of padded
    positions are used: without it BIKE's scores change.

    Args:
        tokenizer: CLIP's.
        texts: filled templates or attribute sentences; cleaned here.
        labels: named in errors instead of the texts, one per text.
        context_length: positions of the text tower.
        too_long: "error" for candidates, whose end carries the meaning; "truncate" cuts to `context_length` and keeps
            the end token at the last position, as for attribute sentences.

    Returns:
        input_ids (K, L) and attention_mask (K, L), both int64.

    Raises:
        ValueError: a text is longer than the context, if `too_long` is "error".
    """
    if too_long not in ("error", "truncate"):
        raise ValueError(f"too_long must be 'error' or 'truncate', got {too_long!r}.")
    cleaned = [clean_text(text) for text in texts]
    if not cleaned:
        raise ValueError("At least one text must be given.")
    if too_long == "error":
        lengths = [len(ids) for ids in tokenizer(cleaned, verbose=False)["input_ids"]]
        longest = max(range(len(lengths)), key=lengths.__getitem__)
        if lengths[longest] > context_length:
            raise ValueError(
                f"The label {(labels or texts)[longest]!r} takes {lengths[longest]} tokens with its template, start and end, "
                f"but the text tower reads {context_length}. Shorten the label or use a shorter template."
            )
    encoded = tokenizer(cleaned, padding="max_length", truncation=True, max_length=context_length)
    attention_mask = torch.tensor(encoded["attention_mask"])
    return torch.tensor(encoded["input_ids"]).masked_fill(attention_mask == 0, 0), attention_mask


@cache
def _import_ftfy() -> ModuleType | None:
    try:
        import ftfy
    except ModuleNotFoundError:
        logger.warning(
            "A text contains characters outside ASCII, which CLIP's authors repair with ftfy. `pip install ftfy`."
        )
        return None
    module: ModuleType = ftfy
    return module
