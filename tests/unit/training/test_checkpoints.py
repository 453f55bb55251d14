import json
import os
import sys
from types import SimpleNamespace

import pytest
import torch

from kinoclip.training.checkpoints import (
    describe_file,
    list_checkpoints,
    load_latest,
    peak_memory_mb,
    read_checkpoint,
    reset_peak_memory,
    save_checkpoint,
)


def _save(folder, number):
    state = {"number": number, "nested": {"tensor": torch.tensor([0.1 * number])}}
    return save_checkpoint(folder, f"step-{number}", {"model": {"weight": torch.full((64,), number)}}, state)


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 10):
        _save(tmp_path, number)
    return tmp_path


def test_the_last_two_by_number_are_kept_and_loaded_as_saved(folder):
    assert [path.name for path in list_checkpoints(folder, "step")] == ["step-10", "step-2"]
    tensors, state = read_checkpoint(folder / "step-10")
    assert torch.equal(tensors["model"]["weight"], torch.full((64,), 10))
    assert state == {"number": 10, "nested": {"tensor": torch.tensor([1.0])}}


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def _flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, lambda file: file.unlink()])
@pytest.mark.parametrize("file", ["model.safetensors", "state.pt", "manifest.json"])
def test_a_damaged_checkpoint_is_skipped_for_the_previous_one(folder, file, damage, capsys):
    damage(folder / "step-10" / file)
    assert load_latest(folder, "step")[1]["number"] == 2
    assert capsys.readouterr().err.count("step-10 is damaged") == 1
    _truncate(folder / "step-2" / "state.pt")
    assert load_latest(folder, "step") is None


def test_an_interrupted_write_leaves_nothing(folder, monkeypatch):
    monkeypatch.setattr("kinoclip.training.checkpoints.describe_file", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _save(folder, 11)
    assert sorted(path.name for path in folder.iterdir()) == ["step-10", "step-2"]


class _Code:
    def __reduce__(self):
        return (print, ("run",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    path = _save(tmp_path, 1)
    torch.save(_Code(), path / "state.pt")
    manifest = {file.name: describe_file(file) for file in path.iterdir() if file.name != "manifest.json"}
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(path)
    assert not capsys.readouterr().out


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of a process cannot be reset here"
)
def test_the_peak_memory_is_in_megabytes_on_every_system(monkeypatch):
    usage, process = (
        SimpleNamespace(ru_maxrss=3_000_000),
        SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=5_000_000)),
    )
    monkeypatch.setattr("resource.getrusage", lambda who: usage)
    monkeypatch.setattr("psutil.Process", lambda: process)
    found = {}
    for system in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", system)
        found[system] = peak_memory_mb(torch.device("cpu"))
    assert found == {"linux": 3072.0, "darwin": 3.0, "win32": 5.0}  # KiB, bytes, bytes


def test_a_system_without_proc_keeps_its_peak_memory(monkeypatch, tmp_path):
    missing = tmp_path / "proc" / "clear_refs"
    monkeypatch.setattr("kinoclip.training.checkpoints.Path", lambda name: missing)
    reset_peak_memory(torch.device("cpu"))
    assert not missing.parent.exists()


def test_the_peak_memory_does_not_include_what_ran_before():
    device = torch.device("cpu")
    large = torch.ones(100_000_000)  # 400 MB
    before = peak_memory_mb(device)
    del large
    reset_peak_memory(device)
    assert peak_memory_mb(device) < before - 300
