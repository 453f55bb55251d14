"""TAM's official checkpoints: what they hold, and where it goes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kinoclip.conversion import StateDict, load_strictly, read_checkpoint, strip_prefix

from .configuration_tam import STAGES, TamConfig
from .modeling_tam import TamModel

_TAPS = {"prev_se": 0, "curr_se": 1, "next_se": 2}


def convert_tam(checkpoint: str | Path, **fields: Any) -> TamModel:
    """Build TAM from an official checkpoint of ResNet-TAM.

    Args:
        checkpoint: the official file, with a `state_dict`; sizes are read off its tensors.
        fields: config fields that a checkpoint does not tell: `num_frames`, `blending`, `temporal_pooling`, `id2label`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no such checkpoint, or weights are missing or left over.
    """
    content = read_checkpoint(checkpoint)
    state = content.get("state_dict")
    if not isinstance(state, Mapping):
        raise ValueError(
            f"{checkpoint} is no TAM checkpoint: it has no `state_dict`, but {', '.join(map(str, list(content)[:4]))}."
        )
    state = {_rename(name): tensor for name, tensor in strip_prefix(state).items()}
    inferred = infer_tam_fields(state, str(checkpoint))
    if "id2label" in fields:
        del inferred["num_labels"]  # names tell the number too, and Transformers would let the number win
    config = TamConfig(**{**inferred, **fields})
    return load_strictly(TamModel, config, state, source=str(checkpoint))


def _rename(name: str) -> str:
    """Give the name here of an official weight: `tam.{prev_se,...}.fc1` and `tam.blending_layers.k.fc1` are taps."""
    name = re.sub(r"\.tam\.(prev_se|curr_se|next_se)\.fc1\.", lambda found: f".tam.taps.{_TAPS[found[1]]}.", name)
    return re.sub(r"\.tam\.blending_layers\.(\d+)\.fc1\.", r".tam.taps.\1.", name)


def infer_tam_fields(state: StateDict, source: str) -> dict[str, Any]:
    """Read the sizes of a ResNet-TAM off its tensors, which have the names they have here.

    Raises:
        ValueError: the tensors are not those of a ResNet-TAM.
    """
    needed = ("conv1.weight", "fc.weight", *(f"layer{stage}.0.conv1.weight" for stage in range(1, 5)))
    missing = [name for name in (*needed, "layer1.0.tam.taps.0.weight") if name not in state]
    if missing:
        raise ValueError(f"{source} is no ResNet-TAM: it has no {missing[0]!r}.")
    block = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    blocks = [_count(state, rf"layer{stage}\.(\d+)\.") for stage in range(1, 5)]
    known = [depth for depth in STAGES if list(STAGES[depth]) == blocks and (depth < 50) == (block == "basic")]
    return {
        **({"depth": known[0]} if known else {"block": block, "stage_blocks": blocks}),
        "stage_widths": [state[f"layer{stage}.0.conv1.weight"].shape[0] for stage in range(1, 5)],
        "stem_width": state["conv1.weight"].shape[0],
        "blending_frames": _count(state, r"layer1\.0\.tam\.taps\.(\d+)\."),
        "dense_blending": _is_dense(state["layer1.0.tam.taps.0.weight"]),
        "num_labels": state["fc.weight"].shape[0],
    }


def _count(state: StateDict, pattern: str) -> int:
    return len({found[1] for name in state if (found := re.match(pattern, name))})


def _is_dense(weight: Tensor) -> bool:
    return weight.shape[1] > 1
