"""Tables of suggestions: their order, what is kept of a user's work, and the corrections read from them."""

import os
import shutil
from pathlib import Path

import pytest

from kinoclip.inference.batch_job import ClassifyJob
from kinoclip.inference.suggest import (
    CorrectionsError,
    SuggestionTable,
    check_choices,
    order_by_margin,
    read_corrections,
    suggest,
)

LABELS = ("red circle", "blue square", "green star")
HEADER = "video,suggestion,probability,runner_up,label,choices,model\n"


@pytest.fixture
def job(classifier):
    return ClassifyJob(classifier, LABELS, top_k=3, batch_size=1)


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


def write_labels(path, **labels):
    """Write labels into a table, as a user does."""
    table = SuggestionTable.load(path)
    for row in table.rows:
        row["label"] = labels.get(row["video"].rpartition("/")[2][0], row["label"])
    table.save(path)


def collect(seen):
    """Return a `progress` that lists the number of videos, and each of them."""
    return lambda total: seen.append(total) or (lambda record: seen.append(record["video"]))


@pytest.mark.parametrize(
    ("rows", "order"),
    [
        # margins 0.8, 0.1, 0.2 of go and 0.6 of stop; labels take turns
        (
            [row("a", "go", 0.9, 0.1), row("b", "go", 0.4, 0.3), row("c", "go", 0.5, 0.3), row("d", "stop", 0.8, 0.2)],
            "bdca",
        ),
        # what needs no answer comes last
        ([row("a", "go", 0.5, 0.5, label="yes"), row("b", "", "", "", error="x"), row("c", "go", 0.9, 0.1)], "cba"),
        # as a spreadsheet may change numbers
        ([row("a", "go", "0,9", "0,1"), row("b", "go", "0,5", "0,4"), row("c", "go", "53. Jan", "")], "cba"),
    ],
    ids=["margins", "groups", "spreadsheet"],
)
def test_the_most_uncertain_suggestions_come_first(rows, order):
    assert "".join(one["video"] for one in order_by_margin(rows)) == order


def test_each_video_gets_a_row_with_all_labels_by_probability(job, videos, path):
    table = suggest(videos, job, path)
    assert sorted(one["video"] for one in table.rows) == videos
    first = table.rows[0]
    assert first["choices"].split("; ")[:2] == [first["suggestion"], first["runner_up"]]
    assert float(first["probability"]) >= float(first["runner_up_probability"])
    assert (first["model"], first["label"]) == (job.classifier.name, "")


def test_only_videos_that_were_not_checked_by_another_job_are_classified_again(job, videos, path):
    suggest(videos, job, path)
    write_labels(path, b="blue square")
    seen = []
    other = ClassifyJob(job.classifier, LABELS[:2], top_k=2)
    table = suggest(videos, other, path, progress=collect(seen))
    assert seen == [2, videos[0], videos[2]]
    assert (table.rows[-1]["video"], table.rows[-1]["label"]) == (videos[1], "blue square")


def test_the_same_job_classifies_only_new_videos_and_those_that_could_not_be_read(job, videos, path):
    moved = Path(videos[1]).rename(path.with_name("elsewhere"))
    Path(videos[1]).write_text("no video")
    table = suggest(videos[:2], job, path)
    assert "this is text, not a video" in table.rows[-1]["error"]
    assert table.rows[-1]["suggestion"] == ""
    moved.rename(videos[1])
    seen = []
    table = suggest(videos, job, path, progress=collect(seen))
    assert seen == [2, *videos[1:]]
    assert [row["error"] for row in table.rows] == ["", "", ""]


def test_labels_that_are_written_while_the_job_runs_are_kept(job, videos, path):
    suggest(videos, job, path)
    other = ClassifyJob(job.classifier, LABELS[:2], top_k=2)
    suggest(videos, other, path, progress=lambda total: lambda record: write_labels(path, a="green star"))
    found = {one["video"]: one["label"] for one in SuggestionTable.load(path).rows}
    assert found == {videos[0]: "green star", videos[1]: "", videos[2]: ""}


def test_a_second_job_on_the_table_is_refused_whatever_its_labels_are(job, videos, path):
    other, refused = ClassifyJob(job.classifier, LABELS[:2], top_k=2), []

    def ask(record):
        with pytest.raises(RuntimeError, match="Another job is writing to"):
            suggest(videos, other, path)
        refused.append(record["video"])

    suggest(videos, job, path, progress=lambda total: ask)
    assert refused == videos
    assert {row["job"] for row in SuggestionTable.load(path).rows} == {job.identity}


def test_a_video_that_changed_gets_a_new_suggestion(job, videos, path):
    suggest(videos, job, path)
    os.utime(videos[1], ns=(1, 1))
    seen = []
    table = suggest(videos, job, path, progress=collect(seen))
    assert seen == [1, videos[1]]
    assert '"changed": 1}' in next(row["file"] for row in table.rows if row["video"] == videos[1])


def test_a_table_of_labels_alone_is_the_users(job, videos, path):
    path.write_text("video,label\na.mp4,jump\n")
    with pytest.raises(ValueError, match="must have one column 'suggestion'"):
        suggest(videos, job, path)
    assert path.read_text() == "video,label\na.mp4,jump\n"


def test_an_interrupted_job_is_continued(job, videos, path):
    def stop(record):
        if record["video"] == videos[1]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        suggest(videos, job, path, progress=lambda total: stop)
    assert not path.exists()
    seen = []
    suggest(videos, job, path, progress=collect(seen))
    assert seen == [1, videos[2]]
    assert [file.name for file in path.parent.iterdir() if "s.csv" in file.name] == ["s.csv"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Three files in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).touch()


@pytest.fixture
def write(path, files):
    """A function that writes rows `VIDEO,LABEL` with a suggestion each, and returns the file."""

    def write(*rows):
        lines = [f"{video},go,0.5,stop,{label},go; moving left; stop,mini\n" for video, label in rows]
        path.write_text(HEADER + "".join(lines))
        return path

    return write


def faults_of(path, *new_labels):
    with pytest.raises(CorrectionsError) as caught:
        read_corrections(path, new_labels)
    return str(caught.value)


def test_yes_accepts_the_suggestion_and_an_empty_cell_is_open(write):
    read = read_corrections(write(("a.mp4", "yes"), ("b.mp4", "stop"), ("c.mp4", "")))
    assert read.labels == {"a.mp4": "go", "b.mp4": "stop"}
    assert (read.num_open, read.num_none, read.models) == (1, 0, ("mini",))
    data = read.dataset()
    assert data.features["label"].names == ["go", "moving left", "stop"]
    assert [(row["video"]["path"], row["label"], row["name"]) for row in data] == [
        ("a.mp4", 0, "a.mp4"),
        ("b.mp4", 2, "b.mp4"),
    ]


def test_none_is_a_video_that_is_not_learned(write):
    read = read_corrections(write(("a.mp4", "yes"), ("b.mp4", "stop"), ("c.mp4", "None")))
    assert (set(read.labels), read.num_none, read.num_open) == ({"a.mp4", "b.mp4"}, 1, 0)


def test_labels_are_recognized_in_any_spelling(write):
    read = read_corrections(write(("a.mp4", " Moving_Left "), ("b.mp4", "STOP")))
    assert list(read.labels.values()) == ["moving left", "stop"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_what_a_spreadsheet_saves_is_read(files, path, delimiter, encoding):
    rows = [
        ["Label", "my notes", "choices", " video "],
        ["STOP", "a, b; c", "go; stop", "a.mp4"],
        ["go", "", "", "b.mp4"],
    ]
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in [*rows, ["", "", "", ""]]]
    path.write_bytes("\r\n".join(lines).encode(encoding))
    assert read_corrections(path).labels == {"a.mp4": "stop", "b.mp4": "go"}


def test_every_wrong_line_is_named_at_once(write):
    rows = [
        ("a.mp4", "stpo"),
        ("gone.mp4", "stop"),
        ("b.mp4", "go; stop"),
        ("a.mp4", "go"),
        ("", "go"),
        ("c.mp4", "x"),
    ]
    assert faults_of(write(*rows)).splitlines()[1:] == [
        "  line 2: 'stpo' is not a label. Did you mean 'stop'? Name a new one with --new-labels.",
        "  line 3: the video gone.mp4 does not exist. Run the command in the folder where the file was made, or remove the line.",
        "  line 4: 'go; stop' are several labels. Keep the one that counts.",
        "  line 5: a.mp4 is already on line 2. Keep one of them.",
        "  line 6: 'go' has no video; its name is missing.",
        "  line 7: 'x' is not a label. Labels are: go, moving left, stop. Name a new one with --new-labels.",
    ]
    told = faults_of(write(*((f"{number}.mp4", "stop") for number in range(30))))
    assert (told.count("\n"), told.splitlines()[-1]) == (21, "  and 10 more")


def test_new_labels_are_those_that_were_named(write):
    read = read_corrections(write(("a.mp4", "juggling"), ("b.mp4", "go")), ["Juggling"])
    assert read.labels["a.mp4"] == "Juggling"
    assert read.choices == ("Juggling", "go", "moving left", "stop")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("video,label,error,choices\na.mp4,go,no video,\nb.mp4,go,,go; stop\n", "line 2: a.mp4 cannot be read"),
        ("video,suggestion,label,choices\na.mp4,stop,,go; stop\n", "line 2: the suggestion was changed"),
        ("video,suggestion,label,choices\na.mp4,,yes,go; stop\n", "yes accepts a suggestion, but the row has none"),
        ("video,label,choices\na.mp4,,go; stop\n", "and there are none. Write into the column `label`: yes"),
        ("video,label,choices\na.mp4,go,go; stop\nb.mp4,go,\n", "all 2 of them are 'go'"),
    ],
)
def test_corrections_that_cannot_be_learned_are_refused(files, path, content, fault):
    path.write_text(content)
    assert fault in faults_of(path)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "must have one column 'video'"),
        (b"video,suggestion\na.mp4,go\n", "must have one column 'label', and has: video,suggestion"),
        (b'video,label\n"a.mp4,go\n', "line 2: unexpected end of data"),
        ("video,label\nä.mp4,go\n".encode("latin-1"), "Save it as UTF-8"),
    ],
)
def test_a_file_that_is_not_such_a_table_is_refused(path, content, error):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=error):
        SuggestionTable.load(path)
    with pytest.raises(FileNotFoundError, match="Make it with `kinoclip suggest`"):
        SuggestionTable.load(path.with_name("none.csv"))


@pytest.mark.parametrize("labels", [["go"], ["go", "stop; wait"], ["go", "Yes"], ["go", "none"]])
def test_labels_that_a_table_cannot_hold_are_refused(labels):
    with pytest.raises(ValueError, match="label"):
        check_choices(labels)
