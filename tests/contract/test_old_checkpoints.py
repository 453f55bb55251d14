"""Folders written by commit 0c051e6 load and give the logits that they gave there."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from kinoclip.methods.auto import load_processor, load_weights

from .old_checkpoints.record import HERE, draw_weights, make_inputs


@pytest.mark.parametrize(
    "folder", sorted(path.parent for path in HERE.glob("*/config.json")), ids=lambda path: path.name
)
def test_a_folder_of_an_old_version_gives_its_logits(folder, tmp_path):
    recorded = json.loads((folder / "recorded.json").read_text())
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    save_file(draw_weights(recorded["shapes"]), tmp_path / "model.safetensors", {"format": "pt"})
    if recorded["reads_text"]:
        shutil.copytree(HERE / "tokenizer", tmp_path, dirs_exist_ok=True)
    model, processor = load_weights(str(tmp_path), torch.float32).eval(), load_processor(str(tmp_path))
    assert model.state_dict().keys() == recorded["shapes"].keys()
    with torch.no_grad():
        output = model(**make_inputs(processor, recorded))
    torch.testing.assert_close(output.logits, torch.tensor(recorded["logits"]), atol=1e-5, rtol=1e-5)
    expected = {branch: torch.tensor(vote) for branch, vote in recorded["votes"].items()}
    torch.testing.assert_close(output.votes, expected, atol=1e-5, rtol=1e-5)
