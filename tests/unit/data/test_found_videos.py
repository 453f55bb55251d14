"""Which files of a folder are videos."""

import os
from pathlib import Path

import pytest
from PIL import Image

from kinoclip.data.files import FileTree, find_videos


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.mp4", "a.mp4", "deep/c.mp4", ".hidden.mp4", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_folders_are_searched_in_order_without_hidden_files_and_links_to_folders(folder):
    (folder / "loop").symlink_to(folder)
    found = [[os.path.relpath(path, folder) for path in paths] for paths in find_videos([str(folder)])]
    assert found == [["a.mp4", "b.mp4", "deep/c.mp4"], ["notes.txt"]]


def test_files_are_listed_once_urls_as_they_are_and_missing_paths_are_errors(folder):
    paths = [str(folder / "a.mp4"), "https://example.org/a.mp4", str(folder / "a.mp4")]
    assert find_videos(paths).videos == paths[:2]
    with pytest.raises(FileNotFoundError, match=r"none\.mp4"):
        find_videos(["none.mp4"])


def test_a_folder_of_images_is_one_video(tmp_path):
    (tmp_path / "frames").mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / "frames" / f"{i}.png")
    assert find_videos([str(tmp_path)]).videos == [str(tmp_path / "frames")]
    assert find_videos([str(tmp_path / "frames")]).videos == [str(tmp_path / "frames")]


def test_files_that_a_job_writes_are_not_listed(tmp_path):
    for name in ("a.mp4", "out.jsonl", "features/x.safetensors", "features2/b.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = find_videos([str(tmp_path)], exclude=[tmp_path / "out.jsonl", tmp_path / "features", None])
    assert found.videos == [str(tmp_path / "a.mp4"), str(tmp_path / "features2" / "b.mp4")]


def test_a_file_in_a_folder_is_a_video_by_its_extension_or_its_first_bytes(tmp_path, video_path):
    content = video_path.read_bytes()
    for name, held in {"broken.MP4": b"x", "clip": content, "clip.bak": content, "sound.mp3": content}.items():
        (tmp_path / name).write_bytes(held)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    (tmp_path / "empty").touch()
    (tmp_path / "model.safetensors").write_bytes(b"\x20" + bytes(7) + b'{"a":1}')
    found = [[Path(path).name for path in paths] for paths in find_videos([str(tmp_path)])]
    assert found == [["broken.MP4", "clip", "clip.bak"], ["empty", "model.safetensors", "photo.jpg", "sound.mp3"]]
    # what is given is read, whatever it is
    assert find_videos([str(tmp_path / "photo.jpg")]).videos == [str(tmp_path / "photo.jpg")]
    assert FileTree(tmp_path).videos == ["broken.MP4", "clip", "clip.bak"]
