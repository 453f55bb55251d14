"""Parameter groups: what learns slowly, what learns fast, what decays."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

# Parameters that every CLIP checkpoint fills, wherever in a recognizer they stand.
CLIP_MODULES = frozenset({"vision_model", "text_model", "visual_projection", "text_projection", "logit_scale"})

# Parameters that a method adds inside of a CLIP tower and trains as fast as its other new ones.
# Source: official Text4Vis `utils/solver.py`, `_optimizer`: all of `visual` is slow, except `control_point`.
NEW_MODULES = frozenset({"temporal_conv", "adapters", "text_context", "lora_A", "lora_B"})


def is_clip_parameter(name: str) -> bool:
    """Say whether a parameter comes with CLIP, from its dotted name.

    >>> is_clip_parameter("vision_model.embeddings.class_embedding")
    True
    >>> is_clip_parameter("temporal_head.layers.0.mlp.fc1.weight")
    False
    >>> is_clip_parameter("vision_model.encoder.layers.0.temporal_conv.weight")
    False
    """
    parts = name.split(".")
    return NEW_MODULES.isdisjoint(parts) and not CLIP_MODULES.isdisjoint(parts)


def parameter_groups(
    model: nn.Module,
    base_lr: float,
    backbone_scale: float = 0.1,
    weight_decay: float = 0.2,
    is_backbone: Callable[[str], bool] = is_clip_parameter,
    decays: Callable[[str, nn.Parameter], bool] | None = None,
    rates: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Split the trainable parameters into a slow backbone, fast new modules, and named modules with rates of their own.

    Args:
        model: frozen parameters are left out.
        base_lr: rate of the new modules.
        backbone_scale: rate of the backbone, as a share of `base_lr`.
        weight_decay: on every trainable tensor, biases, norms and logit_scale too, as in the official code.
        is_backbone: from a parameter's dotted name.
        decays: from a parameter's name and value; where it is False, the weight decay is 0. Default: all decay.
        rates: word of a dotted name to the rate of all parameters below it; the first match counts.

    Returns:
        Groups with the keys `name`, `params`, `lr`, `weight_decay`; "backbone" before "head" before those of `rates`, those
        without decay last, empty groups left out. AdamW's defaults for betas and eps are the official ones.

    Raises:
        ValueError: no parameter is trained, or none has a word of `rates` in its name.

    Source: official BIKE `utils/solver.py`, `_optimizer`.
    """
    lrs = {"backbone": base_lr * backbone_scale, "head": base_lr, **(rates or {})}
    groups: dict[str, dict[str, Any]] = {
        f"{part}{suffix}": {
            "name": f"{part}{suffix}",
            "params": [],
            "lr": lr,
            "weight_decay": 0.0 if suffix else weight_decay,
        }
        for suffix in ("", "_no_decay")
        for part, lr in lrs.items()
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            named = next((word for word in rates or () if word in name.split(".")), None)
            part = named or ("backbone" if is_backbone(name) else "head")
            suffix = "" if decays is None or decays(name, parameter) else "_no_decay"
            groups[part + suffix]["params"].append(parameter)
    filled = [group for group in groups.values() if group["params"]]
    if not filled:
        raise ValueError(f"{type(model).__name__} has no trainable parameter. Unfreeze a part of it before training.")
    unused = set(rates or ()) - {group["name"].removesuffix("_no_decay") for group in filled}
    if unused:
        raise ValueError(
            f"training.groups names {sorted(unused)[0]!r}, and no trained parameter has that word in its dotted name. Modules: "
            f"{', '.join(sorted({name.partition('.')[0] for name, p in model.named_parameters() if p.requires_grad}))}."
        )
    return filled
