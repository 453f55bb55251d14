"""Conversion of BIKE's official checkpoints."""

from pathlib import Path
from typing import Any

import torch

from kinoclip.methods.bike.configuration_bike import BikeConfig
from kinoclip.methods.bike.modeling_bike import BikeModel
from kinoclip.modeling.checkpoints import (
    StateDict,
    clip_to_transformers,
    count_parts,
    head_to_transformers,
    infer_clip_config,
    load_strictly,
    split_checkpoint,
)
from kinoclip.modeling.clip_recognizer import TEXT_TOWER


def convert_bike(checkpoint: str | Path, attributes: str | Path | None = None, **fields: Any) -> BikeModel:
    """Build BIKE from the official checkpoints of `train.py` and, for the attributes branch, `train_attributes.py`.

    `fields` are config fields that cannot be inferred from a checkpoint, such as `num_frames` or `interaction`.
    """
    clip, head = split_checkpoint(checkpoint, "BikeModel")
    if "query_fc.0.weight" in head:
        raise ValueError(f"{checkpoint} is an attributes branch. Pass the video branch first, and this as attributes.")
    clip_config = infer_clip_config(clip)
    state = clip_to_transformers(clip) | head_to_transformers(head)
    fields = {"temporal_head": "transformer" if head else "none"} | fields
    if head:
        fields["temporal_layers"] = count_parts(head, r"transformer\.resblocks\.(\d+)\.")
    if attributes is not None:
        branch, branch_fields = _attributes_to_transformers(attributes, state)
        state, fields = state | branch, branch_fields | fields
    config = BikeConfig.from_clip_config(clip_config, **fields)
    return load_strictly(BikeModel, config, state, source=str(checkpoint))


def _attributes_to_transformers(path: str | Path, video: StateDict) -> tuple[StateDict, dict[str, Any]]:
    """Rename the weights of the attributes branch; its text tower is left out if it equals that of the video branch."""
    clip, head = split_checkpoint(path, "BikeModel")
    if "query_fc.0.weight" not in head:
        raise ValueError(
            f"{path} is not an attributes branch: it lacks `query_fc`. Name the file of `train_attributes.py`."
        )
    branch = {f"attributes.{name}": tensor for name, tensor in head.items()}
    branch["attributes.logit_scale"] = clip["logit_scale"]
    tower = {name: t for name, t in clip_to_transformers(clip).items() if name.startswith(TEXT_TOWER)}
    shared = tower.keys() <= video.keys() and all(
        video[name].shape == tensor.shape and torch.equal(video[name], tensor) for name, tensor in tower.items()
    )
    if shared:
        return branch, {"attributes": "shared"}
    config = infer_clip_config(clip)
    branch |= {f"attributes.{name}": tensor for name, tensor in tower.items()}
    sizes = {"attribute_text_config": config.text_config.to_dict(), "attribute_projection_dim": config.projection_dim}
    return branch, {"attributes": "own", **sizes}
