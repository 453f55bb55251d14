"""Tables of suggestions: what spreadsheets make of them, and what is learned from them."""

import pytest

from kinoclip.data.suggestions import (
    CorrectionsError,
    SuggestionTable,
    check_choices,
    read_corrections,
)

HEADER = "video,suggestion,probability,runner_up,label,choices,model\n"


@pytest.fixture
def videos(tmp_path, monkeypatch):
    """Three files in the working folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (tmp_path / name).touch()


@pytest.fixture
def write(tmp_path, videos):
    """A function that writes rows `VIDEO,LABEL` below a header, with a suggestion each, and gives the file."""

    def write(*rows):
        lines = [f"{video},go,0.5,stop,{label},go; moving left; stop,mini\n" for video, label in rows]
        path = tmp_path / "s.csv"
        path.write_text(HEADER + "".join(lines))
        return path

    return write


def faults_of(path, *new_labels):
    with pytest.raises(CorrectionsError) as caught:
        read_corrections(path, new_labels)
    return str(caught.value)


def test_yes_takes_the_suggestion_and_an_empty_cell_says_nothing(write):
    read = read_corrections(write(("a.mp4", "yes"), ("b.mp4", "stop"), ("c.mp4", "")))
    assert read.labels == {"a.mp4": "go", "b.mp4": "stop"}
    assert (read.num_open, read.num_none, read.models) == (1, 0, ("mini",))


def test_none_is_a_video_that_is_not_learned(write):
    read = read_corrections(write(("a.mp4", "yes"), ("b.mp4", "stop"), ("c.mp4", "None")))
    assert (set(read.labels), read.num_none, read.num_open) == ({"a.mp4", "b.mp4"}, 1, 0)


def test_labels_are_known_in_any_spelling(write):
    read = read_corrections(write(("a.mp4", " Moving_Left "), ("b.mp4", "STOP")))
    assert list(read.labels.values()) == ["moving left", "stop"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_what_a_spreadsheet_saves_is_read(videos, tmp_path, delimiter, encoding):
    rows = [
        ["Label", "my notes", "choices", " video "],
        ["STOP", "a, b; c", "go; stop", "a.mp4"],
        ["go", "", "", "b.mp4"],
    ]
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in [*rows, ["", "", "", ""]]]
    (tmp_path / "s.csv").write_bytes("\r\n".join(lines).encode(encoding))
    assert read_corrections(tmp_path / "s.csv").labels == {"a.mp4": "stop", "b.mp4": "go"}


def test_columns_of_ones_own_and_the_delimiter_are_kept(videos, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("video;label;my notes\na.mp4;stop;dark\n")
    SuggestionTable.load(path).save(path)
    again = SuggestionTable.load(path)
    assert (again.rows[0]["my notes"], again.rows[0]["label"], again.delimiter) == ("dark", "stop", ";")


def test_every_wrong_line_is_named_at_once(write):
    told = faults_of(
        write(("a.mp4", "stpo"), ("gone.mp4", "stop"), ("b.mp4", "go; stop"), ("a.mp4", "go"), ("", "go"))
    )
    assert told.splitlines()[1:] == [
        "  line 2: 'stpo' is no label. Did you mean 'stop'? A new one is named with --new-labels.",
        "  line 3: there is no video gone.mp4. Run the command in the folder in which the file was made, or remove the line.",
        "  line 4: 'go; stop' are several labels, and a video has one here. Keep the one that counts.",
        "  line 5: a.mp4 stands on line 2 already. Keep one of them.",
        "  line 6: 'go' labels no video; its name is missing.",
    ]


def test_a_label_that_resembles_none_is_answered_with_all(write):
    assert "'juggling' is no label. There are: go, moving left, stop." in faults_of(write(("a.mp4", "juggling")))


def test_a_long_list_of_faults_is_cut(write):
    told = faults_of(write(*((f"{number}.mp4", "stop") for number in range(30))))
    assert (told.count("\n"), told.splitlines()[-1]) == (21, "  and 10 more")


def test_a_new_label_is_one_that_was_named(write):
    read = read_corrections(write(("a.mp4", "juggling"), ("b.mp4", "go")), ["Juggling"])
    assert read.labels["a.mp4"] == "Juggling"
    assert read.choices == ("Juggling", "go", "moving left", "stop")


def test_a_video_that_cannot_be_read_teaches_nothing(videos, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("video,label,error,choices\na.mp4,go,no video,\nb.mp4,go,,go; stop\n")
    assert "line 2: a.mp4 cannot be read" in faults_of(path)


def test_a_label_in_the_wrong_column_is_noticed(videos, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("video,suggestion,label,choices\na.mp4,stop,,go; stop\n")
    assert "line 2: the suggestion was changed. Write what the video shows into `label`." in faults_of(path)


def test_yes_to_no_suggestion_is_refused(videos, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("video,suggestion,label,choices\na.mp4,,yes,go; stop\n")
    assert "there is no suggestion to say yes to" in faults_of(path)


def test_nothing_checked_says_what_to_write(write):
    assert "and there are none. Write into the column `label`: yes" in faults_of(write(("a.mp4", "")))


def test_one_label_alone_cannot_be_learned(write):
    assert "all 2 of them are 'go'" in faults_of(write(("a.mp4", "yes"), ("b.mp4", "yes")))


def test_the_videos_become_a_data_set_of_all_labels(write):
    read = read_corrections(write(("a.mp4", "stop"), ("b.mp4", "yes")))
    data = read.dataset()
    assert data.features["label"].names == ["go", "moving left", "stop"]
    assert [(row["video"]["path"], row["label"], row["name"]) for row in data] == [
        ("a.mp4", 2, "a.mp4"),
        ("b.mp4", 0, "b.mp4"),
    ]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "one column is to be called 'video'"),
        ("video,suggestion\na.mp4,go\n", "one column is to be called 'label', and there are: video,suggestion"),
        ('video,label\n"a.mp4,go\n', "line 2: unexpected end of data"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(tmp_path, content, why):
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(ValueError, match=why):
        SuggestionTable.load(tmp_path / "s.csv")


def test_another_encoding_is_named(tmp_path):
    (tmp_path / "s.csv").write_bytes("video,label\nä.mp4,go\n".encode("latin-1"))
    with pytest.raises(ValueError, match="Save it as UTF-8"):
        SuggestionTable.load(tmp_path / "s.csv")


def test_a_missing_table_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="Make one with `kinoclip suggest`"):
        SuggestionTable.load(tmp_path / "s.csv")


@pytest.mark.parametrize("labels", [["go"], ["go", "stop; wait"], ["go", "Yes"], ["go", "none"]])
def test_labels_that_a_table_cannot_tell_apart_are_refused(labels):
    with pytest.raises(ValueError, match="label"):
        check_choices(labels)
