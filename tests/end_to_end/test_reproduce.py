"""`kinoclip reproduce` on procedural videos: chains, shots and folds, also after SIGKILL."""

import json
import subprocess
import time

import pytest

from kinoclip.cli import main
from kinoclip.storage import OutputLock
from kinoclip.training.reproduce import Options, reproduce

# three rows that start from each other; two shots, three draws; three folds without training
CHAIN = "bike/t6i-b32-va-views"
FEW_SHOT = "dstpr/t7-prompts-2"
FOLDS = "alt/t3-hmdb51-b16"


def _accuracies(folder):
    """Return what does not depend on time."""
    rows = json.loads((folder / "results.json").read_text())
    timed = ("minutes", "memory_mb", "training_videos_per_second", "videos_per_second")
    measured = [{name: v for name, v in row["measured"].items() if name not in timed} for row in rows]
    return [(row["recipe"], row["seeds"], row["folds"], found) for row, found in zip(rows, measured, strict=True)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reproduced") / "out"
    assert main(["reproduce", CHAIN, FEW_SHOT, FOLDS, "--smoke", "--output", str(folder)]) == 0
    return folder


def test_a_chain_is_trained_from_its_first_row_on(finished):
    runs = sorted(path.name for path in (finished / "runs").iterdir())
    assert [name for name in runs if name.startswith("bike")] == [
        "bike-t6a-frozen-seed1024-fold1",
        "bike-t6e-va-seed1024-fold1",
    ]
    second = json.loads((finished / "runs" / "bike-t6e-va-seed1024-fold1" / "training.json").read_text())
    assert second["start"].endswith("bike-t6a-frozen-seed1024-fold1")


def test_each_draw_of_shots_is_a_run_with_its_own_seed(finished):
    row = _row(finished, FEW_SHOT)
    assert row["seeds"] == [0, 1]  # two in a smoke test, three otherwise
    assert row["measured"]["top1_std"] >= 0
    assert len({run["folder"] for run in row["runs"]}) == 2


def test_each_fold_is_measured_and_the_number_is_their_mean(finished):
    row = _row(finished, FOLDS)
    assert row["folds"] == [1, 2, 3]
    found = [100 * run["metrics"]["top1"] for run in row["runs"]]
    assert row["measured"]["top1"] == pytest.approx(sum(found) / 3, abs=1e-3)
    assert row["difference"]["top1_mean"] == pytest.approx(
        row["measured"]["top1"] - row["printed"]["top1_mean"], abs=1e-3
    )


def test_the_table_has_the_printed_number_and_the_protocol_of_each_row(finished):
    text = (finished / "results.md").read_text()
    assert "| 81.90 |" in text  # Table 6i, B/32 with 4 x 3 views
    assert "| t6i-b32-va-views | bike_fused_multi_view | last | 1 |" in text
    assert "smoke test: random models" in text


def test_the_same_command_again_trains_and_measures_nothing(finished, capsys):
    before = _accuracies(finished)
    assert main(["reproduce", CHAIN, FEW_SHOT, FOLDS, "--smoke", "--output", str(finished)]) == 0
    told = capsys.readouterr().err
    assert "training bike" not in told
    assert "measuring" not in told
    assert _accuracies(finished) == before


def test_the_published_model_is_evaluated_with_the_protocol_that_it_was_trained_for(finished, capsys):
    folder = finished / "runs" / "bike-t6a-frozen-seed1024-fold1"
    code = main(["evaluate", str(folder), "--data", "kinoshapes/motions", "--split", "validation", "--json"])
    told = capsys.readouterr()
    assert code == 0, told.err
    assert json.loads(told.out)["protocol"]["name"] == "bike_single_view"


def test_a_model_of_a_recipe_can_be_given_instead_of_training_it(finished, tmp_path):
    start = finished / "runs" / "bike-t6a-frozen-seed1024-fold1"
    options = Options(smoke=True, starts={"bike/t6a-frozen": str(start)})
    reproduce(["bike/t6e-va"], [], tmp_path / "out", options)
    assert [path.name for path in (tmp_path / "out" / "runs").iterdir()] == ["bike-t6e-va-seed1024-fold1"]


def _row(folder, recipe):
    return next(row for row in json.loads((folder / "results.json").read_text()) if row["recipe"] == recipe)


def test_a_table_with_claims_ends_with_verdicts_groups_time_and_pictures(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    rows = ["kinofigures/clip-saliency", "kinofigures/clip", "kinofigures/alt-r0"]
    command = ["reproduce", *rows, "kinofigures/tam", "--smoke", "--quick", "--output", str(tmp_path / "out")]
    assert main(command) == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "claims.json").read_text())
    first = found["kinofigures"][0]
    assert [first[name] for name in ("paper", "row", "over", "seeds")] == ["BIKE", "clip-saliency", "clip", 1]
    assert len(found["kinofigures"]) == 1  # the other rows are not compared with each other
    text = (tmp_path / "out" / "results.md").read_text()
    assert "hours, with seeds 0, on:" in text
    assert "| row | what | all | motion | reversed | object | two people | test | views |" in text
    assert "--quick: fewer rows" in text
    assert "kinofigures/tam" not in text  # is not among the quick rows
    pictures = sorted(path.name for path in (tmp_path / "out").glob("*.svg"))
    assert pictures == [f"kinofigures-{name}.svg" for name in ("confusions", "cost", "curves", "reasons")]
    before = json.loads((tmp_path / "out" / "time.json").read_text())["seconds"]
    assert main(command) == 0
    assert json.loads((tmp_path / "out" / "time.json").read_text())["seconds"] > before


# files that exist at five moments: the identity, a run's first checkpoint, a finished run, a measurement, a row
MOMENTS = (
    "reproduce.json",
    "runs/bike-t6a-frozen-*/checkpoints/step-*",
    "runs/bike-t6e-va-*/training.json",
    "measurements/*.json",
    "runs/dstpr-*-seed1-*/run.json",
)


def test_a_job_that_is_killed_at_five_moments_ends_with_the_same_table(finished, programs, tmp_path):
    folder = tmp_path / "out"
    command = ["kinoclip", "reproduce", CHAIN, FEW_SHOT, "--smoke", "--output", str(folder)]
    for moment in MOMENTS:
        job = subprocess.Popen(command, env=programs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while job.poll() is None and not list(folder.glob(moment)):
            time.sleep(0.01)
        assert job.poll() is None, f"the job ended before {moment}"
        job.kill()
        job.wait()
        lock = OutputLock(folder, folder / ".lock")
        lock.acquire(wait=True)  # until the job has ended
        lock.release()
    assert main(command[1:]) == 0
    assert _accuracies(folder) == _accuracies(finished)[:2]
