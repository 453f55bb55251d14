"""Where CLIP's vision tower looks: how much the class token of an image attends to each of its patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .token_merging import MergingLayer


def map_attention(vision_model: nn.Module, run: Callable[[], object]) -> Tensor | None:
    """Run a vision tower once, and tell how much each class token looked at each patch in its last layer.

    A merged token's share is spread evenly over its patches. What went to the class token itself, or to prompts, is left
    out, and the rest brought to a sum of one. Nothing is changed or left behind in the tower.

    Args:
        vision_model: CLIP's ViT, whatever its layers.
        run: runs it, once.

    Returns:
        (N, patches) float32, the mean over heads, summing to one; None for a tower without attention.
    """
    layers = getattr(getattr(vision_model, "encoder", None), "layers", None)
    if layers is None:
        return None
    last, seen = layers[-1], {}
    attention = last.self_attn

    def keep(name: str) -> Callable[..., None]:
        return lambda module, given, result: seen.update({name: result})

    def keep_bias(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen["bias"] = given[1] if len(given) > 1 else named.get("attention_mask")

    hooks = [
        # an adapted layer attends over time first, so what is seen last counts
        attention.register_forward_pre_hook(keep_bias, with_kwargs=True),
        attention.q_proj.register_forward_hook(keep("queries")),
        attention.k_proj.register_forward_hook(keep("keys")),
        last.register_forward_pre_hook(lambda module, given: seen.update(layer=given)),
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    weights = class_attention(seen["queries"], seen["keys"], attention.num_heads, attention.scale, seen["bias"])
    weights = weights[:, : seen["layer"][0].shape[1]]  # prompts stand behind the tokens
    if isinstance(last, MergingLayer):
        weights = spread_weights(weights, *seen["layer"][1:3])
    patches = weights[:, 1:]
    return patches / patches.sum(-1, keepdim=True)


def class_attention(queries: Tensor, keys: Tensor, num_heads: int, scale: float, bias: Tensor | None = None) -> Tensor:
    """Give how much the first token looks at each token, as the mean over heads.

    Args:
        queries: (N, n, D), of which the first is used.
        keys: (N, m, D).
        num_heads: of the attention.
        scale: multiplies the products.
        bias: (N, 1, 1, m), added to them.

    Returns:
        (N, m) float32.
    """
    query = queries[:, 0].float().unflatten(-1, (num_heads, -1))
    scores = torch.einsum("nhc,nkhc->nhk", query, keys.float().unflatten(-1, (num_heads, -1))) * scale
    if bias is not None:
        scores = scores + bias[:, :, 0].float()
    return scores.softmax(-1).mean(1)


def spread_weights(weights: Tensor, sizes: Tensor | None, positions: Tensor | None) -> Tensor:
    """Share the weight of each merged token (N, n) evenly among its `sizes` (N, n, 1) first tokens: (N, tokens).

    `positions` (N, tokens) says where each token of the first layer is now; without them nothing was merged.
    """
    if sizes is None or positions is None:
        return weights
    return (weights / sizes[..., 0]).gather(1, positions)
