"""CLIP's ResNet checkpoints in OpenAI's layout: the names that their weights have here, and their sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kinoclip.conversion import StateDict

_MARK = re.compile(r"visual\.(layer\d|attnpool|bn\d)\.")
_NAMES = (
    (r"\.bn(\d)\.", r".norm\1."),
    (r"^visual\.(conv|norm)(\d)\.", r"vision_model.stem.\1\2."),
    *((rf"^visual\.layer{stage + 1}\.", f"vision_model.stages.{stage}.") for stage in range(4)),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"^visual\.attnpool\.positional_embedding$", "vision_model.pooling.position_embedding.weight"),
    (r"^visual\.attnpool\.c_proj\.", "visual_projection."),
    (r"^visual\.attnpool\.", "vision_model.pooling."),
)
_NEEDED = ("visual.attnpool.positional_embedding", "visual.attnpool.c_proj.weight")


def holds_resnet(state: Mapping[str, Tensor]) -> bool:
    """Tell whether weights in OpenAI's layout are those of a ResNet."""
    return any(_MARK.match(name) for name in state)


def resnet_to_transformers(state: Mapping[str, Tensor]) -> StateDict:
    """Name the weights of a ResNet (`visual.*`) as the vision tower and the projection do; one-to-one."""
    return {_rename(name): tensor for name, tensor in state.items()}


def _rename(name: str) -> str:
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def infer_resnet_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the sizes of a ResNet off its tensors, as fields of `Text4VisConfig`.

    Raises:
        ValueError: the tensors are not those of a whole ResNet CLIP.
    """
    depths = [len({n.split(".")[2] for n in state if n.startswith(f"visual.layer{i}.")}) for i in range(1, 5)]
    missing = [name for name in _NEEDED if name not in state]
    missing += [f"visual.layer{i}" for i, depth in enumerate(depths, 1) if depth == 0]
    if missing:
        raise ValueError(f"The checkpoint has no whole ResNet of CLIP: it has no {missing[0]!r}.")
    positions, width = state["visual.attnpool.positional_embedding"].shape
    shared = state["visual.attnpool.c_proj.weight"].shape[0]
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 0,
        "num_attention_heads": max(1, width // 64),
        "image_size": 32 * round((positions - 1) ** 0.5),
        "patch_size": 32,
        "projection_dim": shared,
    }
    return {"vision_config": vision, "projection_dim": shared, "resnet_layers": depths}
