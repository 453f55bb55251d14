"""Training runs in processes of their own, on a folder of clips.

    python tests/trajectory/runs.py DATA '[["OUTPUT", "kinoshapes/bike", {"training.epochs": 2}, {"num_workers": 2}], ...]'

Several such processes with torchrun's variables train together.
"""

import json
import os
import socket
import sys
from pathlib import Path
from subprocess import Popen
from typing import Any

# output folder, recipe, settings, options of `train`
TrainingRun = tuple[str, str, dict[str, Any], dict[str, Any]]

_COMMON = {"training.epochs": 2, "training.batch_size": 8, "data.augmentation": "resized_crop"}
# recipe and settings of runs that give the same losses in one process and in two
COMPARED = {
    "captions, gathered": ("kinoshapes/bike", _COMMON),
    "captions in micro-batches, compared at once": ("kinoshapes/bike", _COMMON | {"training.accumulation": 2}),
    "attributes without videos, in micro-batches": (
        "kinoshapes/bike",
        _COMMON
        | {"training.accumulation": 2, "data.attributes": "kinoshapes"}
        | {"model.attributes": "shared", "model.train_branch": "attributes"},
    ),
    "all classes": ("kinoshapes/text4vis", _COMMON),
    "restored frames in micro-batches": ("kinoshapes/sllm", _COMMON | {"training.accumulation": 2}),
}
# of a run that is killed; 16 clips give four updates per epoch
KILLED = (
    "kinoshapes/bike",
    {
        "training.epochs": 3,
        "training.batch_size": 4,
        "training.accumulation": 2,
        "training.ema": 0.9,
        "training.clip_norm": 1.0,
        "data.augmentation": "resized_crop",
    },
)


def train_runs(data: Path | str, runs: list[TrainingRun]) -> None:
    """Train in this process."""
    from kinoclip.data import load_videos
    from kinoclip.training.recipe import load_recipe
    from kinoclip.training.trainer import train

    dataset = load_videos(data)
    for output, recipe, settings, options in runs:
        train(load_recipe(recipe).with_settings(settings), dataset, output, **options)


def start_runs(data: Path, runs: list[TrainingRun], programs: dict[str, str], processes: int = 1) -> list[Popen]:
    """Train in new processes together, without waiting for them; `programs` is the fixture."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {
        "WORLD_SIZE": processes,
        "LOCAL_WORLD_SIZE": processes,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    started = []
    for rank in range(processes):
        shared = {**together, "RANK": rank, "LOCAL_RANK": rank} if processes > 1 else {}
        environment = programs | {name: str(value) for name, value in shared.items()}
        started.append(Popen(["python", __file__, str(data), json.dumps(runs)], env=environment))
    return started


def wait_for(processes: list[Popen]) -> None:
    """Wait until all of them have ended without an error."""
    try:
        assert [process.wait(timeout=120) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()


if __name__ == "__main__":
    import torch
    from transformers.utils import logging

    os.environ["ACCELERATE_USE_CPU"] = "true"
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    train_runs(sys.argv[1], json.loads(sys.argv[2]))
