"""Is a folder fit to be published: does it load, is it whole, is there nothing in it that is not for others."""

from __future__ import annotations

import re
import tempfile
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModel

from kinoclip.inference.loading import read_config
from kinoclip.recognizer_config import RecognizerConfig
from kinoclip.shim import SHIM_NAME, write_shim

from .cards import REPORTS, find_method, read_processor

# everything else in a folder stays there: checkpoints, pickles, and what is nobody's business
_PUBLISHED = (
    "README.md",
    "LICENSE",
    "config.json",
    f"{SHIM_NAME}.py",
    "model*.safetensors",
    "model.safetensors.index.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "chinese_tokenizer/*.json",
    "chinese_tokenizer/*.txt",
    "training.json",
    f"{REPORTS}/*.json",
)
_SECRET = re.compile(
    rb"\bhf_[A-Za-z0-9]{30,}|\bsk-[A-Za-z0-9_-]{32,}|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


def check_folder(folder: Path) -> RecognizerConfig:
    """Make sure that others can load a folder, and that it holds nothing that is not for them.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: something is missing, damaged or secret; the message names it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}. Make one with `kinoclip convert` or `kinoclip train`.")
    config: Any = read_config(str(folder))
    find_method(config)
    _check_weights(folder, config)
    if not any((folder / f"{name}.json").is_file() for name in ("processor_config", "video_preprocessor_config")):
        raise ValueError(f"{folder} lacks its processor. Save it there: `processor.save_pretrained({str(folder)!r})`.")
    read_processor(folder)
    _check_shim(folder)
    for name in list_files(folder)[0]:
        found = None if name.endswith(".safetensors") else _SECRET.search((folder / name).read_bytes())
        if found:
            start = found.group()[:6].decode()
            raise ValueError(
                f"{folder / name} holds what looks like a secret ({start}...). Take it out, and renew it."
            )
    checked: RecognizerConfig = config
    return checked


def list_files(folder: Path) -> tuple[list[str], list[str]]:
    """Give the files of a folder that are published, and what else is there: files and folders."""
    sent, stays = [], set()
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        if file.is_dir():
            continue
        if any(fnmatch(name, known) and name.count("/") == known.count("/") for known in _PUBLISHED):
            sent.append(name)
        else:
            first, slash, _ = name.partition("/")
            stays.add(first + slash)
    return sorted(sent), sorted(stays)


def _check_weights(folder: Path, config: RecognizerConfig) -> None:
    """Make sure that every weight is there, of the right shape, and a number."""
    with torch.device("meta"):
        wanted = {name: tuple(tensor.shape) for name, tensor in AutoModel.from_config(config).state_dict().items()}
    found: dict[str, tuple[int, ...]] = {}
    for file in sorted(folder.glob("model*.safetensors")):
        try:
            with safe_open(file, "pt") as weights:
                for name in weights.keys():  # noqa: SIM118  # it is no mapping
                    tensor = weights.get_tensor(name)
                    found[name] = tuple(tensor.shape)
                    if tensor.is_floating_point() and not tensor.isfinite().all():
                        raise ValueError(
                            f"{file}: {name} holds values that are no finite numbers. Train or convert anew."
                        )
        except SafetensorError as error:
            raise ValueError(f"{file} is no whole safetensors file: {error}. Copy or save it again.") from error
    if not found:
        raise ValueError(
            f"{folder} holds no model.safetensors. Save the model: `model.save_pretrained({str(folder)!r})`."
        )
    wrong = sorted(name for name in {*wanted, *found} if wanted.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{folder}: {len(wrong)} weights do not fit config.json; {name} has shape {found.get(name, 'none')} and should "
            f"have {wanted.get(name, 'none')}. Save model and config together."
        )


def _check_shim(folder: Path) -> None:
    """Make sure that the code that others will run is the shim as this package writes it."""
    place = folder / f"{SHIM_NAME}.py"
    if not place.is_file():
        raise ValueError(f"{folder} lacks {place.name}. Load the model and `save_pretrained` it there again.")
    written = place.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as temporary:
        (Path(temporary) / place.name).write_text(written, encoding="utf-8")
        if write_shim(temporary, set()).read_text(encoding="utf-8") != written:
            raise ValueError(
                f"{place} is not as kinoclip writes it, and others would run it. Delete it, and save again."
            )
