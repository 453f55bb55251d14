"""Load models by name, for torch, ONNX Runtime or OpenVINO."""

import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from huggingface_hub import constants

from kinoclip.export.exported import load_exported
from kinoclip.export.manifest import MANIFEST, DType
from kinoclip.inference.encoding import compile_frames
from kinoclip.inference.feature_cache import hash_model
from kinoclip.methods.auto import (
    check_finite,
    find_model,
    load_plain_clip,
    load_processor,
    load_weights,
    read_config,
)
from kinoclip.methods.candidates import Corpus, set_corpus
from kinoclip.modeling.configuration import RecognizerConfig
from kinoclip.modeling.names import Backend
from kinoclip.modeling.precision import is_bf16_faster
from kinoclip.modeling.recognizer import VideoRecognizer

logger = logging.getLogger(__name__)

# a smaller model gains nothing from bfloat16
_MIN_PARAMETERS = 20_000_000
_EXPORTED_DTYPES: dict[Backend, DType] = {
    "onnxruntime": "float32",
    "onnxruntime-int8": "int8",
    "openvino": "float32",
    "openvino-int8": "openvino-int8",
}


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return a device that is there; "auto" is a CUDA GPU, Apple's GPU or the CPU, whichever is first.

    Raises:
        ValueError: this machine or this torch does not have the device.
    """
    if str(device) == "auto":
        has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
        return torch.device("cuda" if has_cuda else "mps" if has_mps else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f'device must be "auto" or one that this machine and its torch have, such as "cpu" or "cuda", got {str(device)!r}.'
        ) from error
    return chosen


def choose_dtype(dtype: str | torch.dtype, device: torch.device, num_parameters: int) -> torch.dtype:
    """Return the data type of a model's weights; "auto" is bfloat16 where that is faster.

    That is on devices of which `is_bf16_faster` says so, for models of 20 million parameters or more.

    Raises:
        ValueError: the name is that of no floating-point type.
    """
    if dtype == "auto":
        return torch.bfloat16 if num_parameters >= _MIN_PARAMETERS and is_bf16_faster(device) else torch.float32
    chosen = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if chosen not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError(f"dtype must be auto, float32, bfloat16 or float16, got {dtype!r}.")
    return chosen


def load_recognizer(
    model: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    attributes: bool = False,
    backend: Backend = "torch",
    settings: Mapping[str, Any] | None = None,
    corpus: Corpus | None = None,
    compile: bool = False,
) -> tuple[VideoRecognizer, Any]:
    """Load a recognizer and its processor for inference.

    Args:
        model: a folder or hub id of this package; a plain CLIP, which recognizes zero-shot; a folder of `kinoclip export`, which
            runs on the CPU in its own dtype; or "mini" or "mini-actions", which are in the package and know colored shapes, and the actions of drawn people.
        device: see `choose_device`.
        dtype: see `choose_dtype`. On a CPU float16 is far slower than the others.
        attributes: add to a plain CLIP the attributes branch that needs no training.
        backend: "torch"; or, for the CPU and without explanations, "onnxruntime" in float32, "openvino" in bfloat16 where
            that is faster, and "onnxruntime-int8" and "openvino-int8", which encode frames in 8 bits (`examples/export` has
            speed and accuracy). The model is exported on its first use, into a folder of `HF_HOME`.
        settings: config fields other than the saved ones, such as {"rate": 4} for SLLM.
        corpus: names or files of one or more corpora, see `load_corpus`, that a model with one uses instead of its own (ALT).
        compile: compile the encoder of frames with torch.compile, see `compile_frames`.

    Returns:
        The model and its processor.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: not a model that this package can use, or one that is damaged.
        ImportError: the backend is not installed.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}.")
    if compile and (backend != "torch" or (Path(model) / MANIFEST).is_file()):
        raise ValueError(
            f"compile needs a model that torch computes, got {model} with the backend {backend}. Leave compile out."
        )
    is_plain = str(device) in ("auto", "cpu") and dtype in ("auto", "float32", torch.float32)
    if backend != "torch" and not is_plain:
        raise ValueError(f"The backend {backend} runs on the CPU in its own dtype. Leave device and dtype out.")
    source = find_model(str(model))
    if (Path(source) / MANIFEST).is_file():
        if attributes or settings or corpus or not is_plain:
            raise ValueError(
                f"{source} is an export, with graphs for the CPU and with fixed dtype, branches, settings and corpus. Leave device, "
                "dtype, attributes, settings and corpus out, or load the model that was exported."
            )
        return load_exported(source, "openvino" if backend.startswith("openvino") else "onnxruntime")
    chosen = choose_device(device if backend == "torch" else "cpu")
    loaded = torch.float32 if dtype == "auto" else choose_dtype(dtype, chosen, 0)
    config = read_config(source)
    recognizer: VideoRecognizer
    processor: Any
    if config.model_type == "clip":
        recognizer, processor = load_plain_clip(source, dtype=loaded, attributes=attributes, **(settings or {}))
    elif isinstance(config, RecognizerConfig):
        recognizer, processor = load_weights(source, loaded, **(settings or {})), load_processor(source)
        if settings:
            processor.video_processor.keep_every = recognizer.config.keep_every
    else:
        raise ValueError(
            f"{model} is a {config.model_type!r} model. Give one that kinoclip published, or a CLIP checkpoint."
        )
    check_finite(recognizer, source)
    recognizer.eval()
    if corpus:
        set_corpus(recognizer, processor, corpus, str(model))
    if backend != "torch":
        folder = _export_once(recognizer, processor, str(model), _EXPORTED_DTYPES[backend])
        return load_exported(folder, "openvino" if backend.startswith("openvino") else "onnxruntime")[0], processor
    final = choose_dtype(dtype, chosen, sum(weight.numel() for weight in recognizer.parameters()))
    torch.nn.Module.to(recognizer, chosen, final)
    if "auto" in (str(device), dtype) and (chosen.type, final) != ("cpu", torch.float32):
        logger.warning("%s computes on %s in %s.", model, chosen, str(final).removeprefix("torch."))
    if compile:
        compile_frames(recognizer)
    return recognizer, processor


def _export_once(recognizer: VideoRecognizer, processor: Any, source: str, dtype: DType) -> Path:
    """Return the folder of a model's export, and export it if it is missing."""
    from kinoclip.export.writing import export_recognizer

    name = f"{version('kinoclip')}-{hash_model(recognizer)[:40]}" + (f"-{dtype}" if dtype != "float32" else "")
    folder = Path(constants.HF_HOME) / "kinoclip" / "onnx" / name
    if not (folder / MANIFEST).is_file():
        logger.warning("%s is exported as graphs into %s, once.", source, folder)
        for line in export_recognizer(recognizer, processor, folder, dtype=dtype, source=source):
            logger.info(line)
    return folder
