"""`kinoclip train` and `kinoclip recipes`, as a person types them."""

import json
import signal
import subprocess
import sys
import time

import pytest

from kinoclip.cli import main
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video

FAST = ["--start", "mini", "--set", "training.epochs=1", "--set", "training.batch_size=4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """12 clips in folders of their color."""
    root = tmp_path_factory.mktemp("clips")
    for number, clip in enumerate(kinoshapes_clips(12, seed=4, labels=["red circle", "blue square", "green star"])):
        (root / clip.color).mkdir(exist_ok=True)
        write_video(root / clip.color / f"{number}.mp4", clip.frames[:8], clip.spec.fps)
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "model"
    code = main(["train", "finetune", "--data", str(folder), "--output", str(output), *FAST, "--validation", "0.25"])
    assert code == 0
    return output


def test_a_folder_of_ones_own_clips_is_learned_with_one_command(trained, folder, capsys):
    video = next((folder / "red").iterdir())
    assert main(["classify", str(video), "--model", str(trained)]) == 0
    record = json.loads(capsys.readouterr().out)
    assert {answer["label"] for answer in record["predictions"]} == {"red", "blue", "green"}


def test_the_same_share_of_each_class_is_kept_for_validation(trained):
    told = json.loads((trained / "training.json").read_text())
    # a quarter of four clips in each of three classes
    assert (told["videos"]["training"][0], told["videos"]["validation"][0]) == (9, 3)
    assert set(told["history"][0]["metrics"]) >= {"top1", "top5", "mean_class_accuracy"}


def test_a_second_run_into_the_folder_is_refused(trained, folder, capsys):
    assert main(["train", "finetune", "--data", str(folder), "--output", str(trained), *FAST]) == 2
    assert "holds a run already. Continue it with --resume" in capsys.readouterr().err


def test_a_wrong_setting_is_refused_before_anything_is_read(tmp_path, capsys):
    arguments = [
        "train",
        "finetune",
        "--data",
        "nowhere",
        "--output",
        str(tmp_path / "x"),
        "--set",
        "training.epoch=1",
    ]
    assert main(arguments) == 2
    assert "The nearest known one is 'training.epochs'" in capsys.readouterr().err


def test_an_interrupted_run_ends_with_130_and_the_same_command_continues_it(folder, tmp_path, capsys):
    output = tmp_path / "run"
    settings = ["--start", "mini", "--set", "training.epochs=50", "--set", "training.batch_size=4"]
    command = ["train", "finetune", "--data", str(folder), "--output", str(output), *settings, "--validation", "0.25"]
    running = subprocess.Popen(
        [sys.executable, "-m", "kinoclip.cli", *command, "--save-every", "1", "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background starts commands that ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not list((output / "checkpoints").glob("step-*")) and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 130, errors
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert list((output / "checkpoints").glob("step-*"))


def test_recipes_are_listed_with_the_numbers_of_the_paper(capsys):
    assert main(["recipes", "bike/"]) == 0
    told = capsys.readouterr().out
    assert "bike/t6a-vcs" in told
    assert "Table 6a, as the paper prints it: top1 78.5" in told


def test_one_recipe_is_shown_with_every_setting(capsys):
    assert main(["recipes", "finetune"]) == 0
    assert "training.batch_size = 32" in capsys.readouterr().out


def test_recipes_are_given_as_json(capsys):
    assert main(["recipes", "kinoshapes/bike", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kinoshapes/bike"]["training"]["objective"] == "captions"


def test_an_unknown_recipe_is_refused_with_the_nearest_one(capsys):
    assert main(["recipes", "finetun_"]) == 2
    assert "The nearest known one is 'finetune'" in capsys.readouterr().err
