"""Publishing: what is sent, in how many commits, what stays, and what is refused."""

import json
import re
from functools import partial

import pytest
import torch
from hub_server import TOKEN, serve
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file

from kinoclip.hub.publish import publish

FILES = {
    "README.md",
    "config.json",
    "kinoclip_shim.py",
    "model.safetensors",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


@pytest.fixture
def hub(monkeypatch):
    """A Hub at which this process is logged in."""
    with serve() as hub:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("kinoclip.hub.publish.HfApi", partial(HfApi, endpoint=hub.url))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def test_a_folder_is_sent_with_its_card_in_one_commit(hub, bike_folder):
    lines = [*publish(bike_folder, "org/tiny")]
    repo = hub.repos["models/org/tiny"]
    assert [message for _, message, _ in repo.commits] == ["initial commit", "Publish tiny"]
    assert set(repo.files) == FILES | {".gitattributes"}
    assert repo.files["model.safetensors"] == (bike_folder / "model.safetensors").read_bytes()
    assert b"Nothing was measured" in repo.files["README.md"]
    assert lines[-1].startswith(f"published {hub.url}/org/tiny in one commit")


def test_the_same_command_again_makes_no_commit(hub, bike_folder):
    [*publish(bike_folder, "org/tiny")]
    lines = [*publish(bike_folder, "org/tiny")]
    assert len(hub.repos["models/org/tiny"].commits) == 2
    assert lines[-1].startswith("nothing changed")


def test_what_failed_is_continued_by_the_same_command(hub, bike_folder):
    hub.failing = {"commit"}
    with pytest.raises(RuntimeError, match="run the same command again"):
        [*publish(bike_folder, "org/tiny")]
    assert len(hub.repos["models/org/tiny"].commits) == 1
    [*publish(bike_folder, "org/tiny")]
    assert len(hub.repos["models/org/tiny"].commits) == 2


def test_a_network_that_breaks_off_is_named_and_the_same_command_goes_on(hub, bike_folder):
    hub.cutting = {"commit"}
    with pytest.raises(
        RuntimeError, match=r"could not be reached for org/tiny.* the same command goes on where it was"
    ):
        [*publish(bike_folder, "org/tiny")]
    assert len(hub.repos["models/org/tiny"].commits) == 1
    assert [*publish(bike_folder, "org/tiny")][-1].startswith("published")
    assert len(hub.repos["models/org/tiny"].commits) == 2


def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub, bike_folder):
    hub.losing = {"commit"}
    with pytest.raises(RuntimeError, match="could not be reached"):
        [*publish(bike_folder, "org/tiny")]
    assert [*publish(bike_folder, "org/tiny")][-1].startswith("nothing changed")
    assert len(hub.repos["models/org/tiny"].commits) == 2


def test_a_report_that_is_not_there_is_named(bike_folder):
    with pytest.raises(FileNotFoundError, match=r"There is no report none\.json"):
        [*publish(bike_folder, "org/tiny", reports=["none.json"])]


def test_reports_go_with_the_folder_and_stay_in_its_card(hub, bike_folder, write_report, tmp_path):
    report = write_report(tmp_path / "r.json")
    [*publish(bike_folder, "org/tiny", reports=[report])]
    [*publish(bike_folder, "org/tiny")]
    repo = hub.repos["models/org/tiny"]
    assert len(repo.commits) == 2
    assert json.loads(repo.files["reports/ucf101-test-single_view.json"])["metrics"] == {"top1": 0.75}
    assert b"75.00%" in repo.files["README.md"]


def test_text_that_was_added_on_the_hub_is_kept(hub, bike_folder, write_report, tmp_path):
    [*publish(bike_folder, "org/tiny")]
    repo = hub.repos["models/org/tiny"]
    repo.add("Edit", {"README.md": repo.files["README.md"] + b"\nWritten on the web.\n"})
    [*publish(bike_folder, "org/tiny", reports=[write_report(tmp_path / "r.json")])]
    card = repo.files["README.md"].decode()
    assert "75.00%" in card
    assert card.rstrip().endswith("Written on the web.")


def test_checkpoints_pickles_and_private_files_stay(hub, bike_folder):
    (bike_folder / "checkpoints").mkdir()
    for name in ("checkpoints/config.json", ".env", "optimizer.pt", "run.json"):
        (bike_folder / name).write_text("x")
    lines = [*publish(bike_folder, "org/tiny")]
    assert "stays here: .env, checkpoints/, optimizer.pt, run.json" in lines
    assert set(hub.repos["models/org/tiny"].files) == FILES | {".gitattributes"}


def test_a_dry_run_neither_writes_nor_asks(hub, bike_folder, write_report, tmp_path):
    before = {path.name for path in bike_folder.iterdir()}
    lines = [*publish(bike_folder, "org/tiny", reports=[write_report(tmp_path / "r.json")], dry_run=True)]
    assert any("reports/ucf101-test-single_view.json" in line for line in lines)
    assert {path.name for path in bike_folder.iterdir()} == before
    assert hub.asked == []


def test_a_private_repository_is_made_private(hub, bike_folder):
    [*publish(bike_folder, "org/tiny", private=True)]
    assert hub.repos["models/org/tiny"].private


def test_results_are_collected_as_a_data_set(hub, bike_folder, write_report, tmp_path):
    report = write_report(tmp_path / "r.json")
    [*publish(bike_folder, "org/tiny", reports=[report], results_repo="org/results")]
    lines = [*publish(bike_folder, "org/tiny", reports=[report], results_repo="org/results")]
    repo = hub.repos["datasets/org/results"]
    [row] = map(json.loads, repo.files["data/org--tiny.jsonl"].splitlines())
    assert (row["model"], row["metric"], row["value"], row["low"]) == ("org/tiny", "top1", 0.75, 0.4093)
    assert row["revision"] == hub.repos["models/org/tiny"].head
    assert b"data_files: data/*.jsonl" in repo.files["README.md"]
    assert len(repo.commits) == 2
    assert lines[-1].endswith("already")


def test_a_token_that_is_not_known_is_named(hub, bike_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(RuntimeError, match="it does not know the token"):
        [*publish(bike_folder, "org/tiny")]


def test_a_place_where_the_token_may_not_write_is_named(hub, bike_folder):
    with pytest.raises(RuntimeError, match=r"refused other/tiny .*the token may not write there"):
        [*publish(bike_folder, "other/tiny")]


def test_without_a_token_the_reader_is_told_to_log_in(hub, bike_folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("kinoclip.hub.publish.get_token", lambda: None)
    with pytest.raises(RuntimeError, match="There is no token for the Hub"):
        [*publish(bike_folder, "org/tiny")]


def test_without_a_network_the_reader_is_told(hub, bike_folder, monkeypatch):
    monkeypatch.setattr("kinoclip.hub.publish.HfApi", partial(HfApi, endpoint="http://127.0.0.1:9"))
    with pytest.raises(RuntimeError, match="could not be reached"):
        [*publish(bike_folder, "org/tiny")]


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "org/", "org/with space"])
def test_a_malformed_name_is_refused(bike_folder, name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        [*publish(bike_folder, name)]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        [*publish(tmp_path / "none", "org/tiny")]


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_that_are_no_numbers_are_refused(bike_folder):
    change_weights(bike_folder, lambda weights: weights["logit_scale"].fill_(torch.nan))
    with pytest.raises(ValueError, match="logit_scale holds values that are no finite numbers"):
        [*publish(bike_folder, "org/tiny")]


def test_weights_that_are_missing_are_refused(bike_folder):
    change_weights(bike_folder, lambda weights: weights.pop("logit_scale"))
    with pytest.raises(ValueError, match=r"1 weights do not fit config\.json; logit_scale has shape none"):
        [*publish(bike_folder, "org/tiny")]


def test_a_weights_file_that_was_cut_off_is_refused(bike_folder):
    place = bike_folder / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-100])
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        [*publish(bike_folder, "org/tiny")]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", "holds no model.safetensors"),
        ("processor_config.json", "lacks its processor"),
        ("kinoclip_shim.py", "lacks kinoclip_shim.py"),
        ("config.json", "holds no config.json"),
    ],
)
def test_a_file_that_is_missing_is_named(bike_folder, name, message):
    (bike_folder / name).unlink()
    with pytest.raises(ValueError, match=message):
        [*publish(bike_folder, "org/tiny")]


def test_a_shim_that_was_changed_is_refused(bike_folder):
    with (bike_folder / "kinoclip_shim.py").open("a") as shim:
        shim.write("import os\n")
    with pytest.raises(ValueError, match="is not as kinoclip writes it"):
        [*publish(bike_folder, "org/tiny")]


def test_a_token_inside_of_a_file_is_refused(bike_folder):
    (bike_folder / "training.json").write_text(json.dumps({"note": "hf_" + "a" * 34}))
    with pytest.raises(ValueError, match=r"training.json holds what looks like a secret \(hf_aaa\.\.\.\)"):
        [*publish(bike_folder, "org/tiny")]
