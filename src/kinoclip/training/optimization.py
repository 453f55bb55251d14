"""Parameter groups, optimizers and learning rate schedules."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from kinoclip.training.settings import TrainingSettings

# Parameters that every CLIP checkpoint fills, anywhere in a recognizer.
CLIP_MODULES = frozenset({"vision_model", "text_model", "visual_projection", "text_projection", "logit_scale"})

# Parameters that a method adds inside a CLIP tower and trains at the rate of its other new ones.
# Source: official Text4Vis `utils/solver.py`, `_optimizer`: all of `visual` is slow, except `control_point`.
_MESSAGES = ("message_fc", "message_ln", "message_attn")
NEW_MODULES = frozenset({"temporal_conv", "adapters", "text_context", "lora_A", "lora_B", *_MESSAGES})

# The official loops of BIKE, Text4Vis and ActionCLIP refresh the rate every tenth iteration of an epoch.
OFFICIAL_REFRESH_EVERY = 10


def is_clip_parameter(name: str) -> bool:
    """Return whether a parameter comes with CLIP, by its dotted name.

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
    decays: Callable[[str, nn.Parameter], bool] | None = None,
    rates: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Split the trainable parameters into a slow backbone (CLIP), fast new modules, and named modules with own rates.

    Args:
        model: frozen parameters are left out.
        base_lr: learning rate of the new modules.
        backbone_scale: learning rate of the backbone, as a share of `base_lr`.
        weight_decay: of every trainable tensor, also biases, norms and logit_scale, as in the official code.
        decays: called with a parameter's name and value; if it returns False, the weight decay is 0. Default: all decay.
        rates: word of a dotted name to the learning rate of all parameters below it; the first match counts.

    Returns:
        Groups with the keys `name`, `params`, `lr`, `weight_decay`; "backbone" before "head" before those of `rates`, those
        without decay last, empty groups left out. AdamW's defaults for betas and eps are the official ones.

    Raises:
        ValueError: no parameter is trainable, or none has a word of `rates` in its name.

    Source: official BIKE `utils/solver.py`, `_optimizer`.
    """
    lrs = {"backbone": base_lr * backbone_scale, "head": base_lr, **(rates or {})}
    groups: dict[str, dict[str, Any]] = {
        part + suffix: {"name": part + suffix, "params": [], "lr": lr, "weight_decay": 0.0 if suffix else weight_decay}
        for suffix in ("", "_no_decay")
        for part, lr in lrs.items()
    }
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in trained.items():
        named = next((word for word in rates or () if word in name.split(".")), None)
        part = named or ("backbone" if is_clip_parameter(name) else "head")
        suffix = "" if decays is None or decays(name, parameter) else "_no_decay"
        groups[part + suffix]["params"].append(parameter)
    filled = [group for group in groups.values() if group["params"]]
    if not filled:
        raise ValueError(f"{type(model).__name__} has no trainable parameter. Unfreeze a part of it before training.")
    unused = set(rates or ()) - {group["name"].removesuffix("_no_decay") for group in filled}
    if unused:
        raise ValueError(
            f"training.groups names {sorted(unused)[0]!r}, but no trained parameter has that word in its dotted name. Modules: "
            f"{', '.join(sorted({name.partition('.')[0] for name in trained}))}."
        )
    return filled


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Build the optimizer of the trained parameters, as the official loops do."""
    groups = parameter_groups(
        model,
        settings.lr,
        settings.backbone_scale,
        settings.weight_decay,
        decays=None if settings.decay_vectors else _is_matrix,
        rates=settings.groups,
    )
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum)
    first, second = settings.betas
    return torch.optim.AdamW(groups, betas=(first, second), eps=settings.eps)


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Return whether a parameter decays if vectors do not. Source: X-CLIP's `utils/optimizer.py`, `set_weight_decay`."""
    return parameter.ndim > 1 and "position_embedding" not in name


def cosine_with_warmup(
    epoch: float, base_lr: float, warmup_epochs: float, epochs: float, final_scale: float = 0.0
) -> float:
    """Return a rate that rises linearly from 0 to `base_lr`, then falls along half a cosine.

    Args:
        epoch: position in the run, with fractions.
        base_lr: the highest rate.
        warmup_epochs: length of the rise. A run of at most this many epochs never leaves it.
        epochs: length of the run; the rate stays at its end value afterwards.
        final_scale: the end value as a share of `base_lr`.

    Source: official BIKE `utils/solver.py`, `_lr_scheduler`, with `final_scale` 0.
    """
    if epoch < warmup_epochs:
        return base_lr * epoch / warmup_epochs
    if epoch >= epochs:
        return base_lr * final_scale
    progress = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return base_lr * (final_scale + (1 - final_scale) * (1 + math.cos(math.pi * progress)) / 2)


def refreshed_epoch(step: int, iterations_per_epoch: int, refresh_every: int = OFFICIAL_REFRESH_EVERY) -> float:
    """Return the position in the run, with fractions, for which the rate of an optimizer step is computed.

    The rate is refreshed before iteration i of an epoch if i is 0 or i + 1 is a multiple of `refresh_every`. So with a
    warm-up from 0, the first `refresh_every - 1` steps of a run do not move the weights; 1 refreshes before every
    step.

    Source: official BIKE `train.py`, `train`.
    """
    epoch, iteration = divmod(step, iterations_per_epoch)
    refreshed = max((iteration + 1) // refresh_every * refresh_every - 1, 0)
    return epoch + refreshed / iterations_per_epoch


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    warmup_epochs: float,
    epochs: float,
    iterations_per_epoch: int,
    *,
    refresh_every: int = OFFICIAL_REFRESH_EVERY,
    final_scale: float = 0.0,
) -> LambdaLR:
    """Build a scheduler that changes the rates of all parameter groups along the same curve.

    Call `step()` once after every `optimizer.step()`. The rate of the first step is set at once. The groups carry the
    base rates (`parameter_groups`), the curve is `cosine_with_warmup`, and an epoch has `iterations_per_epoch` steps.
    `refresh_every=1` gives a smooth curve; the default is the stair of the official loops.
    """

    def scale(step: int) -> float:
        epoch = refreshed_epoch(step, iterations_per_epoch, refresh_every)
        return cosine_with_warmup(epoch, 1.0, warmup_epochs, epochs, final_scale)

    return LambdaLR(optimizer, scale)
