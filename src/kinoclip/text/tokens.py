"""Texts to the token ids that CLIP's authors would have made."""

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
    """Undo damaged encoding and HTML entities and collapse white space, before CLIP's tokenizer sees the text.

    Encoding is repaired by ftfy where it is installed. Plain ASCII texts come out the same without it.

    Source: OpenAI CLIP `simple_tokenizer.py`, `basic_clean` and `whitespace_clean`.
    """
    if not (text.isascii() and text.isprintable()):
        ftfy = _import_ftfy()
        text = ftfy.fix_text(text) if ftfy is not None else text
    return " ".join(html.unescape(html.unescape(text)).split())


def pad_with_zero(input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """Replace padding by id 0, which CLIP's authors pad with; the Hugging Face tokenizer pads with the end token.

    Needed wherever the features of padded positions are used: without it BIKE's scores change.

    Args:
        input_ids: (..., L).
        attention_mask: (..., L), 0 at padding.
    """
    return input_ids.masked_fill(attention_mask == 0, 0)


def tokenize_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    labels: Sequence[str] | None = None,
    context_length: int = CONTEXT_LENGTH,
    too_long: Literal["error", "truncate"] = "error",
) -> tuple[Tensor, Tensor]:
    """Token ids of texts, each padded with id 0 to the whole context.

    Args:
        tokenizer: CLIP's.
        texts: filled templates or attribute sentences; cleaned here.
        labels: what an error names instead of the text, one per text.
        context_length: positions of the text tower.
        too_long: "error" for candidates, whose end carries the meaning; "truncate" cuts to `context_length` and keeps
            the end token at the last position, as for attribute sentences.

    Returns:
        input_ids (K, L) and attention_mask (K, L), both int64.

    Raises:
        ValueError: for a text longer than the context, if `too_long` is "error".
    """
    if too_long not in ("error", "truncate"):
        raise ValueError(f"too_long is {too_long!r}. Use 'error' or 'truncate'.")
    cleaned = [clean_text(text) for text in texts]
    if not cleaned:
        raise ValueError("There are no texts to tokenize. Give at least one.")
    if too_long == "error":
        _check_lengths(tokenizer, cleaned, labels or texts, context_length)
    encoded = tokenizer(cleaned, padding="max_length", truncation=True, max_length=context_length)
    attention_mask = torch.tensor(encoded["attention_mask"])
    return pad_with_zero(torch.tensor(encoded["input_ids"]), attention_mask), attention_mask


def _check_lengths(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], labels: Sequence[str], context_length: int
) -> None:
    lengths = [len(ids) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]
    longest = max(range(len(lengths)), key=lengths.__getitem__)
    if lengths[longest] > context_length:
        raise ValueError(
            f"The label {labels[longest]!r} takes {lengths[longest]} tokens with its template, start and end, but the "
            f"text tower reads {context_length}. Shorten the label or use a shorter template."
        )


@cache
def _import_ftfy() -> ModuleType | None:
    try:
        import ftfy
    except ModuleNotFoundError:
        logger.warning(
            "A text holds characters outside ASCII, which CLIP's authors repair with ftfy. `pip install ftfy`."
        )
        return None
    module: ModuleType = ftfy
    return module
