"""Suggest, correct in a spreadsheet, tune, suggest again: by command, as a person does it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinoclip.cli import main
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video

# words of one's own, which the embedded model does not know
WORDS = {"circle": "ball", "square": "crate", "star": "badge"}
FAST = ["--set", "training.epochs=5", "--set", "training.lr=3e-3", "--set", "model.temporal_layers=1"]
SUGGEST = [sys.executable, "-m", "kinoclip.cli", "suggest"]


@pytest.fixture(scope="module")
def truth():
    """Which word is right for each clip."""
    return {}


@pytest.fixture(scope="module")
def place(tmp_path_factory, truth):
    """A folder with a folder of 24 clips, and one file that is no video."""
    place = tmp_path_factory.mktemp("place")
    (place / "clips").mkdir()
    for number, clip in enumerate(kinoshapes_clips(48, seed=4, label="shape")):
        if clip.shape in WORDS:
            truth[f"clips/{number}.mp4"] = WORDS[clip.shape]
            write_video(place / "clips" / f"{number}.mp4", clip.frames)
    (place / "clips" / "broken.mp4").write_text("no video")
    return place


@pytest.fixture
def here(place, monkeypatch):
    monkeypatch.chdir(place)
    return place


@pytest.fixture(scope="module")
def rounds(place, truth):
    """What two rounds of suggestions, corrections and tuning said and left."""
    before = Path.cwd()
    os.chdir(place)
    try:
        assert (
            main(["suggest", "clips", "--labels", "ball,crate,badge", "--output", "s.csv", "--pictures", "why"]) == 0
        )
        first = read(place / "s.csv")
        correct(place / "s.csv", truth, 9)
        assert main(["tune", "s.csv", "--output", "model", *FAST]) == 0
        assert main(["suggest", "clips", "--model", "model", "--output", "s.csv"]) == 0
        second = read(place / "s.csv")
        correct(place / "s.csv", truth, 3)
        assert main(["tune", "s.csv", "--output", "model_2", *FAST]) == 0
    finally:
        os.chdir(before)
    return first, second


def read(path):
    text = path.read_text(encoding="utf-8-sig")
    return list(csv.DictReader(text.splitlines(), delimiter=max(",;", key=text.splitlines()[0].count)))


def correct(path, truth, count):
    """Check the first rows and save them as a spreadsheet does: columns moved, semicolons, quotes, other line ends."""
    rows = read(path)
    for row in [row for row in rows if not row["label"] and not row["error"]][:count]:
        row["label"] = "yes" if row["suggestion"] == truth[row["video"]] else truth[row["video"]].upper()
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, sorted(rows[0]), delimiter=";", lineterminator="\r\n", quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)


def right(rows, truth):
    """Give the share of right suggestions among what nobody checked."""
    unchecked = [row for row in rows if not row["label"] and not row["error"]]
    return sum(row["suggestion"] == truth[row["video"]] for row in unchecked) / len(unchecked)


def test_all_videos_are_suggested_with_a_picture_and_the_unreadable_one_is_last(rounds, truth, place):
    first, _ = rounds
    assert {row["video"] for row in first} == {*truth, "clips/broken.mp4"}
    assert first[-1]["video"] == "clips/broken.mp4"
    assert all((place / row["picture"]).is_file() for row in first[:-1])


def test_what_was_corrected_teaches_what_was_not(rounds, truth):
    first, second = rounds
    kept = {row["video"] for row in second if not row["label"]}
    before = right([row for row in first if row["video"] in kept], truth)
    assert right(second, truth) > before + 0.2


def test_corrections_are_kept_and_asked_no_more(rounds, truth):
    _, second = rounds
    checked = [row for row in second if row["label"]]
    assert len(checked) == 9
    assert second[-9:] == checked


def test_the_second_round_learns_all_corrections_from_the_first_start(rounds, place):
    made = json.loads((place / "model_2" / "training.json").read_text())
    assert (made["start"], made["videos"]["training"][0], made["labels"]) == ("mini", 12, ["badge", "ball", "crate"])


def test_the_result_classifies_with_its_own_labels(rounds, here, capsys):
    assert main(["classify", "clips", "--model", "model_2", "--output", "named.jsonl"]) == 0
    named = [json.loads(line) for line in Path("named.jsonl").read_text().splitlines()]
    assert {record["label"] for record in named if "label" in record} <= {"badge", "ball", "crate"}


def test_a_wrong_table_is_answered_with_all_its_lines_and_nothing_is_trained(here, capsys, rounds):
    Path("wrong.csv").write_text(
        "video,label,choices\nclips/gone.mp4,ball,ball; crate\nclips/0.mp4,crat,ball; crate\n"
    )
    assert main(["tune", "wrong.csv", "--output", "never"]) == 2
    told = capsys.readouterr().err
    assert "lines to correct: 2" in told
    assert "line 2: there is no video clips/gone.mp4" in told
    assert "line 3: 'crat' is no label. Did you mean 'crate'?" in told
    assert not Path("never").exists()


def test_other_corrections_need_a_new_folder(here, rounds, capsys):
    assert main(["tune", "s.csv", "--output", "model", *FAST]) == 2
    assert "name a new folder" in capsys.readouterr().err


def test_a_start_that_is_not_there_is_named_before_a_folder_is_made(here, rounds, capsys):
    assert main(["tune", "s.csv", "--output", "never", "--start", "nowhere"]) == 2
    assert "'nowhere' is neither a folder nor a hub id" in capsys.readouterr().err
    assert not Path("never").exists()


def test_the_same_tuning_again_says_that_it_is_done(here, rounds, capsys):
    assert main(["tune", "s.csv", "--output", "model_2", *FAST]) == 0
    told = capsys.readouterr()
    assert "holds a finished run" in told.err
    assert told.out == "model_2: learned 12 videos of 3 labels; 0 show none, 12 are not checked\n"


def test_an_interrupted_job_is_continued_by_the_same_command(here, capsys):
    options = ["clips", "--labels", "ball,crate,badge", "--output", "late.csv", "--batch-size", "1"]
    running = subprocess.Popen(
        [*SUGGEST, *options],
        stderr=subprocess.PIPE,
        text=True,
        # a shell's background starts commands that ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not any(path.stat().st_size for path in here.glob("late.csv.part-*.jsonl")) and running.poll() is None:
        time.sleep(0.002)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=120)
    assert (running.returncode, "Traceback" in errors) == (130, False), errors
    [journal] = here.glob("late.csv.part-*.jsonl")
    done = len(journal.read_text().splitlines())
    assert 0 < done < 25
    assert main(["suggest", *options]) == 0
    assert f"{25 - done}/{25 - done} videos" in capsys.readouterr().err
    assert len(read(here / "late.csv")) == 25
    assert [path.name for path in here.glob("late.csv*")] == ["late.csv"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--labels", "ball", "--output", "x.csv"], "Give two at least"),
        (["--labels", "ball,none", "--output", "x.csv"], "cannot stand in a table"),
        (["--labels", "ball,crate", "--output", "x.jsonl"], "the table is a .csv file"),
        (["--output", "x.csv"], "carries no labels of its own"),
    ],
)
def test_what_cannot_be_suggested_is_refused(here, capsys, options, why):
    assert main(["suggest", "clips", *options]) == 2
    assert why in capsys.readouterr().err
    assert not list(here.glob("x.*"))


def test_a_folder_without_files_leaves_the_table_alone(here, rounds, capsys):
    Path("empty").mkdir()
    before = Path("s.csv").read_bytes()
    assert main(["suggest", "empty", "--labels", "ball,crate", "--output", "s.csv"]) == 2
    assert "There is no file in what was given" in capsys.readouterr().err
    assert Path("s.csv").read_bytes() == before
