import pytest

from kinoclip.data.annotations import Entry, read_annotations


@pytest.fixture
def read(tmp_path):
    def read_text(name, text, names=None, split=None):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_annotations(path, names, split)

    return read_text


@pytest.mark.parametrize("text", ["a b/x 1.mp4 1\n-y.mp4 0\n\n", "a b/x 1.mp4 120 1\n-y.mp4 80 0\n"])
def test_a_list_has_paths_with_spaces_maybe_frame_counts_and_labels(read, text):
    entries = read("l.txt", text, ["run", "a b"]).entries
    assert entries == (Entry(("a b/x 1.mp4",), ("a b",)), Entry(("-y.mp4",), ("run",)))


def test_a_table_has_videos_labels_and_seconds(read):
    annotations = read("t.csv", '\ufeffvideo,label,start,end\n"a, b.mp4",jump,1.5,2\nc.mp4,run,,nan\n')
    assert annotations.entries == (Entry(("a, b.mp4",), ("jump",), 1.5, 2.0), Entry(("c.mp4",), ("run",)))
    assert annotations.classes == ["jump", "run"]


def test_the_classes_of_a_table_are_those_of_all_splits(read):
    annotations = read("t.csv", "path,class,split\na.mp4,x,train\nb.mp4,y,val\n", split="validation")
    assert [entry.names[0] for entry in annotations.entries] == ["b.mp4"]
    assert annotations.classes == ["x", "y"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.jsonl", '{"video_path": "a.mp4", "label": ["x", "y"]}\n{"video_path": "b.mp4", "label": []}\n'),
        ("t.csv", "video,labels\na.mp4,x;y\nb.mp4,\n"),
    ],
)
def test_a_row_may_have_several_labels_or_none(read, name, text):
    annotations = read(name, text)
    assert annotations.multi_label
    assert [entry.labels for entry in annotations.entries] == [("x", "y"), ()]


@pytest.mark.parametrize(
    ("name", "text", "names", "message"),
    [
        ("l.txt", "x.mp4 0\ny.mp4 jump\n", ["jump"], "l.txt, line 2: 'y.mp4 jump'"),
        ("l.txt", "x.mp4 3\n", None, "number 3.*labels="),
        ("l.txt", "x.mp4 2\n", ["a", "b"], "need labels of 0 to 1, got 2"),
        ("l.txt", "kick_ball/x.avi 0\n", ["kick", "kick ball"], "label 0 of kick_ball/x.avi is 'kick'.*another order"),
        ("t.csv", "clip,label\na,b\n", None, "column 'video' is missing; there are clip, label"),
        ("t.csv", "video,text\na,b\n", None, "column 'label' is missing"),
        ("t.csv", "video,label\na.mp4,\n", None, "line 2: video or label is empty"),
        ("t.csv", "video,label,start\na.mp4,x,soon\n", None, "line 2: start and end must be seconds, got 'soon'"),
        ("t.csv", b"\xff\xfe\x00", None, "not UTF-8"),
        ("t.jsonl", '{"video": "a"\n', None, "line 1: not valid JSON"),
        ("t.jsonl", "[1]\n", None, r"line 1: must be .* got '\[1\]'"),
    ],
)
def test_a_row_that_cannot_be_read_is_named(read, name, text, names, message):
    with pytest.raises(ValueError, match=message):
        read(name, text, names)
