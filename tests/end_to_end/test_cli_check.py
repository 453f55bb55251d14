"""`kinoclip check` as a person calls it."""

import json

import numpy as np
import pytest

from kinoclip.cli import main
from kinoclip.data.kinoshapes import write_video


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "-a (1).mp4", np.zeros((4, 32, 48, 3), np.uint8))
    return tmp_path / "videos"


def test_a_folder_of_readable_videos_is_success(folder, capsys):
    assert main(["check", str(folder), "--workers", "0"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "videos       1",
        "readable     1",
        "unreadable   0",
    ]


def test_an_unreadable_video_is_failure_and_is_named(folder, capsys):
    (folder / "bad.mp4").write_bytes(b"no video")
    assert main(["check", str(folder), "--workers", "0", "--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["unreadable"] == 1
    assert "bad.mp4" in captured.err


def test_the_report_has_a_line_for_each_file(folder, tmp_path, capsys):
    report = tmp_path / "report.jsonl"
    assert main(["check", str(folder), "--output", str(report), "--workers", "0", "--full"]) == 0
    assert main(["check", str(folder), "--output", str(report), "--workers", "0", "--full"]) == 0
    records = [json.loads(line) for line in report.read_text().splitlines()]
    assert [(record["num_frames"], record["full"]) for record in records] == [(4, True)]


def test_a_folder_without_videos_is_failure(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("nothing")
    assert main(["check", str(tmp_path), "--workers", "0"]) == 1


def test_a_path_that_is_not_there_is_wrong_use(tmp_path, capsys):
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    assert "no file or folder" in capsys.readouterr().err


def test_a_negative_number_of_workers_is_wrong_use(folder, capsys):
    assert main(["check", str(folder), "--workers", "-1"]) == 2
