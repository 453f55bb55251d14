"""A run that is killed in the middle of an epoch and resumed ends with the same bits."""

import json
import shutil
import signal
import time

import pytest

from .runs import KILLED, start_runs, train_runs, wait_for

# the second update of the second epoch
LAST_CHECKPOINT = "step-6"


def _run(output, **options):
    return [[str(output), *KILLED, options]]


def _kill(processes, checkpoint):
    """Kill all processes as soon as a checkpoint is there."""
    try:
        while not checkpoint.exists():
            assert all(process.poll() is None for process in processes)
            time.sleep(0.01)
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two processes"])
def folders(request, trained, shapes_folder, tmp_path_factory):
    """A run in one go without workers; and one with two workers that was killed, and resumed without them."""
    count, killed = request.param, tmp_path_factory.mktemp("runs") / "killed"
    started = start_runs(shapes_folder, _run(killed, save_every=1, num_workers=2), count)
    _kill(started, killed / "checkpoints" / LAST_CHECKPOINT)
    assert not (killed / "training.json").exists()
    if count == 1:
        train_runs(shapes_folder, _run(killed, resume=True))
    else:
        wait_for(start_runs(shapes_folder, _run(killed, resume=True), count))
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
    assert "step-12 is damaged: state.pt is not what was written" in told
    assert "resumed after 8 updates, in epoch 3" in told
    expected = (trained[1] / "whole" / "model.safetensors").read_bytes()
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == expected
