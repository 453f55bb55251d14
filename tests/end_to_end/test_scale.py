"""Many videos by one command in several processes, and on a full disk; `tests/chaos/test_jobs.py` kills and interrupts jobs."""

import json
import signal
import socket
import subprocess
import time

import pytest
from chaos.limits import IS_FULL
from clip_files import write_clips

from kinoclip.kinoshapes import kinoshapes_clips

NUM_VIDEOS = 500 if IS_FULL else 60
LABELS = "red circle,blue square,green star,nothing"
OPTIONS = ("--model", "mini", "--labels", LABELS, "--threshold", "0.5", "--batch-size", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Short clips, of which one in twenty is truncated, a text, or empty."""
    clips = kinoshapes_clips(NUM_VIDEOS, seed=11, split="test", num_frames=8)
    folder = write_clips(tmp_path_factory.mktemp("scale") / "videos", clips, "{number:04}.mp4")
    for number in range(7, NUM_VIDEOS, 20):
        path = folder / f"{number:04}.mp4"
        content = path.read_bytes()
        path.write_bytes([content[: len(content) // 2], b"no video, but a text", b""][number // 20 % 3])
    return folder


@pytest.fixture(scope="module")
def start(programs, folder):
    """A function that starts the classification of all videos, with variables of its environment."""

    def start(output, **environment):
        command = ["kinoclip", "classify", str(folder), *OPTIONS, "--output", str(output)]
        return subprocess.Popen(command, env={**programs, **environment}, stderr=subprocess.PIPE, text=True)

    return start


@pytest.fixture(scope="module")
def start_two(start):
    """A function that starts it as `torchrun --nproc_per_node 2` does on a machine without GPUs."""

    def start_two(output):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
        return [start(output, **group, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]

    return start_two


def end(job):
    """Return the exit code and the errors."""
    errors = job.communicate(timeout=120)[1]
    return job.returncode, errors


def wait_for_records(job, tmp_path, pattern):
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in tmp_path.glob(pattern)):
        assert time.monotonic() < deadline
        assert job.poll() is None, job.stderr.read()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def whole(start, folder):
    """The output of a job that is not disturbed."""
    code, errors = end(start(folder.parent / "whole.jsonl"))
    assert code == 0, errors
    assert f"{NUM_VIDEOS}/{NUM_VIDEOS} videos, {NUM_VIDEOS // 20} unreadable" in errors
    content = (folder.parent / "whole.jsonl").read_bytes()
    records = [json.loads(line) for line in content.splitlines()]
    assert [record["video"] for record in records] == sorted(str(path) for path in folder.iterdir())
    assert sum("error" in record for record in records) == NUM_VIDEOS // 20
    return content


@pytest.mark.parametrize("processes", [1, 2])
def test_two_processes_that_are_killed_are_continued_by_one_or_two(processes, whole, start, start_two, tmp_path):
    output = tmp_path / "out.jsonl"
    group = start_two(output)
    wait_for_records(group[0], tmp_path, ".out.jsonl.part-*.jsonl")
    for job in group:  # both before either is waited for
        job.kill()
    assert [end(job)[0] for job in group] == [-signal.SIGKILL] * 2
    time.sleep(0.1)  # the server kills a job after its caller
    assert not output.exists()
    ended = [end(job) for job in (start_two(output) if processes == 2 else [start(output)])]
    assert [code for code, _ in ended] == [0] * processes, ended
    assert "are done already" in ended[0][1]
    assert output.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [output]


def test_a_full_disk_ends_the_job_with_complete_records(programs, folder, tmp_path):
    # 1,000 bytes: two records and a part of the next
    code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); from kinoclip.cli import main; "
    command = ["classify", str(folder), *OPTIONS, "--output", str(tmp_path / "out.jsonl")]
    run = {"env": programs, "capture_output": True, "text": True, "check": False}
    done = subprocess.run(["python", "-c", f"{code}sys.exit(main(sys.argv[1:]))", *command], **run)
    assert done.returncode == 1
    assert "the disk is full" in done.stderr
    assert "Traceback" not in done.stderr
    assert [json.loads(line)["video"] for line in (tmp_path / "out.jsonl").read_bytes().splitlines()]
