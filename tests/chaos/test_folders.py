"""Folders that are nested deeper than calls of Python."""

import os
import subprocess

import pytest

from kinoclip.data.files import find_videos
from kinoclip.data.load import load_videos
from kinoclip.video import VideoReader, VideoRefusedError

DEPTH = 1500


@pytest.fixture(scope="module")
def nested(tmp_path_factory):
    """A folder whose only file lies 1,500 folders below."""
    root = tmp_path_factory.mktemp("nested")
    folder = os.open(root, os.O_RDONLY)
    for _ in range(DEPTH):
        os.mkdir("d", dir_fd=folder)
        inner = os.open("d", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("a.mp4", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    yield root
    subprocess.run(["rm", "-rf", root], check=True)  # shutil.rmtree calls itself


def test_a_job_lists_the_video(nested):
    assert find_videos([str(nested)]).videos == [f"{nested}/{'d/' * DEPTH}a.mp4"]


def test_a_data_set_lists_the_video(nested):
    assert len(load_videos(nested)) == 1


def test_a_reader_refuses_the_folder(nested):
    with pytest.raises(VideoRefusedError, match="the folder has no images"):
        VideoReader(nested)
