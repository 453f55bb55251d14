import json

import pytest
import torch

from kinoclip.training.checkpoints import (
    describe_file,
    list_checkpoints,
    load_latest,
    read_checkpoint,
    save_checkpoint,
)


def _save(folder, number, keep=2):
    state = {"number": number, "nested": {"tensor": torch.tensor([0.1 * number])}}
    return save_checkpoint(folder, f"step-{number}", {"model": {"weight": torch.full((64,), number)}}, state, keep)


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 10):
        _save(tmp_path, number)
    return tmp_path


def test_the_last_two_are_kept_and_counted_as_numbers(folder):
    assert [place.name for place in list_checkpoints(folder, "step")] == ["step-10", "step-2"]


def test_what_was_saved_comes_back(folder):
    tensors, state = read_checkpoint(folder / "step-10")
    assert torch.equal(tensors["model"]["weight"], torch.full((64,), 10))
    assert state == {"number": 10, "nested": {"tensor": torch.tensor([1.0])}}


def _truncate(file):
    file.write_bytes(file.read_bytes()[:-1])


def _flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def _remove(file):
    file.unlink()


@pytest.mark.parametrize("damage", [_truncate, _flip_a_bit, _remove])
@pytest.mark.parametrize("file", ["model.safetensors", "state.pt", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(folder, file, damage):
    damage(folder / "step-10" / file)
    said = []
    found = load_latest(folder, "step", said.append)
    assert found is not None
    assert found[1]["number"] == 2
    assert len(said) == 1
    assert "step-10 is damaged" in said[0]


def test_without_a_whole_checkpoint_there_is_none(tmp_path):
    _truncate(_save(tmp_path, 1) / "state.pt")
    assert load_latest(tmp_path, "step", lambda message: None) is None


def test_what_was_interrupted_while_it_was_written_leaves_nothing(folder, monkeypatch):
    monkeypatch.setattr("kinoclip.training.checkpoints.describe_file", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        _save(folder, 11)
    assert sorted(path.name for path in folder.iterdir()) == ["step-10", "step-2"]


class _Code:
    def __reduce__(self):
        return (print, ("run",))


def test_code_in_a_checkpoint_is_not_run(tmp_path, capsys):
    place = _save(tmp_path, 1)
    torch.save(_Code(), place / "state.pt")
    manifest = {path.name: describe_file(path) for path in place.iterdir() if path.name != "manifest.json"}
    (place / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="is damaged"):
        read_checkpoint(place)
    assert not capsys.readouterr().out
