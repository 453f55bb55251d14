import json
import os
import sys

import pytest

from kinoclip.inference.output_lock import OutputLock
from kinoclip.inference.parquet_records import read_parquet
from kinoclip.inference.record_file import RecordFile
from kinoclip.inference.record_output import RecordOutput

VIDEOS = ["a", "b", "c", "d"]


def record(video, job="job"):
    return {"video": video, "label": "x", "predictions": [{"label": "x", "probability": 0.5}], "job": job}


def write_whole(path, **options):
    """Write the records of all videos in one process, and give the bytes of the output."""
    with RecordOutput(path, "job", 1, **options) as output:
        for video in VIDEOS:
            output.write(record(video))
        output.finish(VIDEOS)
    return path.read_bytes()


@pytest.fixture(params=[".jsonl", ".csv", ".parquet"])
def suffix(request):
    return request.param


def test_several_processes_write_what_one_does(suffix, tmp_path):
    whole = write_whole(tmp_path / f"one{suffix}")
    path = tmp_path / f"many{suffix}"
    # as the locks of a group of processes, but one after another: the first finishes last
    for process in (1, 2, 0):
        output = RecordOutput(path, "job", 1, process=process, processes=3)
        output._lock_for_all = lambda: None
        with output:
            for video in VIDEOS[process::3]:
                output.write(record(video))
            output.finish(VIDEOS)
    assert path.read_bytes() == whole
    assert set(tmp_path.iterdir()) == {path, tmp_path / f"one{suffix}"}


def test_the_first_process_does_not_finish_without_the_others(tmp_path):
    with RecordOutput(tmp_path / "out.jsonl", "job", process=0, processes=2) as output:
        output.write(record("a"))
        with pytest.raises(RuntimeError, match="3 of 4 videos have no record"):
            output.finish(VIDEOS)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_journals_of_any_number_of_processes_are_continued(suffix, processes, tmp_path):
    whole = write_whole(tmp_path / f"one{suffix}")
    path = tmp_path / f"out{suffix}"
    with RecordFile(tmp_path / f"out{suffix}.part-00002-of-00003.jsonl", "job") as part:
        part.write(record("b"))
    with RecordOutput(path, "job", 1, processes=processes) as output:
        assert [video for video in VIDEOS if video in output] == ["b"]
        for video in ("a", "c", "d"):
            output.write(record(video))
        output.finish(VIDEOS)
    assert path.read_bytes() == whole
    assert not output.parts


def failed(video):
    return {"video": video, "error": {"type": "VideoDecodeError", "message": "no video"}, "job": "job"}


def test_videos_that_could_not_be_read_are_tried_again_and_take_their_place(suffix, tmp_path):
    whole = write_whole(tmp_path / f"whole{suffix}")
    path = tmp_path / f"out{suffix}"
    with RecordOutput(path, "job", 1) as output:
        for video in VIDEOS:
            output.write(failed(video) if video in "bd" else record(video))
        output.finish(VIDEOS)
    with RecordOutput(path, "job", 1) as output:
        assert all(video in output for video in VIDEOS)
    for found in (failed, record):  # the first time in vain
        with RecordOutput(path, "job", 1, retry=True) as output:
            assert [video for video in VIDEOS if video not in output] == ["b", "d"]
            for video in "bd":
                output.write(found(video))
            output.finish(VIDEOS)
    assert path.read_bytes() == whole
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, f"whole{suffix}"])


def test_a_retry_that_was_interrupted_is_continued_with_or_without_it(suffix, tmp_path):
    whole = write_whole(tmp_path / f"whole{suffix}")
    for retry in (False, True):
        path = tmp_path / f"out{retry}{suffix}"
        with RecordOutput(path, "job", 1) as output:
            for video in VIDEOS:
                output.write(failed(video))
            output.finish(VIDEOS)
        with RecordOutput(path, "job", 1, retry=True) as output:
            for video in VIDEOS:
                output.write(record(video))
        with RecordOutput(path, "job", 1, retry=retry) as output:
            assert all(video in output for video in VIDEOS)
            output.finish(VIDEOS)
        assert path.read_bytes() == whole


def test_an_output_begun_by_one_process_is_continued_by_two(tmp_path):
    whole = write_whole(tmp_path / "one.csv")
    path = tmp_path / "out.csv"
    path.write_bytes(whole[:-5])  # its last record was cut off
    with RecordOutput(path, "job", 1, processes=2) as output:
        assert "d" not in output
        output.write(record("d"))
        output.finish(VIDEOS)
    assert path.read_bytes() == whole


def test_a_finished_parquet_takes_further_videos(tmp_path):
    path = tmp_path / "out.parquet"
    write_whole(path)
    with RecordOutput(path, "job", 1) as output:
        assert all(video in output for video in VIDEOS)
        output.write(record("new"))
        output.finish(["new", *VIDEOS])
    assert [row["video"] for row in read_parquet(path)] == ["new", *VIDEOS]


def test_a_parquet_holds_reasons_errors_and_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"caf\xe9.mp4")
    full = {
        "video": "a",
        "label": "x",
        "predictions": [{"label": "x", "probability": 0.25}],
        "frame_indices": [0, 2],
        "timestamps": [0.0, 0.25],
        "duration_seconds": 0.5,
        "saliency": {"x": [0.5, 0.5]},
        "agreement": 0.5,
        "spans": [{"start": 0.0, "end": 1.0, "label": "x", "probability": 0.5}],
        "job": "job",
    }
    broken = {"video": name, "error": {"type": "VideoDecodeError", "message": f"{name}: broken"}, "job": "job"}
    path = tmp_path / "out.parquet"
    with RecordOutput(path, "job") as output:
        output.write(full)
        output.write(broken)
        output.finish(["a", name])
    rows = list(read_parquet(path))
    assert rows[0] == full
    assert rows[1]["video"] == "caf\\udce9.mp4"
    with RecordOutput(path, "job") as output:
        assert name in output


@pytest.mark.parametrize("content", [b"", b"PAR1 and more", b"video,label\n"])
def test_a_parquet_of_something_else_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "out.parquet"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="something else"), RecordOutput(path, "job"):
        pass
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_records_of_another_job_are_refused_wherever_they_are(suffix, tmp_path):
    path = tmp_path / f"out{suffix}"
    write_whole(path)
    with pytest.raises(ValueError, match="another model, other labels"), RecordOutput(path, "other", 1):
        pass
    fresh = tmp_path / f"fresh{suffix}"
    with RecordFile(tmp_path / f"{fresh.name}.part-00001-of-00001.jsonl", "job") as part:
        part.write(record("a"))
    with pytest.raises(ValueError, match=r"part-00001-of-00001\.jsonl holds records"), RecordOutput(fresh, "other", 1):
        pass


def test_a_csv_of_other_columns_is_of_another_job(tmp_path):
    path = tmp_path / "out.csv"
    write_whole(path)
    with pytest.raises(ValueError, match="other labels or options"):
        RecordFile(path, "job", 2)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'kinoclip\[train\]'"):
        RecordOutput(tmp_path / "out.parquet", "job")


def test_a_second_job_on_an_output_is_refused_until_the_first_is_gone(suffix, tmp_path):
    path = tmp_path / f"out{suffix}"
    with RecordOutput(path, "job"):
        with pytest.raises(RuntimeError, match="Another job writes to"), RecordOutput(path, "job"):
            pass
        link = tmp_path / f"link{suffix}"
        link.symlink_to(path)
        with pytest.raises(RuntimeError, match="Another job writes to"), RecordOutput(link, "job"):
            pass
    with RecordOutput(path, "job"):
        pass
    assert not list(tmp_path.glob(".*"))


def test_processes_of_a_job_share_its_lock_and_keep_others_out(tmp_path):
    first, second, other = (OutputLock(tmp_path / "out") for _ in range(3))
    first.take()
    first.share()
    second.share()
    first.release()
    with pytest.raises(RuntimeError, match="Another job"):
        other.take()
    second.release()
    other.take()
    other.release(remove=True)
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_is_taken_back(tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    with RecordFile(path, "job") as records:
        records.write(record("a"))

        def stop(line):
            path.open("ab").write(line[:5])
            raise KeyboardInterrupt

        monkeypatch.setattr(records, "_append", stop)
        with pytest.raises(KeyboardInterrupt):
            records.write(record("b"))
    assert [json.loads(line)["video"] for line in path.read_text().splitlines()] == ["a"]
