"""The kinds of DSTPR's prompts, in the order of eq. 10. A new one is two functions and a row of `PROMPT_KINDS`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPAttention


@dataclass(frozen=True)
class PromptKind:
    """A kind of prompts of a layer."""

    is_on: Callable[[Any], bool]  # of a config
    build: Callable[[Any], dict[str, nn.Module]]  # the modules for a config, by their names in a layer
    compute: Callable[
        [Any, Tensor], Tensor
    ]  # from a layer and projected class tokens (B, T, C) to prompts (B, T, N, C)
    reads_tokens: bool = True  # whether class tokens are projected for it


def _build_attention(config: Any) -> dict[str, nn.Module]:
    vision = config.vision_config
    attention = CLIPAttention(vision)
    for projection in attention.children():
        projection.starts_xavier = True
    return {"class_norm": nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps), "class_attention": attention}


def _attend(layer: Any, projected: Tensor) -> Tensor:
    """Return the class token of each frame after attention over the frames (eq. 8)."""
    attended, _ = layer.class_attention(layer.class_norm(projected))
    return (projected + attended)[:, :, None]


def _build_global(config: Any) -> dict[str, nn.Module]:
    return {"global_prompts": nn.Embedding(config.num_global_prompts, config.vision_config.hidden_size)}


def _repeat_global(layer: Any, projected: Tensor) -> Tensor:
    """Return learned prompts that are the same for all frames."""
    prompts: Tensor = layer.global_prompts.weight.expand(*projected.shape[:2], -1, -1)
    return prompts


def _build_slots(config: Any) -> dict[str, nn.Module]:
    return {"interchange_prompts": nn.Embedding(config.num_frames, config.vision_config.hidden_size)}


def _interchange(layer: Any, projected: Tensor) -> Tensor:
    """Return a learned slot for each frame plus the token of that frame, or of the frame that the slots are given to (eq. 9)."""
    slots, length = layer.interchange_prompts.weight, projected.shape[1]
    if len(slots) != length:
        raise ValueError(
            f"This DSTPR exchanges prompts between {len(slots)} frames, but the video has {length}. Sample "
            f'{len(slots)} frames (`num_frames`), or train a model with interchange="none".'
        )
    tokens = projected[:, :, None] if layer.interchange == "own" else projected[:, None]
    prompts: Tensor = (slots + tokens).expand(-1, length, -1, -1)
    return prompts


PROMPT_KINDS = {
    "class": PromptKind(lambda config: config.class_prompts, _build_attention, _attend),
    "global": PromptKind(lambda config: config.num_global_prompts > 0, _build_global, _repeat_global, False),
    "interchange": PromptKind(lambda config: config.interchange != "none", _build_slots, _interchange),
}
