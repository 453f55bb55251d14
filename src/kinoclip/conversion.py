"""Checkpoints in the authors' layouts: reading them safely, and the names that their weights have here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, PreTrainedConfig, PreTrainedModel

from kinoclip.torchscript import read_torchscript

StateDict = dict[str, Tensor]
Model = TypeVar("Model", bound=PreTrainedModel)

_BLOCK = (
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.ln_1\.", ".layer_norm1."),
    (r"\.ln_2\.", ".layer_norm2."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
_CLIP = (
    (r"^visual\.conv1\.weight$", "vision_model.embeddings.patch_embedding.weight"),
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),  # Transformers' own spelling
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^token_embedding\.weight$", "text_model.embeddings.token_embedding.weight"),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
)
# tensors that are (in, out) in OpenAI's layout and (out, in) in a torch Linear
_TRANSPOSED = ("visual.proj", "text_projection")
# shape records of OpenAI's released archives, not weights
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


class ReadCheckpoint(dict[str, Any]):
    """The content of a checkpoint that was read already, or a part of it; messages name its file."""

    def __init__(self, content: Mapping[str, Any], path: str | Path):
        super().__init__(content)
        self.path = path

    def __str__(self) -> str:
        return str(self.path)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Make one `ValueError` of a line of whatever a library says of a damaged file, with the name of the file."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{what} could not be read: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Give the first line of what an error says, as a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = " ".join(one.strip() for one in lines[: 2 if lines[0].endswith(":") else 1])
    line = f"there is no {line} in it" if isinstance(error, KeyError) else line
    return line if line.endswith((".", "!", "?")) else f"{line}."


def read_checkpoint(path: str | Path | ReadCheckpoint) -> dict[str, Any]:
    """Read a checkpoint file without running anything in it: .pt/.pth (plain or TorchScript archive) or .safetensors.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no checkpoint, is damaged, or holds more than tensors and plain values.
    """
    if isinstance(path, ReadCheckpoint):
        return path
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint file at {path}.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    if not isinstance(content, dict):
        raise ValueError(
            f"{path} holds no named tensors, but a {type(content).__name__}. Give a checkpoint's own file."
        )
    return content


def _read_safetensors(path: Path) -> StateDict:
    try:
        return load_file(path)
    except Exception as error:
        raise ValueError(f"{path} is no whole safetensors file: {first_line(error)} Download it again.") from error


def _read_pickled(path: Path) -> Any:
    archive = read_torchscript(path)
    if archive is not None:
        return {name: tensor for name, tensor in archive.items() if name not in _NOT_WEIGHTS}
    try:
        # only files in torch's zip format can be mapped instead of read
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:
        raise ValueError(
            f"{path} could not be read as a checkpoint of plain tensors: {first_line(error)} "
            "Nothing in it was run. Give a .pt/.pth file with weights only, or .safetensors."
        ) from error


def strip_prefix(state: Mapping[str, Tensor], prefix: str = "module.") -> StateDict:
    """Take every occurrence of `prefix` out of the names, as the official loaders do."""
    return {name.replace(prefix, ""): tensor for name, tensor in state.items()}


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def split_attention(state: Mapping[str, Tensor]) -> StateDict:
    """Turn fused `attn.in_proj_*` (3W, ...) into `self_attn.{q,k,v}_proj.*` and name the rest of a block as here."""
    renamed: StateDict = {}
    for name, tensor in state.items():
        fused = re.match(r"(.*)\.attn\.in_proj_(weight|bias)$", name)
        if fused is None:
            renamed[_rename(name, _BLOCK)] = tensor
            continue
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            renamed[f"{fused[1]}.self_attn.{letter}_proj.{fused[2]}"] = part.clone()
    return renamed


def head_to_transformers(state: Mapping[str, Tensor]) -> StateDict:
    """Name the weights of the official six-layer head over frames (`Transf`) as `temporal_head` here."""
    renamed: StateDict = {}
    for name, tensor in split_attention(state).items():
        name = re.sub(r"^transformer\.resblocks\.", "temporal_head.encoder.layers.", name)
        renamed[name.replace("frame_position_embeddings.", "temporal_head.position_embedding.")] = tensor
    return renamed


def clip_to_transformers(state: Mapping[str, Tensor]) -> StateDict:
    """Name the weights of a ViT CLIP in OpenAI's layout as Transformers' `CLIPModel` does; one-to-one."""
    plain = {
        name: t.T.contiguous() if name in _TRANSPOSED else t for name, t in state.items() if name not in _NOT_WEIGHTS
    }
    return {_rename(name, _CLIP): tensor for name, tensor in split_attention(plain).items()}


def _count_blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    found = {int(m[1]) for name in state if (m := re.match(rf"{re.escape(prefix)}(\d+)\.", name))}
    return len(found)


def infer_clip_config(state: Mapping[str, Tensor]) -> CLIPConfig:
    """Read the sizes of a ViT CLIP off its tensors (OpenAI's layout); heads are width / 64.

    Raises:
        ValueError: the tensors are not those of a ViT CLIP.
    """
    needed = ("visual.conv1.weight", "visual.proj", "visual.positional_embedding", "token_embedding.weight")
    missing = [name for name in needed if name not in state]
    if missing:
        kind = "a ResNet CLIP" if "visual.layer1.0.conv1.weight" in state else "no CLIP in OpenAI's layout"
        raise ValueError(f"The checkpoint is {kind}: it has no {missing[0]!r}. A ViT CLIP is needed here.")
    return CLIPConfig(
        text_config=infer_text_fields(state),
        vision_config=infer_vision_fields(state),
        projection_dim=state["visual.proj"].shape[1],
    )


def infer_text_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the sizes of a text tower off its tensors (OpenAI's layout).

    Raises:
        ValueError: the tensors are not those of a text tower.
    """
    first_block = "transformer.resblocks.0.mlp.c_fc.weight"
    needed = ("token_embedding.weight", "positional_embedding", "text_projection", first_block)
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(f"The checkpoint has no whole text tower of CLIP: it has no {missing[0]!r}.")
    vocab, width = state["token_embedding.weight"].shape
    return {
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": state[first_block].shape[0],
        "num_hidden_layers": _count_blocks(state, "transformer.resblocks."),
        "num_attention_heads": max(1, width // 64),
        "max_position_embeddings": state["positional_embedding"].shape[0],
        "projection_dim": state["text_projection"].shape[1],
        "bos_token_id": vocab - 2,
        "eos_token_id": vocab - 1,
        "pad_token_id": 0,
    }


def infer_vision_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Read the sizes of a ViT off its tensors (OpenAI's layout).

    Raises:
        ValueError: the tensors are not those of a ViT.
    """
    first_block = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    needed = ("visual.conv1.weight", "visual.proj", "visual.positional_embedding", first_block)
    missing = [name for name in needed if name not in state]
    if missing:
        raise ValueError(f"The checkpoint has no whole vision tower of CLIP: it has no {missing[0]!r}.")
    width, _, patch, _ = state["visual.conv1.weight"].shape
    grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    return {
        "hidden_size": width,
        "intermediate_size": state[first_block].shape[0],
        "num_hidden_layers": _count_blocks(state, "visual.transformer.resblocks."),
        "num_attention_heads": max(1, width // 64),
        "image_size": grid * patch,
        "patch_size": patch,
        "projection_dim": state["visual.proj"].shape[1],
    }


def load_strictly(model_class: type[Model], config: PreTrainedConfig, state: StateDict, source: str) -> Model:
    """Build a model from weights that must fit one-to-one: none missing, none left over, none of another shape.

    Raises:
        ValueError: they do not; the message names the first of each kind.
    """
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in model_class(config).state_dict().items()}
    faults = {
        "missing": sorted(expected.keys() - state.keys()),
        "left over": sorted(state.keys() - expected.keys()),
        "of another shape": sorted(n for n in expected.keys() & state.keys() if expected[n] != state[n].shape),
    }
    if any(faults.values()):
        said = "; ".join(f"{len(names)} {kind}, first {names[0]}" for kind, names in faults.items() if names)
        raise ValueError(
            f"{source} does not fit {model_class.__name__}: {said}. "
            "Was it trained with other options? Give them as config fields (`--set key=value`)."
        )
    return model_class.from_pretrained(None, config=config, state_dict=state, dtype=torch.float32)
