import os

import pytest
from PIL import Image

from kinoclip.inference.jobs import find_videos
from kinoclip.inference.record_file import RecordFile
from kinoclip.inference.records import error_line


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.mp4", "a.mp4", "deep/c.mp4", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_folders_are_searched_in_order_without_hidden_files(folder):
    found = [os.path.relpath(path, folder) for path in find_videos([str(folder)])]
    assert found == ["a.mp4", "b.mp4", "deep/c.mp4", "notes.txt"]


def test_a_file_given_twice_is_labelled_once(folder):
    assert find_videos([str(folder / "a.mp4"), str(folder / "a.mp4")]) == [str(folder / "a.mp4")]


def test_a_folder_of_images_is_one_video(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8)).save(frames / f"{i}.png")
    assert find_videos([str(tmp_path)]) == [str(frames)]


def test_a_link_to_a_folder_is_not_followed(folder):
    (folder / "loop").symlink_to(folder)
    assert len(find_videos([str(folder)])) == 4


def test_an_address_is_taken_as_it_is():
    assert find_videos(["https://example.org/a.mp4"]) == ["https://example.org/a.mp4"]


def test_a_missing_path_is_an_error_that_names_it():
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        find_videos(["none.mp4"])


@pytest.mark.parametrize("name", ["a\nb.mp4", 'a"b.mp4', "vidéo 动作.mp4", "-dash.mp4", "a,b.mp4", "100%.mp4"])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_names_of_any_letters_are_remembered(tmp_path, name, suffix):
    path = tmp_path / f"out{suffix}"
    with RecordFile(path, "job", 1) as records:
        records.write({"video": name, "predictions": [{"label": "x", "probability": 1.0}], "job": "job"})
        records.write({"video": "last", "error": {"type": "E", "message": "m"}, "job": "job"})
    with RecordFile(path, "job", 1) as records:
        assert records.done == {name, "last"}


def test_a_name_that_is_no_text_is_remembered(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    path = tmp_path / "out.jsonl"
    with RecordFile(path, "job") as records:
        records.write({"video": name, "job": "job"})
    with RecordFile(path, "job") as records:
        assert records.done == {name}


@pytest.mark.parametrize("content", [b"hello\n", b"[1]\n", b'{"video": 1}\n', b"\xff\xfe\n"])
def test_a_file_with_other_content_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "out.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="something else"):
        RecordFile(path, "job")
    assert path.read_bytes() == content


def test_a_device_is_no_output(tmp_path):
    (tmp_path / "out.jsonl").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="no regular file"):
        RecordFile(tmp_path / "out.jsonl", "job")


def test_an_error_becomes_one_line():
    assert error_line(ValueError("two\n  lines")) == "two lines"
    assert error_line(FileNotFoundError(2, "No such file or directory", "x.mp4")) == "No such file or directory: x.mp4"
