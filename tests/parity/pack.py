"""Shrink a folder of tensors, recorded from a method's official code, to shards that can be committed.

    python tests/parity/pack.py FOLDER NAME [REGEX]

Only keys that match REGEX are kept. FOLDER holds `checkpoint*.pt`, maybe the text tower alone as `clip_text.pt`, `inputs.safetensors`, `outputs.safetensors` and `meta.json`. Tensors whose values fit half
precision exactly (CLIP's weights) are stored so; the others keep float32. `conftest.load_recording` undoes both.
"""

import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

LIMIT_BYTES = 290_000
RECORDINGS = Path(__file__).parent / "recordings"


def main(folder: Path, name: str, only: str = "") -> None:
    tensors, meta = collect(folder)
    # what is inside of a tower is recorded as "dbg."; it is kept only where a regex asks for it
    only = only or r"^(?!outputs/dbg\.)"
    tensors = _split_large({key: tensor for key, tensor in tensors.items() if re.search(only, key)})
    shards: list[dict[str, torch.Tensor]] = [{}]
    for key, tensor in tensors.items():
        packed = _pack(tensor)
        if _size(shards[-1]) + packed.nbytes > LIMIT_BYTES:
            shards.append({})
        shards[-1][key] = packed
    for number, shard in enumerate(shards):
        path = RECORDINGS / f"{name}-{number}.safetensors"
        save_file(shard, path, metadata={"meta": json.dumps(meta)} if number == 0 else None)
        print(path.name, path.stat().st_size)


def collect(folder: Path) -> tuple[dict[str, torch.Tensor], dict]:
    meta = json.loads((folder / "meta.json").read_text())
    tensors = {}
    for path in sorted(folder.glob("checkpoint*.pt")):
        content = torch.load(path, weights_only=True)
        if all(isinstance(value, torch.Tensor) for value in content.values()):  # of single modules
            content = {"state_dict": content}
        for part, state in content.items():
            if part.endswith("state_dict") and not part.startswith("optimizer"):
                tensors |= {f"{path.stem}/{part}/{key}": tensor for key, tensor in state.items()}
    text_tower = folder / "clip_text.pt"
    if text_tower.exists():
        state = torch.load(text_tower, weights_only=True)
        tensors |= {f"clip_text/state_dict/{key}": tensor for key, tensor in state.items()}
    for kind in ("inputs", "outputs"):
        path = folder / f"{kind}.safetensors"
        found = load_file(path) if path.exists() else {}
        tensors |= {f"{kind}/{key}": tensor for key, tensor in found.items()}
    names = ("method", "config", "notes", "official_calls", "solver", "scale", "match_cases", "runs", "parse_r")
    return tensors, {key: meta[key] for key in names if key in meta}


def _split_large(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Cut tensors that are larger than a shard along their first axis; parts are named KEY#0, KEY#1."""
    split = {}
    for key, tensor in tensors.items():
        count = -(-_pack(tensor).nbytes // LIMIT_BYTES)
        parts = [tensor] if count <= 1 or tensor.ndim == 0 else tensor.chunk(count)
        split |= {key if len(parts) == 1 else f"{key}#{i}": part for i, part in enumerate(parts)}
    return split


def _pack(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.contiguous().clone()
    if tensor.dtype == torch.float32 and torch.equal(tensor.half().float(), tensor):
        return tensor.half()
    if tensor.dtype == torch.int64 and torch.equal(tensor.int().long(), tensor):
        return tensor.int()
    return tensor


def _size(shard: dict[str, torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in shard.values())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
