import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kinoclip.data.check import check_files, inspect_video, inspect_videos, summarize
from kinoclip.kinoshapes import encode_video


@pytest.fixture
def folder(tmp_path):
    """Two videos, a truncated one, a page with the name of a video, and a text."""
    frames = np.zeros((6, 32, 48, 3), np.uint8)
    (tmp_path / "!#&()[];~.mp4").write_bytes(encode_video(frames, fps=8))
    (tmp_path / "-b.mp4").write_bytes(encode_video(frames[:4], fps=8))
    (tmp_path / "cut.mp4").write_bytes(encode_video(frames)[:200])
    (tmp_path / "page.mp4").write_text("<html>not found</html>")
    (tmp_path / "train.txt").write_text("a.mp4 0")
    return tmp_path


@pytest.fixture
def paths(folder):
    return sorted(str(path) for path in folder.iterdir())


@pytest.fixture
def report(folder):
    return folder.parent / f"{folder.name}.jsonl"


def test_a_record_describes_a_video_or_why_it_cannot_be_read(paths):
    records = {Path(record["video"]).name: record for record in inspect_videos(paths)}
    known = {key: records["-b.mp4"][key] for key in ("width", "height", "rotation", "num_frames", "codec", "damage")}
    assert known == {"width": 48, "height": 32, "rotation": 0, "num_frames": 4, "codec": "h264", "damage": None}
    assert records["-b.mp4"]["duration_seconds"] == 0.5  # 4 frames at 8 per second
    assert "error" in records["cut.mp4"]
    assert "error" in records["page.mp4"]
    assert "error" in records["train.txt"]
    summary = summarize(records.values())
    assert (summary["videos"], summary["readable"], summary["unreadable"]) == (5, 2, 3)
    assert (summary["codecs"], summary["sizes"]) == ({"h264": 2}, {"48x32": 2})
    assert summary["seconds"] == {"shortest": 0.5, "median": 0.625, "longest": 0.75, "all": 1.25}


class Deadly(str):
    """A path that ends the process which unpickles it."""

    def __reduce__(self):
        return os._exit, (1,)


def test_processes_give_the_same_records_and_a_crash_is_an_error_of_its_own(paths):
    alone = list(inspect_videos(paths))
    *records, crash = inspect_videos([*paths, Deadly("deadly")], workers=1)
    assert records == alone
    assert crash["error"]["message"] == (
        "deadly: reading it ended the process (exit code 1): it crashes the decoder, or needs more memory than allowed. "
        "Re-encode it, or leave it out."
    )


def test_a_folder_of_frames_is_inspected_too(tmp_path):
    for number in range(3):
        Image.new("RGB", (20, 10)).save(tmp_path / f"img_{number}.jpg")
    assert inspect_video(str(tmp_path))["codec"] == "images"


def test_damage_is_found_when_every_frame_is_decoded(tmp_path):
    content = bytearray(encode_video(np.random.default_rng(0).integers(0, 255, (40, 320, 480, 3), np.uint8), crf=40))
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    assert inspect_video(str(path), full=True)["damage"] is not None


def test_a_report_is_continued_and_a_changed_file_is_checked_again(folder, paths, report):
    records = check_files(report, paths)
    for _ in range(3):
        next(records)
    records.close()
    before = report.read_bytes()
    assert len(before.splitlines()) == 3
    report.write_bytes(before + b'{"video": "half a li')
    (folder / "cut.mp4").write_bytes((folder / "-b.mp4").read_bytes())
    assert {record["video"]: record for record in check_files(report, paths)}[paths[2]]["num_frames"] == 4
    assert [json.loads(line)["video"] for line in report.read_text().splitlines()] == paths
    assert before.splitlines()[0] in report.read_bytes()


def test_a_quick_record_does_not_count_for_a_full_check(paths, report):
    list(check_files(report, paths[:1]))
    assert next(check_files(report, paths[:1], full=True))["full"]


def test_a_file_with_other_content_is_never_overwritten(folder):
    for name in ("page.mp4", "train.txt"):
        with pytest.raises(ValueError, match="does not hold records of this command"):
            next(check_files(folder / name, []))
