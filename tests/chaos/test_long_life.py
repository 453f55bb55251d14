"""Nothing piles up in a process that reads and classifies all day, and a loader that loses a worker says so."""

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from chaos.limits import IS_FULL
from torch.utils.data import DataLoader

from kinoclip import RecognizerVideoProcessor
from kinoclip.data.samples import VideoSamples, collate
from kinoclip.kinoshapes import kinoshapes_dataset

DECODES, CLASSIFICATIONS = 5000, 2000

pytestmark = pytest.mark.skipif(not IS_FULL, reason="part of `make chaos`")


@pytest.mark.timeout(1200)
def test_memory_open_files_and_threads_stay(contents, tmp_path, record_property):
    (tmp_path / "a.mp4").write_bytes(contents["h264.mp4"])
    (tmp_path / "b.mp4").write_bytes(contents["h264.mp4"][: len(contents["h264.mp4"]) // 2])
    script = Path(__file__).with_name("long_life.py")
    command = [sys.executable, script, "a.mp4", "b.mp4", str(DECODES), str(CLASSIFICATIONS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    early, late = json.loads(done.stdout)
    print(f"{DECODES} decodes, {CLASSIFICATIONS} classifications: {early} -> {late}")  # noqa: T201
    record_property("outcomes", {"frames": DECODES + CLASSIFICATIONS})
    assert (late["files"], late["threads"]) == (early["files"], early["threads"])
    assert late["bytes"] < 1.02 * early["bytes"]


@pytest.fixture(scope="module")
def samples():
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    return VideoSamples(kinoshapes_dataset(8, seed=5), RecognizerVideoProcessor(num_frames=4, **sizes))


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_workers_gives_the_same_and_leaves_nothing(samples, workers):
    plain = [batch["pixel_values_videos"] for batch in DataLoader(samples, 2, collate_fn=collate)]
    files = []
    for _ in range(4):
        loader = DataLoader(samples, 2, collate_fn=collate, num_workers=workers)
        batches = [batch["pixel_values_videos"].clone() for batch in loader]
        assert all(torch.equal(one, other) for one, other in zip(plain, batches, strict=True))
        del loader
        gc.collect()
        files.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
    assert not children()
    # the first time torch starts what shares memory, and that stays
    assert files[-1] <= files[0], files


def test_a_worker_that_is_killed_ends_the_epoch_with_an_error(samples):
    batches = iter(DataLoader(samples, 1, collate_fn=collate, num_workers=2))
    next(batches)
    os.kill(children()[0], signal.SIGKILL)
    # torch notices, or its connection to the worker breaks off
    with pytest.raises((RuntimeError, ConnectionError), match=r"worker|reset by peer"):
        list(batches)


def children():
    """The loaders' processes that run."""
    return [process.pid for process in torch.multiprocessing.active_children()]
