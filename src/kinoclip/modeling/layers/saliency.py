"""Saliency of frames: their match with the words of each candidate."""

import torch
from torch import Tensor

# candidates per chunk: bounds the memory of 10,000 of them, and is more than most label sets have
_CHUNK = 512


def frame_saliency(
    frames: Tensor, words: Tensor, temperature: float = 0.01, word_mask: Tensor | None = None, *, cosine: bool = False
) -> Tensor:
    """Weigh the frames of a video once per candidate, by how well each frame matches the candidate's words.

    Args:
        frames: (B, T, D), unit length.
        words: (K, L, D), unit length unless `cosine`. Every position counts, padding too: the official weights were trained so.
        temperature: divides the products before the softmax over T. Not learned.
        word_mask: (K, L), true on the positions that count, if not all do.
        cosine: divide each product by the length of its word; the same as words of unit length, without a copy of them.

    Returns:
        (B, K, T), summing to one over T.

    Source: BIKE eq. 5; official `modules/video_clip.py`, `get_logits`.
    """
    if torch.compiler.is_compiling():  # a graph for any number of candidates has no loop over them
        return _weigh(frames, words, word_mask, temperature, cosine).transpose(0, 1)
    chunks = words.split(_CHUNK)
    masks = [None] * len(chunks) if word_mask is None else word_mask.split(_CHUNK)
    weighed = [_weigh(frames, *chunk, temperature, cosine) for chunk in zip(chunks, masks, strict=True)]
    return torch.cat(weighed).transpose(0, 1)


def _weigh(frames: Tensor, words: Tensor, mask: Tensor | None, temperature: float, cosine: bool) -> Tensor:
    """Compute (K, B, T) with one matrix product; T stays innermost."""
    products = (words.flatten(0, 1) @ frames.flatten(0, 1).T).view(*words.shape[:2], *frames.shape[:2])
    if cosine:
        # padding can be zero, and half precision knows no 1e-12 to divide it by
        lengths = torch.linalg.vector_norm(words, dim=-1).clamp_min(1e-6)
        products = products / lengths[..., None, None]
    attention = (products / temperature).softmax(-1)
    if mask is None:
        return attention.mean(1)
    share = mask / mask.sum(-1, keepdim=True)
    return torch.einsum("klbt,kl->kbt", attention, share.to(attention.dtype))
