"""`kinoclip profile --measure` and `kinoclip classify --budget` on the embedded weights."""

import json
import re
import shutil

import pytest
import torch
from clip_files import write_clips
from safetensors.torch import load_file, save_file

from kinoclip.cli import main
from kinoclip.hub.converting import convert
from kinoclip.inference import measuring
from kinoclip.kinoshapes import kinoshapes_clips

LABELS = "red circle,blue square,green star"


@pytest.fixture
def run(capsys):
    """A function that runs a command in this process and returns its code, output and errors."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder with a model, the curve of three of its settings, and six videos in folders of their labels."""
    folder = tmp_path_factory.mktemp("measured")
    for _ in convert("bike", "mini", folder / "model"):
        pass
    clips = kinoshapes_clips(6, seed=3, labels=LABELS.split(","), num_frames=8)
    write_clips(folder / "videos", clips, "{clip.label}/{number}.mp4")
    choices = [[{"frames": 8}, {"frames": 4}, {"frames": 2}], [{"dtype": "auto", "backend": "torch"}]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measuring, "_SECONDS", 0.0)
        patch.setattr(measuring, "find_choices", lambda _: choices)
        # each setting is on the front, so that all are measured whatever their times and answers are
        patch.setattr(measuring.Curve, "front", property(lambda curve: list(curve.points)))
        assert main(["profile", str(folder / "model"), "--data", str(folder / "videos"), "--measure"]) == 0
    return folder


@pytest.fixture
def job(measured, tmp_path):
    """A copy of `measured` whose settings take 100, 50 and 20 ms with accuracies of 90, 80 and 60 %."""
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.curve.json"
    curve = json.loads(path.read_text())
    assert [point["setting"]["frames"] for point in curve["points"]] == [8, 4, 2]
    for point, seconds, accuracy in zip(curve["points"], (0.1, 0.05, 0.02), (0.9, 0.8, 0.6), strict=True):
        assert point["seconds"] > 0
        point |= {"seconds": seconds, "accuracy": accuracy}
    path.write_text(json.dumps(curve))
    return tmp_path


def classify(folder, *options):
    shown = ("--labels", LABELS, "--model", folder / "model")
    return ("classify", folder / "videos", *shown, *options)


def read_frames(path):
    return [len(json.loads(line)["frame_indices"]) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("budget", "frames"),
    # shares of 100 ms; 0.006 min are 360 ms for 6 videos
    [("60ms", 4), ("0.2", 2), ("1", 8), ("0.006min", 4), ("3h", 8)],
)
def test_the_most_accurate_setting_within_the_budget_answers_and_is_named(budget, frames, run, job):
    code, _, errors = run(*classify(job, "--budget", budget, "--output", job / "out.jsonl"))
    assert code == 0
    assert read_frames(job / "out.jsonl") == [frames] * 6
    seconds, accuracy = {8: ("100 ms", "90"), 4: ("50 ms", "80"), 2: ("20 ms", "60")}[frames]
    assert f"--budget {budget}: --frames {frames} --clips 1: top1 {accuracy}.00% of 6 videos of" in errors
    assert f"{seconds} per video, " in errors
    assert re.search(r"took \d\S* m?s per video, [+-]\d+\.\d% compared with the expected time", errors)


def test_the_printed_options_without_a_budget_continue_the_same_records(run, job):
    _, _, errors = run(*classify(job, "--budget", "60ms", "--output", job / "out.jsonl"))
    options = re.search(r"--budget 60ms: (.*?): top1", errors)[1].split()
    code, _, errors = run(*classify(job, *options, "--output", job / "out.jsonl"))
    assert code == 0
    assert "6 of 6 are done already" in errors


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_job_with_a_deadline_keeps_the_setting_of_its_records(suffix, run, job):
    output = job / f"out{suffix}"
    assert run(*classify(job, "--budget", "0.006min", "--output", output))[0] == 0
    shutil.copy(next((job / "videos" / "red circle").iterdir()), job / "videos" / "new.mp4")
    # one video is left, and 360 ms would be enough for 8 frames
    code, _, errors = run(*classify(job, "--budget", "0.006min", "--output", output))
    assert code == 0
    assert "continues with --frames 4 --clips 1: top1 80.00% of 6 videos" in errors
    assert "50 ms for 1 videos" in errors
    assert len(output.read_text().splitlines()) == 7 + (suffix == ".csv")


def test_another_setting_does_not_continue_the_records_of_one_except_with_retry(run, job):
    output = ("--output", job / "out.jsonl")
    assert run(*classify(job, "--budget", "60ms", *output))[0] == 0
    code, _, errors = run(*classify(job, "--budget", "20ms", *output))
    assert code == 2
    assert "made with other frames" in errors
    assert run(*classify(job, "--budget", "20ms", *output, "--retry", "changed"))[0] == 0
    assert read_frames(job / "out.jsonl") == [2] * 6


def test_a_curve_of_other_weights_is_refused(run, job):
    path = job / "model" / "model.safetensors"
    weights = load_file(path)
    save_file(
        {name: tensor + torch.ones_like(tensor) / 100 for name, tensor in weights.items()}, path, {"format": "pt"}
    )
    code, _, errors = run(*classify(job, "--budget", "60ms"))
    assert code == 2
    assert "model.curve.json was measured with another model or corpus. Measure again: kinoclip profile" in errors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--budget", "10ms"), "at least 20 ms per video"),
        (("--budget", "60ms", "--batch-size", "4"), "was measured with another backend, device, dtype or batch size"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, said, run, job):
    code, output, errors = run(*classify(job, *options))
    assert (code, output) == (2, "")
    assert said in errors


def test_a_file_that_is_no_curve_is_not_replaced(run, job):
    (job / "model.curve.json").write_text("notes")
    code, _, errors = run("profile", job / "model", "--data", job / "videos", "--measure")
    assert code == 2
    assert "was not written by this command" in errors
    assert (job / "model.curve.json").read_text() == "notes"
