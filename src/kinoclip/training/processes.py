"""Whether a launch gave as many processes as it was asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def check_processes(found: int) -> None:
    """Refuse to train in fewer processes than were asked for: each would train by itself, and nobody would notice.

    Raises:
        RuntimeError: with the way to start several.
    """
    asked = asked_processes(os.environ.get("WORLD_SIZE"), _parent_command())
    if asked is not None and asked > found:
        raise RuntimeError(
            f"The launch asked for {asked} processes, but this is {found} by itself. Without GPUs, `accelerate launch` starts "
            f"one process only: use `ACCELERATE_USE_CPU=true torchrun --nproc_per_node {asked} ...`, or --multi_gpu with the "
            "same variable. On GPUs see .github/TRAINING.md."
        )


def asked_processes(world_size: str | None, parent: Sequence[str]) -> int | None:
    """Read the number of processes from `torchrun`'s variable, or from the command line of `accelerate launch`.

    >>> asked_processes(None, ["python", "accelerate", "launch", "--cpu", "--num_processes", "2", "train.py"])
    2
    >>> asked_processes("4", []), asked_processes(None, ["bash"])
    (4, None)
    """
    if world_size is not None:
        return int(world_size)
    if "launch" not in parent or not any("accelerate" in part for part in parent):
        return None
    options = [part for argument in parent for part in argument.replace("-", "_").split("=")]
    for name in ("__num_processes", "__config_file"):
        if name in options[:-1]:
            place = options.index(name) + 1
            value = [part for argument in parent for part in argument.split("=")][place]
            return int(value) if name == "__num_processes" else _read_config(Path(value))
    return None


def _read_config(path: Path) -> int | None:
    import yaml

    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    # none of its processes is asked for where GPUs are, but there are none
    number = content.get("num_processes")
    return int(number) if number is not None else None


def _parent_command() -> list[str]:
    import psutil  # accelerate needs it too

    try:
        return list(psutil.Process().parent().cmdline())
    except (psutil.Error, AttributeError):
        return []
