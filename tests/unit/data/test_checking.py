import json
import os

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value, Video

from kinoclip.data.checking import CheckReport, inspect_video, inspect_videos, summarize, unreadable
from kinoclip.data.kinoshapes import encode_video, kinoshapes_dataset


@pytest.fixture
def folder(tmp_path):
    """Two videos, a broken one, a page under the name of a video, and a text."""
    frames = np.zeros((6, 32, 48, 3), np.uint8)
    (tmp_path / "!#&()[];~.mp4").write_bytes(encode_video(frames, fps=8))
    (tmp_path / "-b.mp4").write_bytes(encode_video(frames[:4], fps=8))
    (tmp_path / "cut.mp4").write_bytes(encode_video(frames)[:200])
    (tmp_path / "page.mp4").write_text("<html>not found</html>")
    (tmp_path / "train.txt").write_text("a.mp4 0")
    return tmp_path


def paths_of(folder):
    return sorted(str(path) for path in folder.iterdir())


def both(paths):
    return [(path, path) for path in paths]


def test_a_record_says_what_a_video_is_like(folder):
    record = inspect_video(str(folder / "-b.mp4"), "-b.mp4")
    known = {name: record[name] for name in ("video", "width", "height", "rotation", "num_frames", "codec", "damage")}
    assert known == {"video": "-b.mp4", "width": 48, "height": 32, "rotation": 0, "num_frames": 4, "codec": "h264", "damage": None}  # fmt: skip
    assert record["duration_seconds"] == 0.5  # 4 frames at 8 per second


def test_a_video_that_cannot_be_read_is_an_error_and_a_text_is_skipped(folder):
    records = {os.path.basename(r["video"]): r for r in inspect_videos(both(paths_of(folder)))}  # noqa: PTH119
    assert "error" in records["cut.mp4"]
    assert "error" in records["page.mp4"]
    assert "skipped" in records["train.txt"]
    assert records["!#&()[];~.mp4"]["num_frames"] == 6


def test_processes_give_the_same_records_in_the_same_order(folder):
    paths = both(paths_of(folder))
    assert list(inspect_videos(paths, workers=2)) == list(inspect_videos(paths))


class Deadly:
    """A source that ends the process which it is sent to."""

    def __reduce__(self):
        return os._exit, (1,)


def test_a_video_that_ends_its_process_is_an_error_of_its_own(folder):
    path = str(folder / "-b.mp4")
    records = list(inspect_videos([(Deadly(), "deadly"), (path, path)], workers=1))
    assert records[0]["error"]["message"] == "deadly: reading it ended the process. Re-encode it, or leave it out."
    assert records[1]["num_frames"] == 4


def test_frames_and_bytes_are_inspected_too(tmp_path):
    from PIL import Image

    for number in range(3):
        Image.new("RGB", (20, 10)).save(tmp_path / f"img_{number}.jpg")
    assert inspect_video(str(tmp_path), "frames")["codec"] == "images"
    assert inspect_video(encode_video(np.zeros((2, 32, 32, 3), np.uint8)), "bytes")["codec"] == "h264"


def test_damage_is_found_when_every_frame_is_decoded(tmp_path):
    content = bytearray(encode_video(np.random.default_rng(0).integers(0, 255, (40, 320, 480, 3), np.uint8), crf=40))
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    assert inspect_video(str(path), "x", full=True)["damage"] is not None


def test_a_report_is_continued_and_a_changed_file_checked_again(folder):
    paths = paths_of(folder)
    report = folder.parent / f"{folder.name}.jsonl"
    list(CheckReport(report).check(paths[:3]))
    before = report.read_bytes()
    report.write_bytes(before + b'{"video": "half a li')
    (folder / "cut.mp4").write_bytes((folder / "-b.mp4").read_bytes())
    records = list(CheckReport(report).check(paths))
    assert [json.loads(line)["video"] for line in report.read_text().splitlines()] == paths
    assert records[2]["num_frames"] == 4
    assert before.splitlines()[0] in report.read_bytes()


def test_a_quick_record_does_not_count_for_a_full_check(folder):
    path = str(folder / "-b.mp4")
    report = folder / "report.jsonl"
    list(CheckReport(report).check([path]))
    assert next(CheckReport(report).check([path], full=True))["full"]


def test_an_interrupted_check_leaves_whole_lines(folder):
    report = folder.parent / f"{folder.name}.jsonl"
    records = CheckReport(report).check(paths_of(folder))
    next(records)
    next(records)
    records.close()
    assert len([json.loads(line) for line in report.read_text().splitlines()]) == 2


def test_a_file_of_something_else_is_never_overwritten(folder):
    with pytest.raises(ValueError, match="something else than a report"):
        CheckReport(folder / "page.mp4").check([])
    (folder / "l.txt").write_text("a.mp4 0\n")
    with pytest.raises(ValueError, match="something else than a report"):
        CheckReport(folder / "l.txt")


def test_a_summary_counts(folder):
    summary = summarize(inspect_videos(both(paths_of(folder))))
    assert (summary["videos"], summary["readable"], summary["unreadable"], summary["other_files"]) == (4, 2, 2, 1)
    assert summary["codecs"] == {"h264": 2}
    assert summary["sizes"] == {"48x32": 2}
    assert summary["seconds"] == {"shortest": 0.5, "median": 0.625, "longest": 0.75, "all": 1.25}


def test_unreadable_videos_of_a_data_set_are_named():
    features = Features({"video": Video(decode=False), "label": ClassLabel(names=["a"]), "name": Value("string")})
    good = kinoshapes_dataset(1)[0]["video"]["bytes"]
    rows = [
        {"video": {"bytes": content, "path": None}, "label": 0, "name": name}
        for content, name in ((good, "g"), (b"no", "n"))
    ]
    assert list(unreadable(Dataset.from_list(rows, features))) == ["n"]
