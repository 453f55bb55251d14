"""Two processes follow one, and a run that is killed in the middle of an epoch and resumed ends with the same bits."""

import json
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from kinoclip.data import load_videos
from kinoclip.kinoshapes import kinoshapes_clips, write_video
from kinoclip.storage import OutputLock
from kinoclip.training.batches import BatchPlan

from .runs import COMPARED, KILLED, start_runs, train_runs, wait_for

# the second update of the second epoch
LAST_CHECKPOINT = "step-6"


@pytest.fixture(scope="module")
def shapes_folder(tmp_path_factory) -> Path:
    """16 clips of 8 frames in folders of their shape."""
    root = tmp_path_factory.mktemp("shapes")
    for number, clip in enumerate(kinoshapes_clips(16, seed=5)):
        folder = root / clip.shape
        folder.mkdir(exist_ok=True)
        write_video(folder / f"{number}.mp4", clip.frames[:8], clip.spec.fps)
    return root


@pytest.fixture(scope="module")
def trained(shapes_folder, programs, tmp_path_factory) -> dict[int, Path]:
    """Folders of the same runs, by the number of processes that trained together."""
    folders = {processes: tmp_path_factory.mktemp("runs") for processes in (1, 2)}
    runs = {
        processes: [
            [str(folder / name), recipe, settings, {}]
            for name, (recipe, settings) in {**COMPARED, "whole": KILLED}.items()
        ]
        for processes, folder in folders.items()
    }
    started = start_runs(shapes_folder, runs[2], programs, processes=2)
    train_runs(shapes_folder, runs[1])
    wait_for(started)
    return folders


@pytest.mark.parametrize("name", COMPARED)
def test_two_processes_have_the_losses_of_one(trained, name):
    one, two = (json.loads((trained[count] / name / "training.json").read_text()) for count in (1, 2))
    assert (one["processes"], two["processes"]) == (1, 2)
    losses = [[epoch["losses"] for epoch in told["history"]] for told in (one, two)]
    assert losses[1] == [pytest.approx(epoch, abs=1e-5) for epoch in losses[0]]


def test_the_captions_of_the_first_update_repeat_across_processes(shapes_folder):
    labels = load_videos(shapes_folder)["label"]
    plan = BatchPlan.fitting(len(labels), 8, processes=2)
    halves = [Counter(labels[row] for row in plan.micro_batches(0, process)[0]) for process in range(2)]
    assert halves[0] & halves[1]


def _run(output, **options):
    return [[str(output), *KILLED, options]]


def _kill(processes, folder):
    """Kill all processes when the last checkpoint exists."""
    try:
        while not (folder / "checkpoints" / LAST_CHECKPOINT).exists():
            assert all(process.poll() is None for process in processes)
            time.sleep(0.01)
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
    lock = OutputLock(folder, folder / ".lock")
    lock.acquire(wait=True)  # until the run has ended
    lock.release()


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def folders(request, trained, shapes_folder, programs, tmp_path_factory):
    """An uninterrupted run without workers; and one with two workers that was killed, and resumed without them."""
    count, killed = request.param, tmp_path_factory.mktemp("runs") / "killed"
    started = start_runs(shapes_folder, _run(killed, save_every=1, num_workers=2), programs, count)
    _kill(started, killed)
    assert not (killed / "training.json").exists()
    if count == 1:
        train_runs(shapes_folder, _run(killed, resume=True))
    else:
        wait_for(start_runs(shapes_folder, _run(killed, resume=True), programs, count))
    return trained[count] / "whole", killed


def test_the_resumed_run_ends_bit_by_bit_with_the_same_model(folders):
    whole, killed = folders
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_the_resumed_run_has_the_same_history(folders):
    whole, killed = (json.loads((folder / "training.json").read_text()) for folder in folders)
    assert killed["history"] == whole["history"]
    assert killed["updates"] == whole["updates"] == 12


def test_a_damaged_last_checkpoint_costs_an_epoch_and_no_bit(trained, shapes_folder, tmp_path, capsys):
    shutil.copytree(trained[1] / "whole", tmp_path / "run")
    (tmp_path / "run" / "training.json").unlink()
    file = tmp_path / "run" / "checkpoints" / "step-12" / "state.pt"
    file.write_bytes(file.read_bytes()[:-100])
    train_runs(shapes_folder, _run(tmp_path / "run", resume=True))
    told = capsys.readouterr().err
    assert "step-12 is damaged: state.pt has changed" in told
    assert "resumed after 8 updates, in epoch 3" in told
    expected = (trained[1] / "whole" / "model.safetensors").read_bytes()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == expected
