import pytest

from kinoclip.data.annotations import Entry, read_annotations


@pytest.fixture
def write(tmp_path):
    def put(name, text):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return put


def test_a_list_has_paths_with_spaces_and_labels_behind_them(write):
    read = read_annotations(write("l.txt", "a b/x 1.mp4 1\n-y.mp4 0\n\n"), ["run", "a b"], None)
    assert read.entries == (Entry(("a b/x 1.mp4",), ("a b",)), Entry(("-y.mp4",), ("run",)))


def test_a_list_may_count_frames_between(write):
    read = read_annotations(write("l.txt", "a/x 120 1\nb/y z 80 0\n"), ["b", "a"], None)
    assert [entry.names[0] for entry in read.entries] == ["a/x", "b/y z"]


def test_a_line_without_a_number_is_an_error_that_names_it(write):
    with pytest.raises(ValueError, match=r"l.txt, line 2: 'y.mp4 jump'"):
        read_annotations(write("l.txt", "x.mp4 0\ny.mp4 jump\n"), ["jump"], None)


def test_numbers_without_names_are_refused(write):
    with pytest.raises(ValueError, match=r"number 3.*labels="):
        read_annotations(write("l.txt", "x.mp4 3\n"), None, None)


def test_a_number_beyond_the_names_is_refused(write):
    with pytest.raises(ValueError, match="2 names were given, 0 to 1"):
        read_annotations(write("l.txt", "x.mp4 2\n"), ["a", "b"], None)


def test_a_list_of_another_class_order_is_refused(write):
    with pytest.raises(ValueError, match=r"label 0 of kick_ball/x.avi is 'kick'.*another order"):
        read_annotations(write("l.txt", "kick_ball/x.avi 0\n"), ["kick", "kick ball"], None)


def test_a_table_has_videos_labels_and_seconds(write):
    table = '\ufeffvideo,label,start,end\n"a, b.mp4",jump,1.5,2\nc.mp4,run,,nan\n'
    read = read_annotations(write("t.csv", table), None, None)
    assert read.entries == (Entry(("a, b.mp4",), ("jump",), 1.5, 2.0), Entry(("c.mp4",), ("run",)))
    assert read.classes == ["jump", "run"]


def test_the_rows_of_another_split_give_their_class_and_nothing_else(write):
    read = read_annotations(write("t.csv", "path,class,split\na.mp4,x,train\nb.mp4,y,val\n"), None, "validation")
    assert [entry.names[0] for entry in read.entries] == ["b.mp4"]
    assert read.classes == ["x", "y"]


def test_json_lines_may_hold_several_labels(write):
    lines = '{"video_path": "a.mp4", "label": ["x", "y"]}\n{"video_path": "b.mp4", "label": []}\n'
    read = read_annotations(write("t.jsonl", lines), None, None)
    assert read.several
    assert [entry.labels for entry in read.entries] == [("x", "y"), ()]


def test_a_column_of_labels_has_semicolons_between_them(write):
    read = read_annotations(write("t.csv", "video,labels\na.mp4,x;y\nb.mp4,\n"), None, None)
    assert [entry.labels for entry in read.entries] == [("x", "y"), ()]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "clip,label\na,b\n", "no column names the video; there are clip, label"),
        ("t.csv", "video,text\na,b\n", "no column names the label"),
        ("t.csv", "video,label\na.mp4,\n", "line 2: the video or the label is empty"),
        ("t.csv", "video,label,start\na.mp4,x,soon\n", "line 2: 'soon' is no number of seconds"),
        ("t.jsonl", '{"video": "a"\n', "line 1: not valid JSON"),
        ("t.jsonl", "[1]\n", "line 1: .* is no object"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(write, name, text, message):
    with pytest.raises(ValueError, match=message):
        read_annotations(write(name, text), None, None)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no UTF-8 text"):
        read_annotations(tmp_path / "t.csv", None, None)
