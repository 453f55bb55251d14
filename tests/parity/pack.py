"""Shrink a folder of tensors recorded from a method's official code to shards that can be committed.

    python tests/parity/pack.py FOLDER NAME [REGEX]

FOLDER holds `checkpoint*.pt`, optionally the text tower as `clip_text.pt`, `inputs.safetensors`, `outputs.safetensors` and
`meta.json`. Only keys that match REGEX are kept. Tensors that a seed draws again are not stored, values that fit half
precision exactly (CLIP's weights) are stored so, and the others in float32. `conftest.load_golden` undoes all of it.
"""

import json
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

LIMIT_BYTES = 290_000
RECORDINGS = Path(__file__).parent / "recordings"


# order in which weights were drawn: first these, then by prefix; further heads follow as they are saved
_FIRST = ("positional_embedding", "text_projection", "logit_scale")
_GROUPS = ("visual.", "transformer.", "token_embedding.", "ln_final.", "fusion_model.", "restore_model.")


def main(folder: Path, name: str, only: str = "") -> None:
    everything, meta = collect(folder)
    # intermediates of a tower are recorded as "dbg."; they are kept only where a regex names them
    only = only or r"^(?!outputs/dbg\.)"
    tensors = {key: tensor for key, tensor in everything.items() if re.search(only, key)}
    meta["drawn"] = find_draws(everything, tensors, json.loads((folder / "meta.json").read_text()))
    drawn = {key for chain in meta["drawn"] for key, *_ in chain["draws"]}
    tensors = _split_large({key: tensor for key, tensor in tensors.items() if key not in drawn})
    shards: list[dict[str, torch.Tensor]] = [{}]
    for key, tensor in tensors.items():
        packed = _pack(tensor)
        if _size(shards[-1]) + packed.nbytes > LIMIT_BYTES:
            shards.append({})
        shards[-1][key] = packed
    for path in RECORDINGS.glob(f"{name}-*.safetensors"):
        path.unlink()
    for number, shard in enumerate(shards):
        path = RECORDINGS / f"{name}-{number}.safetensors"
        save_file(shard, path, metadata={"meta": json.dumps(meta)} if number == 0 else None)
        print(path.name, path.stat().st_size)


def find_draws(everything: dict[str, torch.Tensor], kept: dict[str, torch.Tensor], meta: dict) -> list[dict]:
    """Find tensors that are normal numbers of a generator, scaled, or scaled and added to one.

    Weights may be drawn in succession from one seed, and an input from a seed of its own.
    """
    seed = meta.get("seed", meta["config"].get("seed") if isinstance(meta.get("config"), dict) else None)
    if seed is None:
        return []
    chains = []
    for key in [key for key in kept if key.startswith("inputs/") and kept[key].is_floating_point()]:
        for near in range(seed, seed + 10):
            draws = _draw_in_order({key: kept[key]}, kept, near)
            chains += [{"seed": near, "draws": draws}] if draws else []
    weights = {key: t for key, t in everything.items() if not key.startswith(("inputs/", "outputs/"))}
    draws = _draw_in_order(dict(sorted(weights.items(), key=lambda item: _rank(item[0]))), kept, seed)
    return chains + ([{"seed": seed, "draws": draws}] if draws else [])


def _rank(key: str) -> tuple[int, int]:
    name = key.partition("state_dict/")[2]
    if name in _FIRST:
        return 0, _FIRST.index(name)
    in_clip = "fusion_model_state_dict" not in key
    groups = [group for group in _GROUPS if name.startswith(group) and in_clip]
    return 1, _GROUPS.index(groups[0]) if groups else len(_GROUPS)


def _draw_in_order(tensors: dict[str, torch.Tensor], kept: dict[str, torch.Tensor], seed: int) -> list[list]:
    """Return [key, shape, scale, offset] of the tensors up to the last one that fits; the key is "" if it does not."""
    generator, draws = torch.Generator().manual_seed(seed), []
    for key, tensor in tensors.items():
        if not tensor.is_floating_point():
            continue
        values = torch.randn(tensor.shape, generator=generator)
        fit = _fit(tensor, values) if key in kept else None
        draws.append([key if fit else "", list(tensor.shape), *(fit or (0.0, 0.0))])
    while draws and not draws[-1][0]:
        draws.pop()
    return draws


def _fit(tensor: torch.Tensor, values: torch.Tensor) -> tuple[float, float] | None:
    if tensor.numel() < 4:
        return None
    for offset in (0.0, 1.0):
        scale = ((tensor - offset).double() / values.double()).median().item()
        # the last bit of a product may differ
        if torch.allclose(scaled(values, scale, offset), tensor, rtol=5e-7, atol=1e-8):
            return scale, offset
    return None


def scaled(values: torch.Tensor, scale: float, offset: float) -> torch.Tensor:
    return values * scale + offset if offset else values * scale


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
