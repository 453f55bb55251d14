"""Publishing: uploaded files, commits, local files, and refusals."""

import base64
import json
import re
import runpy
from functools import partial

import pytest
import torch
import yaml
from hub_server import TOKEN, serve
from huggingface_hub import HfApi, parse_eval_result_entries
from safetensors.torch import load_file, save_file

import kinoclip
from kinoclip.hub.publish import publish

FILES = {
    "README.md",
    "config.json",
    "handler.py",
    "kinoclip_shim.py",
    "model.safetensors",
    "processor_config.json",
    "requirements.txt",
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
    assert [path for path in hub.asked if not path.endswith("repos/create")] == [
        "api/validate-yaml",
        "api/models/org/tiny/preupload/main",
        "api/models/org/tiny/commit/main",
    ]


def test_the_same_command_again_makes_no_commit(hub, bike_folder):
    [*publish(bike_folder, "org/tiny")]
    lines = [*publish(bike_folder, "org/tiny")]
    assert len(hub.repos["models/org/tiny"].commits) == 2
    assert lines[-1].startswith("nothing changed")


@pytest.mark.parametrize(
    ("fault", "message", "commits", "last"),
    [
        ("failing", "run the same command again", 1, "published"),
        ("cutting", r"could not be reached for org/tiny.* run the same command again; it continues", 1, "published"),
        ("losing", "could not be reached", 2, "nothing changed"),  # the commit was made, its response lost
    ],
)
def test_an_interrupted_upload_is_continued_by_the_same_command(hub, bike_folder, fault, message, commits, last):
    setattr(hub, fault, {"commit"})
    with pytest.raises(RuntimeError, match=message):
        [*publish(bike_folder, "org/tiny")]
    assert len(hub.repos["models/org/tiny"].commits) == commits
    assert [*publish(bike_folder, "org/tiny")][-1].startswith(last)
    assert len(hub.repos["models/org/tiny"].commits) == 2


def test_reports_stay_in_the_folder_and_its_card_and_are_sent_for_leaderboards(
    hub, bike_folder, write_report, tmp_path
):
    [*publish(bike_folder, "org/tiny", reports=[write_report(tmp_path / "r.json")])]
    [*publish(bike_folder, "org/tiny")]
    repo = hub.repos["models/org/tiny"]
    assert len(repo.commits) == 2
    assert json.loads(repo.files["reports/ucf101-test-single_view.json"])["metrics"] == {"top1": 0.75}
    assert b"75.00%" in repo.files["README.md"]
    [entry] = parse_eval_result_entries(yaml.safe_load(repo.files[".eval_results/ucf101-test-single_view.yaml"]))
    assert (entry.dataset_id, entry.task_id, entry.value) == ("ucf101", "single_view.top1", 0.75)
    assert entry.notes == "one clip, center crop; 8 videos; reports/ucf101-test-single_view.json"


def test_an_inference_endpoint_answers_with_the_published_folder(hub, bike_folder, video_path):
    [*publish(bike_folder, "org/tiny")]
    handler = runpy.run_path(str(bike_folder / "handler.py"))["EndpointHandler"](str(bike_folder))
    video = base64.b64encode(video_path.read_bytes()).decode()
    answer = handler({"inputs": video, "parameters": {"candidate_labels": ["red circle", "blue square"]}})
    assert {one["label"] for one in answer} == {"red circle", "blue square"}
    assert sum(one["score"] for one in answer) == pytest.approx(1)
    assert (bike_folder / "requirements.txt").read_text() == f"kinoclip>={kinoclip.__version__}\n"


def test_requirements_of_an_earlier_version_are_replaced(hub, bike_folder):
    (bike_folder / "requirements.txt").write_text("kinoclip>=0.0.1\n")
    [*publish(bike_folder, "org/tiny")]
    assert hub.repos["models/org/tiny"].files["requirements.txt"] == f"kinoclip>={kinoclip.__version__}\n".encode()


def test_a_handler_that_was_edited_is_refused_before_anything_is_sent(hub, bike_folder):
    (bike_folder / "handler.py").write_text("import os\n")
    with pytest.raises(FileExistsError, match=r"handler\.py exists, and was not written by this command"):
        [*publish(bike_folder, "org/tiny")]
    assert hub.asked == []


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


@pytest.mark.parametrize(
    ("token", "endpoint", "place", "said"),
    [
        ("hf_other", None, "org/tiny", "unknown token"),
        (TOKEN, None, "other/tiny", r"refused other/tiny .*the token has no write access there"),
        ("", None, "org/tiny", "needs a token with write access"),
        (TOKEN, "http://127.0.0.1:9", "org/tiny", "could not be reached"),
    ],
    ids=["unknown token", "no write access", "no token", "no network"],
)
def test_where_nothing_can_be_sent_the_reader_is_told(hub, bike_folder, monkeypatch, token, endpoint, place, said):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr("kinoclip.hub.publish.get_token", lambda: token or None)
    monkeypatch.setattr("kinoclip.hub.publish.HfApi", partial(HfApi, endpoint=endpoint or hub.url))
    with pytest.raises(RuntimeError, match=said):
        [*publish(bike_folder, place)]


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "org/", "org/with space"])
def test_a_malformed_name_is_refused(bike_folder, name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        [*publish(bike_folder, name)]


@pytest.mark.parametrize(("name", "said"), [("none", "does not exist"), ("", r"The report none\.json does not exist")])
def test_a_folder_or_a_report_that_is_not_there_is_named(bike_folder, name, said):
    with pytest.raises(FileNotFoundError, match=said):
        [*publish(bike_folder / name, "org/tiny", reports=["none.json"])]


def change_weights(change):
    def damage(folder):
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return damage


def cut(folder):
    place = folder / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-100])


def change_shim(folder):
    with (folder / "kinoclip_shim.py").open("a") as shim:
        shim.write("import os\n")


def leave_a_token(folder):
    (folder / "training.json").write_text(json.dumps({"note": "hf_" + "a" * 34}))


def remove(name):
    return lambda folder: (folder / name).unlink()


REFUSED = {
    "NaN": (
        change_weights(lambda weights: weights["logit_scale"].fill_(torch.nan)),
        "logit_scale holds NaN or infinity",
    ),
    "a missing weight": (
        change_weights(lambda weights: weights.pop("logit_scale")),
        r"do not fit its config\.json: 1 missing, first logit_scale",
    ),
    "cut weights": (cut, "is not a complete safetensors file"),
    "no weights": (remove("model.safetensors"), "has no model.safetensors"),
    "no processor": (remove("processor_config.json"), "has no processor"),
    "no shim": (remove("kinoclip_shim.py"), "has no kinoclip_shim.py"),
    "no config": (remove("config.json"), "lacks config.json"),
    "a changed shim": (change_shim, "was changed, and others would run it"),
    "a token": (leave_a_token, r"training.json contains what looks like a secret \(hf_aaa\.\.\.\)"),
}


@pytest.mark.parametrize(("damage", "message"), REFUSED.values(), ids=REFUSED)
def test_a_folder_that_others_could_not_or_should_not_load_is_refused_with(bike_folder, damage, message):
    damage(bike_folder)
    with pytest.raises(ValueError, match=message):
        [*publish(bike_folder, "org/tiny")]
