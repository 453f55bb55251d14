"""Frames weighed once per candidate, by how well they match its words."""

from __future__ import annotations

import torch
from torch import Tensor


def frame_saliency(
    frames: Tensor, words: Tensor, temperature: float = 0.01, word_mask: Tensor | None = None
) -> Tensor:
    """Weigh the frames of a video once per candidate, by how well each frame matches the candidate's words.

    Args:
        frames: (B, T, D), unit length.
        words: (K, L, D), unit length. Every position counts, padding too: the official weights were trained so.
        temperature: divides the cosines before the softmax over T. Not learned.
        word_mask: (K, L), true on the positions that count, if not all do.

    Returns:
        (B, K, T), summing to one over T.

    Source: BIKE eq. 3-4; official `modules/video_clip.py`, `get_logits`.
    """
    attention = (torch.einsum("btd,kld->bklt", frames, words) / temperature).softmax(-1)
    if word_mask is None:
        return attention.mean(2)
    share = word_mask / word_mask.sum(-1, keepdim=True)
    return torch.einsum("bklt,kl->bkt", attention, share.to(attention.dtype))
