"""Journals, locks and formats of the output of a job."""

import csv
import json
import os
import random
import sys

import pytest

from kinoclip.inference.record_output import RecordOutput
from kinoclip.inference.records import read_records, write_records
from kinoclip.storage import Journal, OutputLock, atomic_file, file_state, nothing

VIDEOS = ["a", "b", "c", "d"]
JOB = "-".join(f"{number:08x}" for number in range(5))
OTHER = JOB.replace("00000000", "12345678").replace("00000003", "87654321")


def record(video, job=JOB):
    return {"video": video, "label": "x", "predictions": [{"label": "x", "probability": 0.5}], "job": job}


def failed(video):
    return {"video": video, "error": {"type": "VideoDecodeError", "message": "no video"}, "job": JOB}


def write(path, records, **options):
    """Write records in one process, and return the bytes of the output."""
    with RecordOutput(path, JOB, 1, **options) as output:
        for each in records:
            output.append(each)
        output.finish(VIDEOS)
    return path.read_bytes()


@pytest.fixture(params=[".jsonl", ".csv", ".parquet"])
def suffix(request):
    return request.param


@pytest.fixture
def whole(suffix, tmp_path):
    """The bytes of an output with the records of all videos."""
    path = tmp_path / f"whole{suffix}"
    content = write(path, map(record, VIDEOS))
    path.unlink()
    return content


def begin(path, records, process=0):
    """Leave the journal of a killed process."""
    journal = Journal(path.with_name(f".{path.name}.part-{process:05}.jsonl"), ("video", "job"))
    for each in records:
        journal.append(each)
    journal.close()


def test_several_processes_write_what_one_does(suffix, whole, tmp_path):
    path = tmp_path / f"many{suffix}"
    outputs = [RecordOutput(path, JOB, 1, process=process, processes=3) for process in range(3)]
    # as their barriers order it: the first checks all locks, then the others acquire theirs
    for output in outputs:
        output.__enter__()
    for process in (1, 2, 0):
        for video in VIDEOS[process::3]:
            outputs[process].append(record(video))
        outputs[process].finish(VIDEOS)
        outputs[process].__exit__()
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_what_processes_killed_in_their_first_record_left_is_removed_by_a_job_of_fewer_processes(tmp_path):
    path = tmp_path / "out.jsonl"
    for process in (0, 2):
        journal = path.with_name(f".{path.name}.part-{process:05}.jsonl")
        if process:
            journal.with_suffix(".lock").touch()  # the first process holds the lock of the output instead
        atomic_file(journal, owns=nothing).__enter__().write_bytes(b"{")
    of_another_output = atomic_file(tmp_path / "other.jsonl", owns=nothing).__enter__()
    of_another_output.write_bytes(b"{")
    write(path, map(record, VIDEOS))
    assert {*tmp_path.iterdir()} == {path, of_another_output}


def test_the_first_process_does_not_finish_without_the_others(tmp_path):
    with RecordOutput(tmp_path / "out.jsonl", JOB, process=0, processes=2) as output:
        output.append(record("a"))
        with pytest.raises(RuntimeError, match="3 of 4 videos have no record"):
            output.finish(VIDEOS)
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_journals_of_any_number_of_processes_are_continued(suffix, whole, processes, tmp_path):
    path = tmp_path / f"out{suffix}"
    begin(path, [record("b")], process=2)
    with RecordOutput(path, JOB, 1, processes=processes) as output:
        assert [video for video in VIDEOS if video in output] == ["b"]
        for video in ("a", "c", "d"):
            output.append(record(video))
        output.finish(VIDEOS)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


def test_videos_that_could_not_be_read_are_retried_and_keep_their_place(suffix, whole, tmp_path):
    path = tmp_path / f"out{suffix}"
    write(path, [failed(video) if video in "bd" else record(video) for video in VIDEOS])
    with RecordOutput(path, JOB, 1) as output:
        assert all(video in output for video in VIDEOS)
    for result in (failed, record):  # the first retry fails too
        with RecordOutput(path, JOB, 1, retry="errors") as output:
            assert [video for video in VIDEOS if video not in output] == ["b", "d"]
            for video in "bd":
                output.append(result(video))
            output.finish(VIDEOS)
    assert path.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("retry", [None, "errors"])
def test_an_interrupted_retry_is_continued_with_and_without_the_option(suffix, whole, retry, tmp_path):
    path = tmp_path / f"out{suffix}"
    write(path, map(failed, VIDEOS))
    begin(path, map(record, VIDEOS))
    begin(path, [failed("a")], process=1)  # does not replace a record
    with RecordOutput(path, JOB, 1, retry=retry) as output:
        assert all(video in output for video in VIDEOS)
        output.finish(VIDEOS)
    assert path.read_bytes() == whole


def test_a_finished_output_takes_further_videos(suffix, tmp_path):
    path = tmp_path / f"out{suffix}"
    write(path, map(record, VIDEOS))
    with RecordOutput(path, JOB, 1) as output:
        assert all(video in output for video in VIDEOS)
        output.append(record("new"))
        output.finish(["new", *VIDEOS])
    expected = [*VIDEOS, "new"] if suffix == ".jsonl" else ["new", *VIDEOS]
    assert [each["video"] for each in read_records(path)] == expected


def test_a_jsonl_with_an_incomplete_last_line_is_continued(tmp_path):
    whole = write(tmp_path / "one.jsonl", map(record, VIDEOS))
    path = tmp_path / "out.jsonl"
    path.write_bytes(whole[:-5])
    assert write(path, [record("d")]) == whole


FULL = {
    "video": "a",
    "label": "x",
    "predictions": [{"label": "x", "probability": 0.25}],
    "frame_indices": [0, 2],
    "timestamps": [0.0, 0.25],
    "duration_seconds": 0.5,
    "saliency": {"x": [0.5, 0.5]},
    "agreement": 0.5,
    "spans": [{"start": 0.0, "end": 1.0, "label": "x", "probability": 0.5}],
    "job": JOB,
}


def test_a_parquet_holds_explanations_errors_and_names_that_are_not_utf_8(tmp_path):
    name, path = os.fsdecode(b"caf\xe9.mp4"), tmp_path / "out.parquet"
    with RecordOutput(path, JOB) as output:
        output.append(FULL)
        output.append({**failed(name), "error": {"type": "VideoDecodeError", "message": f"{name}: broken"}})
        output.finish(["a", name])
    rows = read_records(path)
    assert rows[0] == FULL
    assert (rows[1]["video"], rows[1]["error"]["message"]) == (name, f"{name}: broken")
    with RecordOutput(path, JOB) as output:
        assert name in output


def test_a_csv_that_is_read_and_written_again_keeps_its_bytes(tmp_path):
    path = tmp_path / "out.csv"
    names = {"attributes": ["a, b", "c"], "entities": {"x": [0.5]}, "picture": "why/a.png"}
    for records in ([{**FULL, **names}, failed("b"), record("c")], []):
        write_records(path, ".csv", records, 2)
        before = path.read_bytes()
        write_records(path, ".csv", read_records(path), 2)
        assert path.read_bytes() == before


def test_every_name_comes_back_from_every_format(suffix, tmp_path):
    rng, path = random.Random(0), tmp_path / f"out{suffix}"
    chosen = [
        "a\nb",
        "a\rb",
        'a"b',
        "vidéo 动作",
        "-dash",
        "=1+1",
        "@x",
        " a ",
        "a\\xff",
        "a\x1b[2J",
        "\\",
        "\u2028",
        "\x85",
    ]
    drawn = [os.fsdecode(bytes(rng.choices(range(1, 256), k=rng.randint(1, 12)))) for _ in range(300)]
    alphabet = "\\xu05cdf\r\n\t,;'\"=+-@ \x1b\x9b\u3000\udcff\udc80\x80"
    names = dict.fromkeys(
        (*chosen, *drawn, *("".join(rng.choices(alphabet, k=rng.randint(1, 9))) for _ in range(300)))
    )
    with RecordOutput(path, JOB, 1) as output:
        for name in names:
            output.append({**record(name), "label": name})
        output.finish(list(names))
    assert [(each["video"], each["label"]) for each in read_records(path)] == [(name, name) for name in names]
    with RecordOutput(path, JOB, 1) as output:
        assert all(name in output for name in names)
    if suffix == ".csv":
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        assert len(rows) == len(names) + 1  # one line each, whatever the name
        assert not any(cell[:1] in tuple("=+-@\t\r") for row in rows for cell in row if cell)


def test_a_changed_video_is_named_and_labelled_again_on_request(suffix, tmp_path):
    path, video = tmp_path / f"out{suffix}", tmp_path / "a.mp4"
    for content, digest in ((b"one", False), (b"three", True)):
        video.write_bytes(content)
        path.unlink(missing_ok=True)
        with RecordOutput(path, JOB, 1) as output:
            output.append({**record(str(video)), "file": file_state(video, digest=digest)})
            output.finish([str(video)])
        with RecordOutput(path, JOB, 1) as output:
            assert str(video) in output
        video.write_bytes(b"another")
        before = path.read_bytes()
        message = r"1 videos of .* have changed since .*a\.mp4 was .*--retry changed"
        for retry in (None, "errors"):
            with pytest.raises(ValueError, match=message), RecordOutput(path, JOB, 1, retry=retry):
                pass
        assert path.read_bytes() == before
        with RecordOutput(path, JOB, 1, retry="changed") as output:
            assert str(video) not in output
            output.append({**failed(str(video)), "file": file_state(video, digest=digest)})
            output.finish([str(video)])
        (again,) = read_records(path)  # an error of the present content replaces an answer about the earlier one
        assert "error" in again
        assert again["file"] == file_state(video, digest=digest)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [(".jsonl", each) for each in (b"hello\n", b"[1]\n", b'{"video": 1}\n', b"\xff\xfe\n", b"notes", b'{"video": "a')]
    + [(".csv", b"a,b\n"), (".csv", b"notes"), (".csv", b'"a,b\n'), (".parquet", b"PAR1 and more")],
)
def test_a_file_with_other_content_is_refused_and_kept(tmp_path, suffix, content):
    path = tmp_path / f"out{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="does not hold records"), RecordOutput(path, JOB):
        pass
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not a regular file"):
        read_records(tmp_path)


def test_records_of_another_job_are_refused_in_outputs_and_journals(suffix, tmp_path):
    path, fresh = tmp_path / f"out{suffix}", tmp_path / f"fresh{suffix}"
    write(path, map(record, VIDEOS))
    begin(fresh, [record("a")])
    for each in (path, fresh):
        message = (
            "made with another model or corpus and other labels or phrases. Label them again with --retry changed"
        )
        with pytest.raises(ValueError, match=message), RecordOutput(each, OTHER, 1):
            pass
        with RecordOutput(each, OTHER, 1, retry="changed") as output:
            assert "a" not in output


def test_records_of_an_earlier_version_are_refused(suffix, tmp_path):
    path = tmp_path / f"out{suffix}"
    write_records(path, suffix, [record("a", "0123456789ab")], 1)
    with pytest.raises(ValueError, match="made with another version of kinoclip"), RecordOutput(path, JOB, 1):
        pass


def test_parquet_without_pyarrow_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ImportError, match=r"pip install 'kinoclip\[train\]'"):
        RecordOutput(tmp_path / "out.parquet", JOB)


def test_a_second_job_on_an_output_is_refused_until_the_first_has_ended(suffix, tmp_path):
    path = tmp_path / f"out{suffix}"
    (tmp_path / f"link{suffix}").symlink_to(path)
    with RecordOutput(path, JOB):
        for each in (path, tmp_path / f"link{suffix}"):
            with pytest.raises(RuntimeError, match="Another job is writing to"), RecordOutput(each, JOB):
                pass
    with RecordOutput(path, JOB):
        pass
    assert not list(tmp_path.glob(".*"))


def test_a_job_is_refused_while_a_further_process_of_a_killed_job_runs(tmp_path):
    path = tmp_path / "out.jsonl"
    lock = OutputLock(path, tmp_path / ".out.jsonl.part-00001.lock")
    lock.acquire()
    with pytest.raises(RuntimeError, match="Another job is writing to"), RecordOutput(path, JOB):
        pass
    lock.release()
    with RecordOutput(path, JOB):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_record_that_cannot_be_written_whole_is_taken_back(tmp_path, monkeypatch, error):
    path = tmp_path / "out.jsonl"
    with RecordOutput(path, JOB) as output:
        output.append(record("a"))

        def stop(file, line):
            file.write(line[:5])
            raise error

        monkeypatch.setattr(output._journal, "_write", stop)
        with pytest.raises(type(error)):
            output.append(record("b"))
    assert [json.loads(line)["video"] for line in path.read_text().splitlines()] == ["a"]
