"""Conversion of TAM's official checkpoints."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kinoclip.methods.tam.configuration_tam import STAGES, TamConfig
from kinoclip.methods.tam.modeling_tam import TamModel
from kinoclip.modeling.checkpoints import StateDict, count_parts, load_strictly, read_checkpoint, strip_prefix

_TAPS = {"prev_se": 0, "curr_se": 1, "next_se": 2}


def convert_tam(checkpoint: str | Path, **fields: Any) -> TamModel:
    """Build TAM from an official checkpoint of ResNet-TAM; sizes are inferred from its tensors.

    `fields` are config fields that cannot be inferred from a checkpoint, such as `num_frames`,
    `blending`, `temporal_pooling` or `id2label`.
    """
    content = read_checkpoint(checkpoint)
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        raise ValueError(
            f"{checkpoint} is not a TAM checkpoint: it must hold `state_dict`, got {', '.join(map(str, list(content)[:4]))}."
        )
    state = {_rename(name): tensor for name, tensor in strip_prefix(state).items()}
    inferred = infer_tam_fields(state, str(checkpoint))
    if "id2label" in fields:
        del inferred["num_labels"]  # Transformers would prefer the number to the names
    config = TamConfig(**{**inferred, **fields})
    return load_strictly(TamModel, config, state, source=str(checkpoint))


def _rename(name: str) -> str:
    """Rename an official weight: `tam.{prev_se,...}.fc1` and `tam.blending_layers.k.fc1` are taps."""
    name = re.sub(r"\.tam\.(prev_se|curr_se|next_se)\.fc1\.", lambda found: f".tam.taps.{_TAPS[found[1]]}.", name)
    return re.sub(r"\.tam\.blending_layers\.(\d+)\.fc1\.", r".tam.taps.\1.", name)


def infer_tam_fields(state: StateDict, source: str) -> dict[str, Any]:
    """Infer config fields from the tensors of a ResNet-TAM, which are already renamed."""
    needed = ("conv1.weight", "fc.weight", *(f"layer{stage}.0.conv1.weight" for stage in range(1, 5)))
    missing = [name for name in (*needed, "layer1.0.tam.taps.0.weight") if name not in state]
    if missing:
        raise ValueError(f"{source} is not a ResNet-TAM: it lacks {missing[0]!r}.")
    block = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    blocks = [count_parts(state, rf"layer{stage}\.(\d+)\.") for stage in range(1, 5)]
    known = [depth for depth in STAGES if list(STAGES[depth]) == blocks and (depth < 50) == (block == "basic")]
    return {
        **({"depth": known[0]} if known else {"block": block, "stage_blocks": blocks}),
        "stage_widths": [state[f"layer{stage}.0.conv1.weight"].shape[0] for stage in range(1, 5)],
        "stem_width": state["conv1.weight"].shape[0],
        "blending_frames": count_parts(state, r"layer1\.0\.tam\.taps\.(\d+)\."),
        "dense_blending": state["layer1.0.tam.taps.0.weight"].shape[1] > 1,
        "num_labels": state["fc.weight"].shape[0],
    }
