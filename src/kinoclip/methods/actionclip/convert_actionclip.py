"""Conversion of ActionCLIP's official checkpoints."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kinoclip.methods.actionclip.configuration_actionclip import ActionClipConfig
from kinoclip.methods.actionclip.modeling_actionclip import ActionClipModel
from kinoclip.modeling.checkpoints import (
    StateDict,
    clip_to_transformers,
    count_parts,
    infer_clip_config,
    load_strictly,
    rename,
    split_attention,
    split_checkpoint,
)

# prefix of a head's names in the official code, and its kind here
_HEADS = {
    "transformer.resblocks.": "transformer",
    "transformer.transformer_enc.": "transformer_cls",
    "lstm_visual.": "lstm",
    "shift.": "conv1d",
}
_TABLE = "frame_position_embeddings.weight"
_NAMES = (
    (r"^frame_position_embeddings\.", "position_embedding."),
    (r"^transformer\.resblocks\.", "encoder.layers."),
    (r"^transformer\.transformer_enc\.layers\.", "encoder.layers."),
    (r"^transformer\.transformer_enc\.norm\.", "layer_norm."),
    (r"^transformer\.cls_token$", "class_embedding"),
    (r"^transformer\.pos_embed$", "position_embedding.weight"),
    (r"\.linear1\.", ".mlp.fc1."),
    (r"\.linear2\.", ".mlp.fc2."),
    (r"\.norm1\.", ".layer_norm1."),
    (r"\.norm2\.", ".layer_norm2."),
    (r"^lstm_visual\.", "lstm."),
    (r"^shift\.", "conv."),
)


def convert_actionclip(checkpoint: str | Path, **fields: Any) -> ActionClipModel:
    """Build ActionCLIP from the official checkpoint of `train.py`; the kind of its temporal head is inferred from names.

    `fields` are config fields that cannot be inferred from a checkpoint, such as `num_frames`.
    """
    clip, head = split_checkpoint(checkpoint, "ActionClipModel")
    plain = {re.sub(r"^(visual\.transformer\.resblocks\.\d+)\.net\.", r"\1.", name): t for name, t in clip.items()}
    config = infer_clip_config(plain)
    state = clip_to_transformers(plain) | _head_to_transformers(head)
    inferred = {"temporal_shift": "none" if plain.keys() == clip.keys() else "tsm", **_describe_head(head)}
    config = ActionClipConfig.from_clip_config(config, **{**inferred, **fields})
    return load_strictly(ActionClipModel, config, state, source=str(checkpoint))


def _find_kind(head: Mapping[str, Tensor]) -> str:
    """Return the kind of a temporal head; one without weights is a mean."""
    kinds = [kind for start, kind in _HEADS.items() if any(name.startswith(start) for name in head)]
    return kinds[0] if kinds else "mean"


def _describe_head(head: Mapping[str, Tensor]) -> dict[str, Any]:
    fields: dict[str, Any] = {"temporal_head": _find_kind(head)}
    layers = count_parts(head, r".*\.(?:resblocks|layers)\.(\d+)\.")
    if layers:
        fields["temporal_layers"] = layers
    if "transformer.pos_embed" in head:  # one position is the class token's
        fields["num_frames"] = head["transformer.pos_embed"].shape[1] - 1
    return fields


def _head_to_transformers(head: Mapping[str, Tensor]) -> StateDict:
    # the official code makes this table for every head, and only `Transf` reads it
    kept = {name: t for name, t in head.items() if name != _TABLE or _find_kind(head) in ("transformer", "mean")}
    # torch's own encoder has `self_attn` where CLIP has `attn`
    kept = {name.replace(".self_attn.", ".attn."): tensor for name, tensor in kept.items()}
    renamed: StateDict = {}
    for name, tensor in split_attention(kept).items():
        name = rename(name, _NAMES)
        if name in ("class_embedding", "position_embedding.weight") and tensor.ndim == 3:
            tensor = tensor[0]  # (1, T + 1, D), made to be added to a batch
        renamed[f"temporal_head.{name}"] = tensor
    return renamed
