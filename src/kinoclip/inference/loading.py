"""Models by name: a published folder, a hub id, a plain CLIP, or the embedded one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel, AutoProcessor, AutoVideoProcessor

from kinoclip.data.mini_clip import EMBEDDED, mini_clip_path
from kinoclip.methods import load_plain_clip
from kinoclip.recognizer import VideoRecognizer
from kinoclip.recognizer_config import RecognizerConfig


def load_recognizer(
    model: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    attributes: bool = False,
) -> tuple[VideoRecognizer, Any]:
    """Load a recognizer and its processor, ready for inference.

    Args:
        model: a published folder or hub id of this package; a plain CLIP folder or hub id, which recognizes zero-shot
            without any training; or "mini", the embedded model that knows colored shapes only.
        device: where the weights go.
        attributes: give a plain CLIP the attributes branch that needs no training.
        dtype: of the weights. On a CPU bfloat16 is faster where the processor supports it, and float16 is far slower.

    Returns:
        The model, and its processor; a checkpoint that knows its own candidates only may have a video processor alone.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: not a model that this package can use; the message says what was found.
    """
    source = str(mini_clip_path() if str(model) == EMBEDDED else model)
    config = read_config(source)
    if config.model_type == "clip":
        recognizer, processor = load_plain_clip(source, dtype=dtype, attributes=attributes)
    elif isinstance(config, RecognizerConfig):
        recognizer = AutoModel.from_pretrained(source, dtype=dtype)
        processor = _load_processor(source)
    else:
        raise ValueError(
            f"{model} is a {config.model_type!r} model. Give one that kinoclip published, or a CLIP checkpoint."
        )
    recognizer.eval()
    torch.nn.Module.to(recognizer, device)
    return recognizer, processor


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
        return AutoConfig.from_pretrained(source)
    except (OSError, ValueError, KeyError, StrictDataclassError) as error:
        if path.is_dir():
            raise ValueError(f"{source}/config.json could not be read: {_first_line(error)}") from error
        raise ValueError(
            f"There is no folder {source}, and the model could not be fetched from the hub under that name: "
            f"{_first_line(error)} Check the name and the connection."
        ) from error


def _load_processor(source: str) -> Any:
    has_tokenizer = any((Path(source) / name).is_file() for name in ("tokenizer.json", "vocab.json"))
    if Path(source).is_dir() and not has_tokenizer:
        return AutoVideoProcessor.from_pretrained(source)
    return AutoProcessor.from_pretrained(source)


def _first_line(error: BaseException) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if line.endswith((".", "!", "?")) else f"{line}."
