"""Models by name: a published folder, a hub id, a plain CLIP, or the embedded one."""

from __future__ import annotations

import logging
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from huggingface_hub import constants
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor

from kinoclip.conversion import first_line, naming
from kinoclip.embedded import EMBEDDED, mini_clip_path
from kinoclip.export.exported import load_exported
from kinoclip.export.manifest import MANIFEST, DType
from kinoclip.methods import load_plain_clip
from kinoclip.recognizer import VideoRecognizer
from kinoclip.recognizer_config import RecognizerConfig
from kinoclip.text.parsing import load_json

from .feature_cache import hash_model

logger = logging.getLogger(__name__)
Backend = Literal["torch", "onnxruntime", "onnxruntime-int8"]

_EXPORTED_DTYPES: dict[Backend, DType] = {"onnxruntime": "float32", "onnxruntime-int8": "int8"}


def load_recognizer(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    attributes: bool = False,
    backend: Backend = "torch",
) -> tuple[VideoRecognizer, Any]:
    """Load a recognizer and its processor, ready for inference.

    Args:
        model: a published folder or hub id of this package; a plain CLIP folder or hub id, which recognizes zero-shot
            without any training; a folder of `kinoclip export` in ONNX, which computes on the CPU in its own dtype; or "mini",
            the embedded model that knows colored shapes only.
        device: where the weights go.
        attributes: give a plain CLIP the attributes branch that needs no training.
        dtype: of the weights. On a CPU bfloat16 is faster where the processor supports it, and float16 is far slower.
        backend: what computes: torch; or "onnxruntime", which computes on the CPU in float32 and gives no reasons, and
            "onnxruntime-int8", which encodes frames in 8 bits (`examples/export` has what they gain, and how many answers stay).
            The model is exported on its first use, into a folder of `HF_HOME`.

    Returns:
        The model, and its processor; a checkpoint that knows its own candidates only may have a video processor alone.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: not a model that this package can use, or one that is damaged; the message says what was found.
        ImportError: the backend is not installed.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"There is no backend {backend!r}. Choose {', '.join(get_args(Backend))}.")
    if backend != "torch" and (torch.device(device).type != "cpu" or dtype != torch.float32):
        raise ValueError(f"The backend {backend} computes on the CPU in its own dtype. Leave device and dtype out.")
    source = str(mini_clip_path() if str(model) == EMBEDDED else model)
    if (Path(source) / MANIFEST).is_file():
        _check_export_options(source, torch.device(device), dtype, attributes)
        return load_exported(source)
    config = read_config(source)
    recognizer: VideoRecognizer
    if config.model_type == "clip":
        recognizer, processor = load_plain_clip(source, dtype=dtype, attributes=attributes)
    elif isinstance(config, RecognizerConfig):
        recognizer, processor = _load_weights(source, dtype), load_processor(source)
    else:
        raise ValueError(
            f"{model} is a {config.model_type!r} model. Give one that kinoclip published, or a CLIP checkpoint."
        )
    check_finite(recognizer, source)
    recognizer.eval()
    if backend != "torch":
        return load_exported(_keep_export(recognizer, processor, str(model), _EXPORTED_DTYPES[backend]))[0], processor
    torch.nn.Module.to(recognizer, device)
    return recognizer, processor


def _keep_export(recognizer: VideoRecognizer, processor: Any, source: str, dtype: DType) -> Path:
    """Export a model that was not exported before, and give the folder."""
    from kinoclip.export.writing import export_recognizer

    name = f"{version('kinoclip')}-{hash_model(recognizer)[:40]}" + (f"-{dtype}" if dtype != "float32" else "")
    folder = Path(constants.HF_HOME) / "kinoclip" / "onnx" / name
    if not (folder / MANIFEST).is_file():
        logger.warning("%s is exported for ONNX Runtime into %s, once.", source, folder)
        for line in export_recognizer(recognizer, processor, folder, dtype=dtype, source=source):
            logger.info(line)
    return folder


def _check_export_options(source: str, device: torch.device, dtype: torch.dtype, attributes: bool) -> None:
    refused = {"device": device.type != "cpu", "dtype": dtype != torch.float32, "attributes": attributes}
    asked = [name for name, is_refused in refused.items() if is_refused]
    if asked:
        raise ValueError(
            f"{source} is an export: its graphs compute on the CPU, in the dtype and with the branches that they were written "
            f"with. Leave {' and '.join(asked)} out, or load the model that it was made of."
        )


def read_config(source: str) -> Any:
    """Read the config of a model folder or hub id; errors are those of `load_recognizer`."""
    path = Path(source)
    if path.is_file():
        raise ValueError(
            f"{source} is a file. A model is a folder or a hub id; turn an official checkpoint into one with "
            "`kinoclip convert METHOD CHECKPOINT --output DIR`."
        )
    if path.is_dir() and not (path / "config.json").is_file():
        raise ValueError(f"{source} holds no config.json, so it is no model folder. Give the folder that has it.")
    if not path.exists() and (path.is_absolute() or source.startswith(".") or source.count("/") > 1):
        raise FileNotFoundError(f"There is no model folder {source}.")
    if not path.exists() and "/" not in source:
        raise ValueError(f"{source!r} is neither a folder nor a hub id such as 'org/bike-vitl14'. Check the name.")
    try:
        return AutoConfig.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        if path.is_dir():
            raise ValueError(f"{source}/config.json could not be read: {first_line(error)}") from error
        raise ValueError(
            f"There is no folder {source}, and the model could not be fetched from the hub under that name: "
            f"{first_line(error)} Check the name and the connection."
        ) from error


def load_processor(source: str) -> Any:
    """Load the processor of a model folder or hub id, or the video processor of a model that reads no text.

    Raises:
        ValueError: one of its files is missing or damaged.
    """
    kind = AutoVideoProcessor if Path(source).is_dir() and not has_tokenizer(source) else AutoProcessor
    with naming(f"The processor or the tokenizer in {source}"):
        return kind.from_pretrained(source, trust_remote_code=False)


def has_tokenizer(folder: str | Path) -> bool:
    """Tell whether a folder holds the file of a tokenizer."""
    return any((Path(folder) / name).is_file() for name in ("tokenizer.json", "vocab.json"))


def _load_weights(source: str, dtype: torch.dtype) -> VideoRecognizer:
    """Load weights that fit the config: none missing, none left over, none of another shape."""
    index = Path(source) / "model.safetensors.index.json"
    with naming(f"The list of weights in {source}"):
        files = load_json(index.read_text(encoding="utf-8"))["weight_map"].values() if index.is_file() else ()
        if any(Path(file).name != file for file in files):
            raise ValueError("it leads out of the folder.")
    recognizer: VideoRecognizer
    report: dict[str, Any]
    with naming(f"The weights in {source}"):
        recognizer, report = AutoModel.from_pretrained(
            source, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, trust_remote_code=False
        )
    for fault in ("missing", "mismatched", "unexpected"):
        names = sorted(str(name) for name in report[f"{fault}_keys"])
        if names:
            raise ValueError(
                f"The weights in {source} do not fit its config.json: {len(names)} {fault}, first {names[0]}. Save model and "
                "config together."
            )
    return recognizer


def check_finite(recognizer: torch.nn.Module, source: str) -> None:
    """Make sure that every weight is a number.

    Raises:
        ValueError: one is not.
    """
    for name, tensor in recognizer.state_dict().items():
        # a sum shows what is no number in one pass; it may overflow too, so that a second look decides
        if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise ValueError(
                f"The weights in {source} are damaged: {name} holds values that are no finite numbers. Fetch or train them anew."
            )
