"""Many videos by one command: killed at random moments, interrupted, in several processes, two at a time.

`KINOCLIP_CHAOS=full` makes it 500 videos and 10 kills.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kinoclip.data.kinoshapes import kinoshapes_clips, write_video

NUM_VIDEOS, NUM_KILLS = (500, 10) if os.environ.get("KINOCLIP_CHAOS") == "full" else (60, 3)
OPTIONS = ("--labels", "red circle,blue square,green star,nothing", "--threshold", "0.5")

# starts commands as often as it is asked to, having imported everything once; tells their process and how they ended
STARTER = """
import json, os, signal, sys
import accelerate
from kinoclip.cli import main
print("ready", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        status = os.waitpid(request["wait"], 0)[1]
        print(os.waitstatus_to_exitcode(status), flush=True)
        continue
    process = os.fork()
    if process == 0:
        os.environ.update(request["environment"])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        try:
            code = main(request["arguments"])
        except SystemExit as stop:
            code = stop.code
        sys.stderr.flush()
        os._exit(code)  # taking everything apart that was imported takes seconds
    print(process, flush=True)
"""


class Starter:
    """Starts commands in processes of their own."""

    def __init__(self, folder):
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdout.readline() == "ready\n"

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def start(self, *arguments, **environment):
        errors = self.folder / f"errors-{time.monotonic_ns()}"
        arguments = [str(argument) for argument in arguments]
        return Started(self, self.ask(arguments=arguments, errors=str(errors), environment=environment), errors)

    def start_two(self, *arguments):
        """Start a command as `torchrun --nproc_per_node 2` does on a machine without GPUs."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        return [self.start(*arguments, **group, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]


class Started:
    """A command that runs."""

    def __init__(self, starter, pid, errors):
        self.starter, self.pid, self.errors_path = starter, pid, errors

    @property
    def errors(self):
        return self.errors_path.read_text() if self.errors_path.exists() else ""

    def end(self, number=None):
        """Send a signal, if there is one, and give the exit code."""
        if number is not None:
            os.kill(self.pid, number)
        return self.starter.ask(wait=self.pid)

    def wait_for_records(self, folder, pattern):
        deadline = time.monotonic() + 120
        while not any(path.stat().st_size for path in folder.glob(pattern)):
            assert time.monotonic() < deadline, self.errors
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
            assert state != "Z", self.errors  # it has ended
            time.sleep(0.01)


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    starter = Starter(tmp_path_factory.mktemp("errors"))
    yield starter
    starter.process.stdin.close()
    starter.process.wait(timeout=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Short clips, of which one in twenty is truncated, a text, or empty."""
    folder = tmp_path_factory.mktemp("scale") / "videos"
    folder.mkdir()
    for number, clip in enumerate(kinoshapes_clips(NUM_VIDEOS, seed=11, split="test", num_frames=8)):
        path = write_video(folder / f"{number:04}.mp4", clip.frames, clip.spec.fps)
        if number % 20 == 7:
            content = path.read_bytes()
            path.write_bytes([content[: len(content) // 2], b"no video, but a text", b""][number // 20 % 3])
    return folder


@pytest.fixture(scope="module")
def whole(folder):
    """The output of a job that nothing happened to."""
    output = folder.parent / "whole.jsonl"
    command = [sys.executable, "-m", "kinoclip", "classify", folder, *OPTIONS, "--output", output]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{NUM_VIDEOS}/{NUM_VIDEOS} videos, {NUM_VIDEOS // 20} unreadable" in done.stderr
    return output.read_bytes()


def test_the_uninterrupted_output_has_each_video_once(folder, whole):
    records = [json.loads(line) for line in whole.splitlines()]
    assert [record["video"] for record in records] == sorted(str(path) for path in folder.iterdir())
    assert sum("error" in record for record in records) == NUM_VIDEOS // 20


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_job_that_is_killed_again_and_again_writes_what_an_uninterrupted_one_does(
    name, folder, whole, starter, tmp_path
):
    def start(output):
        return starter.start("classify", folder, *OPTIONS, "--output", output)

    begin = time.monotonic()
    job = start(tmp_path / f"whole_{name}")
    job.wait_for_records(tmp_path, "whole_out*")
    first = time.monotonic() - begin
    assert job.end() == 0, job.errors
    rest = time.monotonic() - begin - first
    expected = (tmp_path / f"whole_{name}").read_bytes()
    assert name == "out.parquet" or expected == whole
    (tmp_path / f"whole_{name}").unlink()

    output, moments, kept = tmp_path / name, random.Random(5), [0]
    for _ in range(NUM_KILLS):
        job = start(output)
        # from before anything is written to a little more than a share of the work
        time.sleep(moments.uniform(first / 2, first + 1.3 * rest / NUM_KILLS))
        job.end(signal.SIGKILL)
        growing = [*tmp_path.glob("out.jsonl"), *tmp_path.glob("out.parquet.part-*")]
        is_whole = (tmp_path / "out.parquet").exists()
        kept.append(NUM_VIDEOS if is_whole else sum(path.read_bytes().count(b"\n") for path in growing))
    job = start(output)
    assert job.end() == 0, job.errors
    assert output.read_bytes() == expected
    assert kept == sorted(kept)
    assert list(tmp_path.iterdir()) == [output]
    print(f"{name}: {NUM_VIDEOS} videos, records after each of {NUM_KILLS} kills: {kept[1:]}")  # noqa: T201


def test_two_processes_that_are_killed_and_continued_write_what_one_does(folder, whole, starter, tmp_path):
    output = tmp_path / "out.jsonl"
    command = ("classify", folder, *OPTIONS, "--output", output)
    group = starter.start_two(*command)
    group[0].wait_for_records(tmp_path, "out.jsonl.part-*")
    for job in group:
        assert job.end(signal.SIGKILL) == -signal.SIGKILL
    assert not output.exists()
    group = starter.start_two(*command)
    assert [job.end() for job in group] == [0, 0], "".join(job.errors for job in group)
    assert "are done already" in group[0].errors
    assert output.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [output]


def test_one_process_continues_what_two_began(folder, whole, starter, tmp_path):
    output = tmp_path / "out.jsonl"
    command = ("classify", folder, *OPTIONS, "--output", output)
    group = starter.start_two(*command)
    group[0].wait_for_records(tmp_path, "out.jsonl.part-*")
    for job in group:
        job.end(signal.SIGKILL)
    job = starter.start(*command)
    assert job.end() == 0, job.errors
    assert output.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_job_ends_with_its_code_and_whole_records(folder, starter, tmp_path, number, code):
    output = tmp_path / "out.jsonl"
    job = starter.start("classify", folder, *OPTIONS, "--output", output, "--batch-size", 1)
    job.wait_for_records(tmp_path, "out.jsonl")
    assert job.end(number) == code
    assert "what was written is whole" in job.errors
    assert "Traceback" not in job.errors
    records = [json.loads(line) for line in output.read_bytes().splitlines()]
    assert 0 < len(records) < NUM_VIDEOS
    assert list(tmp_path.iterdir()) == [output]


def test_a_second_job_on_the_same_output_is_refused_and_the_first_goes_on(folder, starter, tmp_path):
    output = tmp_path / "out.parquet"
    first = starter.start("classify", folder, *OPTIONS, "--output", output, "--batch-size", 1)
    first.wait_for_records(tmp_path, "out.parquet.part-*")
    os.kill(first.pid, signal.SIGSTOP)
    second = starter.start("classify", folder, *OPTIONS, "--output", output)
    assert second.end() == 1
    assert f"Another job writes to {output} now" in second.errors
    assert first.end(signal.SIGCONT) == 0, first.errors
    assert list(tmp_path.iterdir()) == [output]
