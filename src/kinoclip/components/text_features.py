"""What is read of encoded texts: their end, and one direction for several templates."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize


def ensemble(embeds: Tensor) -> Tensor:
    """Average the templates of each candidate: (P, K, D) -> (K, D), unit length."""
    return normalize(normalize(embeds, dim=-1).mean(0), dim=-1)


def end_of_text(input_ids: Tensor, eos_token_id: int | None) -> Tensor:
    """Find the end-of-text token of each row: (..., L) -> (...) positions.

    Published CLIP configs carry the wrong `eos_token_id` 2; for them, as in Transformers, it is the highest id.
    """
    if eos_token_id is None or eos_token_id == 2:
        return input_ids.argmax(-1)
    return (input_ids == eos_token_id).int().argmax(-1)
