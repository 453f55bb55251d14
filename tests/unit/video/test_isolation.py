"""Calls in processes of their own: results and errors come back, and nothing that they do harms this process."""

import ctypes
import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from kinoclip.video import VideoDecodeError, VideoTimeoutError
from kinoclip.video.isolation import CancelledError, IsolatedProcess, IsolatedProcesses


@pytest.fixture(scope="module")
def process():
    process = IsolatedProcess(megabytes=200)
    yield process
    process.close()


def call(process, function, *arguments, seconds=120.0, **options):
    return process.call(function, *arguments, name="a.mp4", seconds=seconds, **options)


def allocate(megabytes):
    return torch.ones(megabytes, 250_000).sum().item()


class PositionalError(Exception):
    def __init__(self, one, two):
        super().__init__(one)


def fail(error):
    raise error


def fail_strangely():
    raise PositionalError("one", "two")


def test_results_and_errors_come_back(process):
    assert call(process, divmod, 7, 2) == (3, 1)
    assert torch.equal(call(process, torch.add, torch.ones(2), 1), torch.tensor([2.0, 2.0]))
    with pytest.raises(VideoDecodeError, match="broken"):
        call(process, fail, VideoDecodeError("broken"))
    with pytest.raises(RuntimeError, match="PositionalError: one"):
        call(process, fail_strangely)
    assert call(process, os.getpid) != os.getpid()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [(os._exit, (3,)), (os.abort, ()), (ctypes.string_at, (0,))],
    ids=["exit", "abort", "segmentation fault"],
)
def test_a_crash_is_an_error_and_the_next_call_works(process, function, arguments):
    with pytest.raises(VideoDecodeError, match=r"a\.mp4: reading it ended the process \(exit code -?\d+\)"):
        call(process, function, *arguments)
    assert call(process, abs, -1) == 1


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="limits memory on Linux only")  # noqa: PTH110
def test_memory_is_bounded(process):
    assert call(process, allocate, 20) == 5_000_000
    with pytest.raises((VideoDecodeError, RuntimeError), match="memory"):
        call(process, allocate, 2000)
    assert call(process, abs, -1) == 1


def test_a_call_that_hangs_or_is_cancelled_is_killed(process):
    begin = time.monotonic()
    with pytest.raises(VideoTimeoutError, match=r"a\.mp4: reading takes longer than 0\.3 s"):
        call(process, time.sleep, 60, seconds=0.3)
    left = threading.Event()
    threading.Timer(0.3, left.set).start()
    with pytest.raises(CancelledError):
        call(process, time.sleep, 60, is_cancelled=left.is_set)
    assert time.monotonic() - begin < 10
    assert call(process, abs, -1) == 1


def test_where_no_process_forks_a_new_one_is_spawned(monkeypatch):
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])  # as on Windows
    spawned = IsolatedProcess()
    try:
        assert call(spawned, divmod, 7, 2) == (3, 1)
        assert type(spawned._process).__name__ == "SpawnProcess"
    finally:
        spawned.close()


def test_each_thread_has_a_process_that_ends_with_the_block():
    pids = []
    with IsolatedProcesses() as processes:
        work = [threading.Thread(target=lambda: pids.append(call(processes, os.getpid))) for _ in range(2)]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert len(set(pids)) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_temporary_folder_with_a_long_name_is_no_hindrance(tmp_path):
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    code = "from kinoclip.video.isolation import IsolatedProcess as P; print(P().call(abs, -1, name='a', seconds=120))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1\n", done.stderr
