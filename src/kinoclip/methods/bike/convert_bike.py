"""BIKE's official checkpoints: what they hold, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kinoclip.conversion import (
    StateDict,
    clip_to_transformers,
    head_to_transformers,
    infer_clip_config,
    load_strictly,
    read_checkpoint,
    strip_prefix,
)

from .configuration_bike import BikeConfig
from .modeling_bike import BikeModel

_TEXT_TOWER = ("text_model.", "text_projection.")


def convert_bike(checkpoint: str | Path, attributes: str | Path | None = None, **fields: Any) -> BikeModel:
    """Build BIKE from the official checkpoints.

    Args:
        checkpoint: of the video branch (`train.py`): `model_state_dict` and `fusion_model_state_dict`.
        attributes: of the attributes branch (`train_attributes.py`), if there is one.
        fields: config fields that a checkpoint does not tell, such as `num_frames` or `interaction`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no BIKE checkpoint, or weights are missing or left over.
    """
    clip, head = _read_parts(checkpoint)
    if "query_fc.0.weight" in head:
        raise ValueError(f"{checkpoint} is an attributes branch. Give the video branch first, and this as attributes.")
    clip_config = infer_clip_config(clip)
    state = clip_to_transformers(clip) | head_to_transformers(head)
    fields = {"temporal_head": "transformer" if head else "none"} | fields
    if head:
        fields["temporal_layers"] = len({name.split(".")[2] for name in head if name.startswith("transformer.")})
    if attributes is not None:
        branch, branch_fields = _attributes_to_transformers(attributes, state)
        state, fields = state | branch, branch_fields | fields
    config = BikeConfig.from_clip_config(clip_config, **fields)
    return load_strictly(BikeModel, config, state, source=str(checkpoint))


def _read_parts(path: str | Path) -> tuple[StateDict, StateDict]:
    """Split a checkpoint in its CLIP and its head, without any `module.` in the names."""
    content = read_checkpoint(path)
    parts = [content.get(name) for name in ("model_state_dict", "fusion_model_state_dict")]
    if not all(isinstance(part, Mapping) for part in parts):
        raise ValueError(
            f"{path} is no BIKE checkpoint: it has no `model_state_dict` and `fusion_model_state_dict`, but "
            f"{', '.join(map(str, list(content)[:4]))}. For a plain CLIP file use `BikeModel.from_clip`."
        )
    clip, head = (strip_prefix(part) for part in parts)
    return clip, head


def _attributes_to_transformers(path: str | Path, video: StateDict) -> tuple[StateDict, dict[str, Any]]:
    """Name the weights of the attributes branch; its text tower is left out where it equals the video branch's."""
    clip, head = _read_parts(path)
    if "query_fc.0.weight" not in head:
        raise ValueError(
            f"{path} is no attributes branch: it has no `query_fc`. Give the file of `train_attributes.py`."
        )
    branch = {f"attributes.{name}": tensor for name, tensor in head.items()}
    branch["attributes.logit_scale"] = clip["logit_scale"]
    tower = {name: t for name, t in clip_to_transformers(clip).items() if name.startswith(_TEXT_TOWER)}
    shared = tower.keys() <= video.keys() and all(
        video[name].shape == tensor.shape and torch.equal(video[name], tensor) for name, tensor in tower.items()
    )
    if shared:
        return branch, {"attributes": "shared"}
    config = infer_clip_config(clip)
    branch |= {f"attributes.{name}": tensor for name, tensor in tower.items()}
    sizes = {"attribute_text_config": config.text_config.to_dict(), "attribute_projection_dim": config.projection_dim}
    return branch, {"attributes": "own", **sizes}
