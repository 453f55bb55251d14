"""Recordings of official runs, a small data set that every process finds, and runs on it in one process and in two."""

from pathlib import Path

import pytest
from parity.conftest import load_golden  # noqa: F401  (the fixture)

from kinoclip.data.kinoshapes import kinoshapes_clips, write_video

from .runs import COMPARED, KILLED, start_runs, train_runs, wait_for


@pytest.fixture(scope="session")
def shapes_folder(tmp_path_factory) -> Path:
    """16 clips of 8 frames in folders of their shape."""
    root = tmp_path_factory.mktemp("shapes")
    for number, clip in enumerate(kinoshapes_clips(16, seed=5)):
        folder = root / clip.shape
        folder.mkdir(exist_ok=True)
        write_video(folder / f"{number}.mp4", clip.frames[:8], clip.spec.fps)
    return root


@pytest.fixture(scope="session")
def trained(shapes_folder, tmp_path_factory) -> dict[int, Path]:
    """Folders of the same runs, by the number of processes that trained together."""
    folders = {processes: tmp_path_factory.mktemp("runs") for processes in (1, 2)}
    runs = {
        processes: [
            [str(folder / name), recipe, settings, {}]
            for name, (recipe, settings) in {**COMPARED, "whole": KILLED}.items()
        ]
        for processes, folder in folders.items()
    }
    started = start_runs(shapes_folder, runs[2], processes=2)
    train_runs(shapes_folder, runs[1])
    wait_for(started)
    return folders
