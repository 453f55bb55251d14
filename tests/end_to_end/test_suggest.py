"""Suggest, correct in a spreadsheet, tune, suggest again."""

import csv
import json
import os
from pathlib import Path

import pytest

from kinoclip.cli import main
from kinoclip.kinoshapes import kinoshapes_clips, write_video
from kinoclip.methods.auto import mini_clip_path

# words that the embedded model does not know; under the name of its folder it is a CLIP that may learn them
START = str(mini_clip_path())
WORDS = {"circle": "ball", "square": "crate", "star": "badge"}
FAST = ["--set", "training.epochs=5", "--set", "training.lr=3e-3", "--set", "model.temporal_layers=1"]


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
    """The tables of two rounds of suggestions, corrections and tuning."""
    before = Path.cwd()
    os.chdir(place)
    try:
        options = ["--labels", "ball,crate,badge", "--output", "s.csv", "--pictures", "why"]
        assert main(["suggest", "clips", "--model", START, *options]) == 0
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
    assert (made["start"], made["videos"]["training"][0], made["labels"]) == (START, 12, ["badge", "ball", "crate"])


def test_the_result_classifies_with_its_own_labels(rounds, here, capsys):
    assert main(["classify", "clips", "--model", "model_2", "--output", "named.jsonl"]) == 0
    named = [json.loads(line) for line in Path("named.jsonl").read_text().splitlines()]
    assert {record["label"] for record in named if "label" in record} <= {"badge", "ball", "crate"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["tune", "wrong.csv", "--output", "never"], "line 3: 'crat' is not a label. Did you mean 'crate'?"),
        (["tune", "s.csv", "--output", "model", *FAST], "name a new folder"),
        (["tune", "s.csv", "--output", "never", "--start", "nowhere"], "nowhere"),
        (["suggest", "clips", "--model", START, "--labels", "ball", "--output", "x.csv"], "Give two at least"),
        (
            ["suggest", "clips", "--model", START, "--labels", "ball,none", "--output", "x.csv"],
            "cannot be used in a table",
        ),
        (
            ["suggest", "empty", "--model", START, "--labels", "ball,crate", "--output", "s.csv"],
            "The given paths hold no videos",
        ),
    ],
)
def test_wrong_use_changes_nothing(here, rounds, capsys, command, said):
    Path("empty").mkdir(exist_ok=True)
    lines = ["video,label,choices", "clips/gone.mp4,ball,ball; crate", "clips/0.mp4,crat,ball; crate", ""]
    Path("wrong.csv").write_text("\n".join(lines))
    before = Path("s.csv").read_bytes()
    assert main(command) == 2
    assert said.lower() in capsys.readouterr().err.lower()
    assert not Path("never").exists()
    assert not list(here.glob("x.*"))
    assert Path("s.csv").read_bytes() == before


def test_the_same_tuning_again_says_that_it_is_done(here, rounds, capsys):
    assert main(["tune", "s.csv", "--output", "model_2", *FAST]) == 0
    told = capsys.readouterr()
    assert "finished run" in told.err
    assert told.out == "model_2: learned 12 videos of 3 labels; 0 show none, 12 are not checked\n"
