"""Checkpoint files: reading them without running code, names and sizes in OpenAI's layout, strict loading.

`torch.jit.load` runs the `__setstate__` of every module in a TorchScript archive (OpenAI's release format), and that code
may write files. So the tensors of an archive are read by an unpickler of our own.
"""

from __future__ import annotations

import logging
import pickle
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from zipfile import ZIP_STORED, ZipFile, is_zipfile

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, PreTrainedConfig, PreTrainedModel
from transformers.utils.hub import cached_file

from kinoclip.text.parsing import load_json

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
# of an archive; the largest checkpoints have a few thousand tensors
_MAX_MEMBERS = 100_000
# What a zip archive may hold beyond its own size: code, which torch compresses. Tensors are stored as they are.
_MAX_INFLATED_BYTES = 1 << 24
# the files of weights that Transformers reads, in its order
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
# shape records of OpenAI's released archives, not weights
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


class ReadCheckpoint(dict[str, Any]):
    """The content of a checkpoint file, or a part of it; messages name the file."""

    def __init__(self, content: Mapping[str, Any], path: str | Path):
        super().__init__(content)
        self.path = path

    def __str__(self) -> str:
        return str(self.path)


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Turn an error of a library that reads a file into a `ValueError` of one line that names the file."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{what} could not be read: {first_line(error)}") from error


@contextmanager
def without_load_report() -> Iterator[None]:
    """Leave out the table that Transformers logs of weights that a checkpoint lacks, where they are known and initialized."""
    logger = logging.getLogger("transformers.modeling_utils")

    def keep(record: logging.LogRecord) -> bool:
        return "LOAD REPORT" not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message as a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = " ".join(one.strip() for one in lines[: 2 if lines[0].endswith(":") else 1])
    line = f"it lacks {line}" if isinstance(error, KeyError) else line
    return line if line.endswith((".", "!", "?")) else f"{line}."


def read_checkpoint(path: str | Path | ReadCheckpoint) -> dict[str, Any]:
    """Read a .pt, .pth (plain or TorchScript) or .safetensors file without running code in it.

    Raises:
        FileNotFoundError, ValueError: the file does not exist, is damaged, or holds more than tensors and plain values.
    """
    if isinstance(path, ReadCheckpoint):
        return path
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The checkpoint {path} does not exist.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold named tensors, got a {type(content).__name__}. Name a checkpoint file.")
    return content


def _read_safetensors(path: Path) -> StateDict:
    try:
        return load_file(path)
    except Exception as error:
        raise ValueError(f"{path} is not a whole safetensors file: {first_line(error)} Download it again.") from error


def _read_pickled(path: Path) -> Any:
    if is_zipfile(path):
        _check_archive(path)
    archive = read_torchscript(path)
    if archive is not None:
        return {name: tensor for name, tensor in archive.items() if name not in _NOT_WEIGHTS}
    try:
        # only files in torch's zip format can be mapped instead of read
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:
        raise ValueError(
            f"{path} could not be read as a checkpoint of plain tensors: {first_line(error)} "
            "None of its code was run. Name a .pt/.pth file with weights only, or a .safetensors file."
        ) from error


def read_shapes(source: str | Path) -> dict[str, tuple[int, ...]]:
    """Read the names and shapes of the weights in a folder or hub id from the headers of its files.

    Raises:
        ValueError: a file is missing, damaged, or lies outside of the folder.
    """
    with naming(f"The weights in {source}"):
        for name in _WEIGHTS:
            index = _find_file(source, f"{name}.index.json")
            single = None if index is not None else _find_file(source, name)
            if index is None and single is None:
                continue
            parts = [name]
            if index is not None:
                parts = sorted(set(load_json(index.read_text(encoding="utf-8"))["weight_map"].values()))
                if any(Path(part).anchor or ".." in Path(part).parts for part in parts):
                    raise ValueError("the list of weights names a file outside of the folder.")
            return dict(pair for part in parts for pair in _read_header(_find_file(source, part), part))
        raise ValueError(f"it has neither {' nor '.join(_WEIGHTS)}.")


def _find_file(source: str | Path, name: str) -> Path | None:
    found = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False)
    return None if found is None else Path(found)


def _read_header(path: Path | None, name: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    if path is None:
        raise ValueError(f"it lacks {name}.")
    if path.suffix != ".safetensors":
        yield from ((key, tuple(tensor.shape)) for key, tensor in read_checkpoint(path).items())
        return
    with safe_open(path, "pt") as file:
        for key in file.keys():  # noqa: SIM118, it is not a dict
            yield key, tuple(file.get_slice(key).get_shape())


def _check_archive(path: Path) -> None:
    """Raise a `ValueError` if a zip archive would take far more memory than disk, before anything in it is read."""
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:
        raise ValueError(f"{path} is not a valid archive: {first_line(error)} Download it again.") from error
    if len(members) > _MAX_MEMBERS:
        raise ValueError(
            f"{path} must have at most {_MAX_MEMBERS} members, got {len(members)}. It is not a checkpoint."
        )
    inflated = sum(member.file_size for member in members if member.compress_type != ZIP_STORED)
    total = sum(member.file_size for member in members)
    if inflated > _MAX_INFLATED_BYTES or total > path.stat().st_size + _MAX_INFLATED_BYTES:
        raise ValueError(
            f"{path} holds {total} bytes in a file of {path.stat().st_size}. A checkpoint's tensors are not compressed; "
            "download it again."
        )


def read_torchscript(path: str | Path) -> dict[str, Tensor] | None:
    """Read the parameters and buffers of a TorchScript archive by their dotted names; None for another kind of file."""
    if not is_zipfile(path):
        return None
    state: dict[str, Tensor] = {}
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
            root = next((name.partition("/")[0] for name in names if name.endswith("/constants.pkl")), None)
            if root is None:
                return None
            with archive.open(f"{root}/data.pkl") as file:
                reader = _Reader(file, lambda key: archive.read(f"{root}/data/{key}"), Path(path).stat().st_size)
                module = reader.load()
        _collect(module, "", state)
    except Exception as error:
        raise ValueError(
            f"{path} is not a valid TorchScript archive: {first_line(error)} Download it again."
        ) from error
    return state


class _Module:
    """The attributes of a scripted module, without its code."""

    content: Any = None

    def __setstate__(self, content: Any) -> None:
        self.content = content


class _Reader(pickle.Unpickler):
    """Unpickle modules and tensors; everything else raises an error."""

    def __init__(self, file: Any, read_storage: Callable[[str], bytes], archive_bytes: int):
        super().__init__(file)
        self._read_storage = read_storage
        # tensors that share a storage are copied, so a small archive can hold many large ones
        self._bytes_left = 4 * archive_bytes + _MAX_INFLATED_BYTES
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # marks on lists and dicts
            return _keep_first
        raise pickle.UnpicklingError(f"it holds {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        if key not in self._storages:
            self._storages[key] = torch.frombuffer(bytearray(self._read_storage(key)), dtype=dtype)
        return self._storages[key]

    def _rebuild_tensor(self, storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
        view = storage.as_strided(size, stride, offset)
        if view.numel() > storage.numel():  # a stride of zero makes terabytes of a byte
            raise ValueError(f"a tensor of {view.numel()} values in a storage of {storage.numel()}")
        self._bytes_left -= view.nbytes
        if self._bytes_left < 0:
            raise ValueError("its tensors are larger than the file")
        return view.clone()


def _keep_first(value: Any, *_: Any) -> Any:
    return value


def _collect(module: Any, prefix: str, state: dict[str, Tensor]) -> None:
    """Add the tensors of a module and its submodules to `state`."""
    content = module.content if isinstance(module, _Module) else None
    for name, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, Tensor):
            state[f"{prefix}{name}"] = value
        elif isinstance(value, _Module):
            _collect(value, f"{prefix}{name}.", state)


def strip_prefix(state: Mapping[str, Tensor]) -> StateDict:
    """Remove every `module.` from the names, as the official loaders do."""
    return {name.replace("module.", ""): tensor for name, tensor in state.items()}


def rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    """Apply regular expressions and their replacements in order."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def split_attention(state: Mapping[str, Tensor]) -> StateDict:
    """Split fused `attn.in_proj_*` (3W, ...) into `self_attn.{q,k,v}_proj.*` and rename the rest of each block."""
    renamed: StateDict = {}
    for name, tensor in state.items():
        fused = re.match(r"(.*)\.attn\.in_proj_(weight|bias)$", name)
        if fused is None:
            renamed[rename(name, _BLOCK)] = tensor
            continue
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            renamed[f"{fused[1]}.self_attn.{letter}_proj.{fused[2]}"] = part.clone()
    return renamed


def head_to_transformers(state: Mapping[str, Tensor]) -> StateDict:
    """Rename the weights of the official six-layer head over frames (`Transf`) to `temporal_head.*`."""
    renamed: StateDict = {}
    for name, tensor in split_attention(state).items():
        name = re.sub(r"^transformer\.resblocks\.", "temporal_head.encoder.layers.", name)
        renamed[name.replace("frame_position_embeddings.", "temporal_head.position_embedding.")] = tensor
    return renamed


def clip_to_transformers(state: Mapping[str, Tensor]) -> StateDict:
    """Rename the weights of a ViT CLIP from OpenAI's layout to that of Transformers' `CLIPModel`, one-to-one."""
    plain = {
        name: t.T.contiguous() if name in _TRANSPOSED else t for name, t in state.items() if name not in _NOT_WEIGHTS
    }
    return {rename(name, _CLIP): tensor for name, tensor in split_attention(plain).items()}


def split_checkpoint(path: str | Path | ReadCheckpoint, model: str) -> tuple[StateDict, StateDict]:
    """Read an official checkpoint of a CLIP and a temporal head, without any `module.` in the names.

    Raises:
        ValueError: it lacks `model_state_dict` or `fusion_model_state_dict`; the message names `model`, the method's class.
    """
    content = read_checkpoint(path)
    clip, head = (content.get(name) for name in ("model_state_dict", "fusion_model_state_dict"))
    if not isinstance(clip, Mapping) or not isinstance(head, Mapping):
        raise ValueError(
            f"{path} is not a checkpoint of {model.removesuffix('Model')}: it must hold `model_state_dict` and "
            f"`fusion_model_state_dict`, got {', '.join(map(str, list(content)[:4]))}. For a plain CLIP file use "
            f"`{model}.from_clip`."
        )
    return strip_prefix(clip), strip_prefix(head)


def count_parts(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count the different values of a pattern's first group in the beginnings of the names."""
    return len({found[1] for name in state if (found := re.match(pattern, name))})


def infer_clip_config(state: Mapping[str, Tensor]) -> CLIPConfig:
    """Infer the config of a ViT CLIP from its tensors (OpenAI's layout); heads are width / 64."""
    needed = ("visual.conv1.weight", "visual.proj", "visual.positional_embedding", "token_embedding.weight")
    missing = [name for name in needed if name not in state]
    if missing:
        kind = "a ResNet CLIP" if "visual.layer1.0.conv1.weight" in state else "not a CLIP in OpenAI's layout"
        raise ValueError(f"The checkpoint is {kind}: it lacks {missing[0]!r}. A ViT CLIP is needed here.")
    return CLIPConfig(
        text_config=infer_text_fields(state),
        vision_config=infer_vision_fields(state),
        projection_dim=state["visual.proj"].shape[1],
    )


def infer_text_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the config fields of a text tower from its tensors (OpenAI's layout)."""
    _check_tower(state, "text", "", "token_embedding.weight", "positional_embedding", "text_projection")
    vocab, width = state["token_embedding.weight"].shape
    return {
        **_infer_blocks(state, "", width),
        "vocab_size": vocab,
        "max_position_embeddings": state["positional_embedding"].shape[0],
        "projection_dim": state["text_projection"].shape[1],
        "bos_token_id": vocab - 2,
        "eos_token_id": vocab - 1,
        "pad_token_id": 0,
    }


def infer_vision_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer the config fields of a ViT from its tensors (OpenAI's layout)."""
    needed = ("visual.conv1.weight", "visual.proj", "visual.positional_embedding")
    _check_tower(state, "vision", "visual.", *needed)
    width, _, patch, _ = state["visual.conv1.weight"].shape
    grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    return {
        **_infer_blocks(state, "visual.", width),
        "image_size": grid * patch,
        "patch_size": patch,
        "projection_dim": state["visual.proj"].shape[1],
    }


def _check_tower(state: Mapping[str, Tensor], tower: str, prefix: str, *needed: str) -> None:
    missing = [name for name in (*needed, f"{prefix}transformer.resblocks.0.mlp.c_fc.weight") if name not in state]
    if missing:
        raise ValueError(f"The checkpoint lacks {missing[0]!r} of CLIP's {tower} tower. Name a whole CLIP.")


def _infer_blocks(state: Mapping[str, Tensor], prefix: str, width: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "intermediate_size": state[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": count_parts(state, rf"{re.escape(prefix)}transformer\.resblocks\.(\d+)\."),
        "num_attention_heads": max(1, width // 64),
    }


def load_strictly(model_class: type[Model], config: PreTrainedConfig, state: StateDict, source: str) -> Model:
    """Build a model from weights that must fit it one-to-one; otherwise raise the error of `check_keys`."""
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in model_class(config).state_dict().items()}
    found = {name: tensor.shape for name, tensor in state.items()}
    check_shapes(
        expected, found, source, model_class.__name__, "Pass the options it was trained with (`--set key=value`)."
    )
    return model_class.from_pretrained(None, config=config, state_dict=state, dtype=torch.float32)


def check_shapes(
    expected: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]], source: str, model: str, advice: str
) -> None:
    """Check the names and shapes of weights against those of a model; see `check_keys`."""
    shared = expected.keys() & found.keys()
    mismatched = [name for name in shared if tuple(expected[name]) != tuple(found[name])]
    check_keys(expected.keys() - shared, found.keys() - shared, mismatched, source, model, advice)


def check_keys(
    missing: Iterable[object],
    unexpected: Iterable[object],
    mismatched: Iterable[object],
    source: str,
    model: str,
    advice: str,
) -> None:
    """Check that loading weights found every name once and in the right shape.

    Args:
        missing: names that the model has and the source lacks.
        unexpected: names that the source has and the model lacks.
        mismatched: names whose shapes differ, or tuples that start with the name.
        source: file, folder or hub id of the weights; `model` and `advice` complete the message.
        model: what the weights should fit.
        advice: what to do.

    Raises:
        ValueError: there are such names; the message has the count and the first of each kind.
    """
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    faults = []
    for kind, keys in kinds.items():
        names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in keys)
        if names:
            faults.append(f"{len(names)} {kind}, first {names[0]}")
    if faults:
        raise ValueError(f"The weights in {source} do not fit {model}: {'; '.join(faults)}. {advice}")
