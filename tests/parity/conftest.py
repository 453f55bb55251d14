"""Tensors recorded from the official code: small committed recordings, or the whole folders with `--goldens DIR`."""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from kinoclip.modeling.checkpoints import clip_to_transformers, head_to_transformers

from .pack import RECORDINGS, collect, scaled

Tensors = dict[str, Tensor]


@dataclass
class Golden:
    """One recording: inputs, outputs, and checkpoints in the authors' format."""

    meta: dict
    inputs: Tensors = field(default_factory=dict)
    outputs: Tensors = field(default_factory=dict)
    checkpoints: dict[str, dict[str, Tensors]] = field(default_factory=dict)

    @property
    def config(self) -> dict:
        return self.meta["config"]

    def write(self, folder: Path, name: str = "checkpoint") -> Path:
        """Write a checkpoint as the authors' code does."""
        path = folder / f"{name}.pt"
        parts = self.checkpoints[name]
        torch.save({"epoch": 0, "fusion_model_state_dict": {}, "optimizer_state_dict": {}, **parts}, path)
        return path

    def pixels(self) -> Tensor:
        """Return the frames (B, T, 3, H, W); the official layout stacks frames in channels."""
        return self.inputs["images"].unflatten(1, (-1, 3))


@pytest.fixture(scope="session")
def load_golden(request: pytest.FixtureRequest) -> Callable[[str], Golden]:
    folder = request.config.getoption("--goldens")

    def load(name: str) -> Golden:
        if folder is not None and (Path(folder) / f"{name}_a").is_dir():
            return _sort(*collect(Path(folder) / f"{name}_a"))
        shards = sorted(RECORDINGS.glob(f"{name}-*.safetensors"))
        if not shards:
            pytest.skip(f"{name} is not committed; give its folder with --goldens")
        return _load_shards(shards)

    return load


def reload(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Save a model and load it by the Auto class."""
    model.save_pretrained(folder)
    loaded, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    return loaded.eval()


def rename_bike(tensors: Tensors, prefix: str) -> Tensors:
    """Return recorded tensors of BIKE, named `model.*` and `head.*` after `prefix`, under the names that they have here."""
    recorded = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    clip = {name.removeprefix("model."): t for name, t in recorded.items() if name.startswith("model.")}
    head = {name.removeprefix("head."): t for name, t in recorded.items() if name.startswith("head.")}
    renamed = clip_to_transformers(clip) | head_to_transformers(head)
    assert len(renamed) >= len(recorded) > 0
    return renamed


def _load_shards(shards: list[Path]) -> Golden:
    tensors: Tensors = {}
    meta: dict = {}
    for shard in shards:
        with safe_open(shard, "pt") as file:
            if "meta" in (file.metadata() or {}):
                meta = json.loads(file.metadata()["meta"])
            tensors |= {key: _unpack(file.get_tensor(key)) for key in file.keys()}  # noqa: SIM118
    parts = defaultdict(dict)
    for key in [key for key in tensors if "#" in key]:
        parts[key.partition("#")[0]][int(key.partition("#")[2])] = tensors.pop(key)
    tensors |= {key: torch.cat([pieces[i] for i in sorted(pieces)]) for key, pieces in parts.items()}
    for chain in meta.pop("drawn", ()):
        generator = torch.Generator().manual_seed(chain["seed"])
        for key, shape, scale, offset in chain["draws"]:
            values = torch.randn(shape, generator=generator)
            tensors |= {key: scaled(values, scale, offset)} if key else {}
    return _sort(tensors, meta)


def _unpack(tensor: Tensor) -> Tensor:
    return {torch.float16: tensor.float, torch.int32: tensor.long}.get(tensor.dtype, tensor.clone)()


def _sort(tensors: Tensors, meta: dict) -> Golden:
    golden = Golden(meta)
    for key, tensor in tensors.items():
        first, _, rest = key.partition("/")
        if first in ("inputs", "outputs"):
            getattr(golden, first)[rest] = tensor
        else:
            part, _, name = rest.partition("/")
            golden.checkpoints.setdefault(first, {}).setdefault(part, {})[name] = tensor
    return golden
