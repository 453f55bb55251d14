"""`kinoclip train` and `kinoclip recipes`."""

import json

import pytest
from clip_files import write_clips

from kinoclip.cli import main
from kinoclip.kinoshapes import kinoshapes_clips

FAST = ["--start", "mini", "--set", "training.epochs=1", "--set", "training.batch_size=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 clips in folders of their color."""
    clips = kinoshapes_clips(12, seed=4, labels=["red circle", "blue square", "green star"], num_frames=8)
    return write_clips(tmp_path_factory.mktemp("clips"), clips, "{clip.color}/{number}.mp4")


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "model"
    code = main(["train", "finetune", "--data", str(folder), "--output", str(output), *FAST, "--validation", "0.25"])
    assert code == 0
    return output


def test_a_folder_of_clips_is_learned_with_one_command(trained, folder, capsys):
    video = next((folder / "red").iterdir())
    assert main(["classify", str(video), "--model", str(trained)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {answer["label"] for answer in record["predictions"]} == {"red", "blue", "green"}


def test_the_same_share_of_each_class_is_kept_for_validation(trained):
    record = json.loads((trained / "training.json").read_text())
    # a quarter of four clips in each of three classes
    assert (record["videos"]["training"][0], record["videos"]["validation"][0]) == (9, 3)
    assert set(record["history"][0]["metrics"]) >= {"top1", "top5", "mean_class_accuracy"}


def test_a_wrong_setting_is_refused_before_anything_is_read(tmp_path, capsys):
    arguments = ["train", "finetune", "--data", str(tmp_path), "--output", str(tmp_path / "x")]
    assert main([*arguments, "--set", "training.epoch=1"]) == 2
    assert "The nearest known one is 'training.epochs'" in capsys.readouterr().err


def test_recipes_are_listed_with_the_numbers_of_the_paper(capsys):
    assert main(["recipes", "bike/"]) == 0
    output = capsys.readouterr().out
    assert "bike/t6a-vcs" in output
    assert "Table 6a, as the paper prints it: top1 78.5" in output


def test_one_recipe_is_shown_with_every_setting_and_as_json(capsys):
    assert main(["recipes", "finetune"]) == 0
    assert "training.batch_size = 32" in capsys.readouterr().out
    assert main(["recipes", "kinoshapes/bike", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kinoshapes/bike"]["training"]["objective"] == "captions"


def test_a_loss_that_is_not_finite_is_one_line(folder, tmp_path, capsys):
    command = ["train", "finetune", "--data", str(folder), "--start", "mini", "--output", str(tmp_path / "run")]
    for setting in ("epochs=3", "lr=1e30", "batch_size=2", "accumulation=1"):
        command += ["--set", f"training.{setting}"]
    assert main(command) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("kinoclip: The loss of update ")
    assert "Lower training.lr" in last
