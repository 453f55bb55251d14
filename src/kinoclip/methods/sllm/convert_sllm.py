"""Conversion of SLLM's official checkpoints."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kinoclip.methods.sllm.configuration_sllm import SllmConfig
from kinoclip.methods.sllm.modeling_sllm import SllmModel
from kinoclip.modeling.checkpoints import (
    ReadCheckpoint,
    StateDict,
    count_parts,
    load_strictly,
    read_checkpoint,
    split_attention,
)
from kinoclip.modeling.recognizer import VideoRecognizer

_OWN = "restore_"


def convert_sllm(
    checkpoint: str | Path,
    clip: str | Path | None = None,
    *,
    convert_wrapped: Callable[..., VideoRecognizer],
    **fields: Any,
) -> SllmModel:
    """Build SLLM from the official checkpoint of `train.py`: `visual.*`, `fusion_model.*` and `restore_*`.

    Args:
        checkpoint: the official file.
        clip: the CLIP that training started from, whose text tower the checkpoint lacks.
        convert_wrapped: converts the part of the wrapped recognizer, which is Text4Vis in the official code.
        fields: config fields of SLLM or of the wrapped recognizer.
    """
    content = read_checkpoint(checkpoint)
    official = content.get("model_state_dict")
    if not isinstance(official, Mapping) or not any(name.startswith(_OWN) for name in official):
        raise ValueError(
            f"{checkpoint} is not an SLLM checkpoint: it must hold `model_state_dict` with `{_OWN}*`. If it is one of the "
            "recognizer without SLLM, convert it as that."
        )
    rest = {name: tensor for name, tensor in official.items() if not name.startswith(_OWN)}
    own = {name: fields.pop(name) for name in SllmConfig.settings() if name in fields}
    fields |= {name: own[name] for name in ("num_frames",) if name in own}
    wrapped = convert_wrapped(ReadCheckpoint({**content, "model_state_dict": rest}, checkpoint), clip, **fields)
    restorer = _restorer_to_transformers({name: t for name, t in official.items() if name.startswith(_OWN)})
    layers = count_parts(restorer, r"restorer\.encoder\.layers\.(\d+)\.")
    config = SllmConfig(recognizer_config=wrapped.config, **{"restorer_layers": layers, **own})
    state = {f"recognizer.{name}": tensor for name, tensor in wrapped.state_dict().items()} | restorer
    return load_strictly(SllmModel, config, state, source=str(checkpoint))


def _restorer_to_transformers(official: Mapping[str, Any]) -> StateDict:
    renamed: StateDict = {}
    for name, tensor in split_attention(official).items():
        name = re.sub(r"^restore_model\.resblocks\.", "restorer.encoder.layers.", name)
        renamed[name.replace("restore_frame_position_embeddings.", "restorer.position_embedding.")] = tensor
    return renamed
