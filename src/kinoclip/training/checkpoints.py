"""Checkpoints of a run: each whole or not there, checked before it is used, the last two kept."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinoclip.text.parsing import load_json

KEPT = 2
_MANIFEST = "manifest.json"


def save_checkpoint(
    folder: Path, name: str, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any], keep: int = KEPT
) -> Path:
    """Write `folder/NAME-N` whole or not at all, and remove all but the last `keep` of that name.

    Args:
        folder: holds the checkpoints of a run.
        name: such as "step-12".
        tensors: file name to tensors, for safetensors.
        state: everything else: numbers, texts and tensors; read back with `weights_only`.
        keep: how many are left of those whose name begins alike.

    Returns:
        The checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=folder))
    try:
        for kind, content in tensors.items():
            save_file({key: tensor.contiguous() for key, tensor in content.items()}, partial / f"{kind}.safetensors")
        with (partial / "state.pt").open("wb") as file:  # with a name alone torch would not say that the disk is full
            torch.save(state, file)
        manifest = {path.name: describe_file(path) for path in sorted(partial.iterdir())}
        (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _flush(partial)
        place = folder / name
        if place.exists():  # an unreadable one of the same name
            shutil.rmtree(place)
        partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    kind = name.rpartition("-")[0]
    for old in list_checkpoints(folder, kind)[keep:]:
        # a kill must not leave a half of it under its name
        shutil.rmtree(old.rename(old.with_name(f".{old.name}.old")))
    return place


def describe_file(path: Path) -> dict[str, Any]:
    """Give what a manifest says of a file: its size and SHA-256."""
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def list_checkpoints(folder: Path, kind: str) -> list[Path]:
    """Give the checkpoints of a kind, the latest first."""
    found = [path for path in folder.glob(f"{kind}-*") if path.is_dir() and path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def load_latest(
    folder: Path, kind: str, report: Callable[[str], None], name: str | None = None
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]] | None:
    """Read the latest checkpoint that is whole, or the one of a name; None where there is none.

    Args:
        folder: holds the checkpoints of a run.
        kind: such as "step".
        report: told of each one that is damaged.
        name: read this one alone.
    """
    for place in list_checkpoints(folder, kind):
        if name not in (None, place.name):
            continue
        try:
            return read_checkpoint(place)
        except ValueError as error:
            report(f"{error} An earlier checkpoint is used, if there is one.")
    return None


def read_checkpoint(place: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """Read a checkpoint, after comparing each file with the manifest.

    Raises:
        ValueError: a file is missing, or is not what was written.
    """
    try:
        manifest: dict[str, Any] = load_json((place / _MANIFEST).read_text(encoding="utf-8"))
        if any(Path(name).name != name for name in manifest):
            raise ValueError("its manifest names files of other folders")
        changed = [name for name, known in manifest.items() if describe_file(place / name) != known]
        if changed:
            raise ValueError(f"{changed[0]} is not what was written")
        tensors = {Path(name).stem: load_file(place / name) for name in manifest if name.endswith(".safetensors")}
        state: dict[str, Any] = torch.load(place / "state.pt", weights_only=True)
    except (OSError, ValueError, SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"The checkpoint {place} is damaged: {reason}.") from error
    return tensors, state


def _flush(folder: Path) -> None:
    """Make sure that the files reach the disk before their folder gets its name."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
