"""Suggestions: their order, what is kept of a person's work, and how a job goes on."""

import shutil
from pathlib import Path

import pytest

from kinoclip.data.suggestions import SuggestionTable
from kinoclip.inference.classify import Classifier
from kinoclip.inference.jobs import Job
from kinoclip.inference.suggesting import order_by_use, suggest

LABELS = ("red circle", "blue square", "green star")


@pytest.fixture
def job(tiny_bike, bike_processor):
    return Job(Classifier(tiny_bike, bike_processor, "tiny"), LABELS, top_k=3)


@pytest.fixture
def videos(video_path, tmp_path):
    paths = [tmp_path / f"{name}.mp4" for name in "abc"]
    for path in paths:
        shutil.copy(video_path, path)
    return [str(path) for path in paths]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.csv"


def row(video, suggestion, probability, runner_up_probability, **more):
    row = {"video": video, "suggestion": suggestion, "label": "", "error": "", **more}
    return row | {"probability": str(probability), "runner_up_probability": str(runner_up_probability)}


def note(path, **labels):
    """Write labels into a table, as a person does."""
    table = SuggestionTable.load(path)
    for row in table.rows:
        row["label"] = labels.get(row["video"].rpartition("/")[2][0], row["label"])
    table.save(path)


def hear(seen):
    """Put down how many videos are to be looked at, and each of them."""

    def start(total):
        seen.append(total)
        return lambda record: seen.append(record["video"])

    return start


def test_close_calls_come_first_and_suggestions_take_turns():
    rows = [row("a", "go", 0.9, 0.1), row("b", "go", 0.4, 0.3), row("c", "go", 0.5, 0.3), row("d", "stop", 0.8, 0.2)]
    # margins 0.8, 0.1, 0.2 of go and 0.6 of stop
    assert [one["video"] for one in order_by_use(rows)] == ["b", "d", "c", "a"]


def test_what_needs_no_answer_comes_last():
    rows = [row("a", "go", 0.5, 0.5, label="yes"), row("b", "", "", "", error="no video"), row("c", "go", 0.9, 0.1)]
    assert [one["video"] for one in order_by_use(rows)] == ["c", "b", "a"]


def test_numbers_that_a_spreadsheet_changed_are_still_in_order():
    rows = [row("a", "go", "0,9", "0,1"), row("b", "go", "0,5", "0,4"), row("c", "go", "53. Jan", "")]
    assert [one["video"] for one in order_by_use(rows)] == ["c", "b", "a"]


def test_each_video_gets_a_row_with_all_labels_by_probability(job, videos, path):
    table = suggest(videos, job, path)
    assert sorted(one["video"] for one in table.rows) == videos
    first = table.rows[0]
    assert first["choices"].split("; ")[:2] == [first["suggestion"], first["runner_up"]]
    assert float(first["probability"]) >= float(first["runner_up_probability"])
    assert (first["model"], first["label"]) == ("tiny", "")


def test_what_was_checked_is_never_looked_at_again(job, videos, path):
    suggest(videos, job, path)
    note(path, b="blue square")
    seen = []
    other = Job(job.classifier, LABELS[:2], top_k=2)
    table = suggest(videos, other, path, progress=hear(seen))
    assert seen == [2, videos[0], videos[2]]
    assert (table.rows[-1]["video"], table.rows[-1]["label"]) == (videos[1], "blue square")


def test_the_same_job_again_looks_at_new_videos_alone(job, videos, path):
    suggest(videos[:2], job, path)
    seen = []
    table = suggest(videos, job, path, progress=hear(seen))
    assert seen == [1, videos[2]]
    assert len(table.rows) == 3


def test_a_video_that_could_not_be_read_is_tried_again(job, videos, path):
    place = Path(videos[1])
    moved = place.rename(place.with_name("elsewhere"))
    assert suggest(videos, job, path).rows[-1]["error"]
    moved.rename(place)
    seen = []
    table = suggest(videos, job, path, progress=hear(seen))
    assert seen == [1, videos[1]]
    assert [row["error"] for row in table.rows] == ["", "", ""]


def test_labels_that_were_written_while_the_job_ran_are_kept(job, videos, path):
    suggest(videos, job, path)
    other = Job(job.classifier, LABELS[:2], top_k=2)
    suggest(videos, other, path, progress=lambda total: lambda record: note(path, a="green star"))
    found = {one["video"]: one["label"] for one in SuggestionTable.load(path).rows}
    assert found == {videos[0]: "green star", videos[1]: "", videos[2]: ""}


def test_an_interrupted_job_goes_on_where_it_was(job, videos, path):
    class StopError(Exception):
        pass

    def stop(record):
        if record["video"] == videos[1]:
            raise StopError

    one_by_one = Job(job.classifier, LABELS, top_k=3, batch_size=1)
    with pytest.raises(StopError):
        suggest(videos, one_by_one, path, progress=lambda total: stop)
    assert not path.exists()
    seen = []
    suggest(videos, one_by_one, path, progress=hear(seen))
    assert seen == [2, *videos[1:]]
    assert [file.name for file in path.parent.glob("s.csv*")] == ["s.csv"]


def test_a_video_that_cannot_be_read_says_why(job, videos, path, tmp_path):
    (tmp_path / "bad.mp4").write_text("no video")
    table = suggest([*videos, str(tmp_path / "bad.mp4")], job, path)
    assert "this is text, not a video" in table.rows[-1]["error"]
    assert table.rows[-1]["suggestion"] == ""
