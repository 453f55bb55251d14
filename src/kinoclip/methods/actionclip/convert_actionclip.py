"""ActionCLIP's official checkpoints: what they hold, and where it goes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kinoclip.conversion import (
    StateDict,
    clip_to_transformers,
    infer_clip_config,
    load_strictly,
    read_checkpoint,
    split_attention,
    strip_prefix,
)

from .configuration_actionclip import ActionClipConfig
from .modeling_actionclip import ActionClipModel

# what a head's names begin with in the official code, and its kind here
_HEADS = {
    "transformer.resblocks.": "transformer",
    "transformer.transformer_enc.": "transformer_cls",
    "lstm_visual.": "lstm",
    "shift.": "conv1d",
}
_TABLE = "frame_position_embeddings.weight"
_RENAMED = (
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
    """Build ActionCLIP from an official checkpoint; the kind of its temporal head is read off the names in it.

    Args:
        checkpoint: `model_state_dict` and `fusion_model_state_dict`, as `train.py` writes them.
        fields: config fields that a checkpoint does not tell, such as `num_frames`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no ActionCLIP checkpoint, or weights are missing or left over.
    """
    clip, head = _read_parts(checkpoint)
    shifted = {re.sub(r"^(visual\.transformer\.resblocks\.\d+)\.net\.", r"\1.", name): t for name, t in clip.items()}
    config = infer_clip_config(shifted)
    state = clip_to_transformers(shifted) | _head_to_transformers(head)
    inferred = {"temporal_shift": shifted.keys() != clip.keys(), **_describe_head(head)}
    config = ActionClipConfig.from_clip_config(config, **{**inferred, **fields})
    return load_strictly(ActionClipModel, config, state, source=str(checkpoint))


def _read_parts(path: str | Path) -> tuple[StateDict, StateDict]:
    """Split a checkpoint in its CLIP and its head, without any `module.` in the names."""
    content = read_checkpoint(path)
    parts = [content.get(name) for name in ("model_state_dict", "fusion_model_state_dict")]
    if not all(isinstance(part, Mapping) for part in parts):
        raise ValueError(
            f"{path} is no ActionCLIP checkpoint: it has no `model_state_dict` and `fusion_model_state_dict`, but "
            f"{', '.join(map(str, list(content)[:4]))}. For a plain CLIP file use `ActionClipModel.from_clip`."
        )
    clip, head = (strip_prefix(part) for part in parts)
    return clip, head


def _kind_of(head: Mapping[str, Tensor]) -> str:
    """Tell the kind of a temporal head; one without weights is a mean."""
    kinds = [kind for start, kind in _HEADS.items() if any(name.startswith(start) for name in head)]
    return kinds[0] if kinds else "mean"


def _describe_head(head: Mapping[str, Tensor]) -> dict[str, Any]:
    """Give the config fields that follow from a head's weights."""
    fields: dict[str, Any] = {"temporal_head": _kind_of(head)}
    layers = {match[1] for name in head if (match := re.search(r"\.(?:resblocks|layers)\.(\d+)\.", name))}
    if layers:
        fields["temporal_layers"] = len(layers)
    if "transformer.pos_embed" in head:  # one position is the class token's
        fields["num_frames"] = head["transformer.pos_embed"].shape[1] - 1
    return fields


def _head_to_transformers(head: Mapping[str, Tensor]) -> StateDict:
    """Name the weights of a temporal head as here."""
    # The official code makes this table for every head, and only `Transf` reads it.
    kept = {name: t for name, t in head.items() if name != _TABLE or _kind_of(head) in ("transformer", "mean")}
    # torch's own encoder says `self_attn` where CLIP says `attn`
    kept = {name.replace(".self_attn.", ".attn."): tensor for name, tensor in kept.items()}
    renamed: StateDict = {}
    for name, tensor in split_attention(kept).items():
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        if name in ("class_embedding", "position_embedding.weight") and tensor.ndim == 3:
            tensor = tensor[0]  # (1, T + 1, D), made to be added to a batch
        renamed[f"temporal_head.{name}"] = tensor
    return renamed
