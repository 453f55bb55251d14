"""Commands end within two seconds of a signal, wherever they wait."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

SECONDS_TO_END = 2.0
_SLACK = 3.0  # of a loaded machine


@pytest.fixture
def silent_server():
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        connections = []

        def accept():
            while True:
                try:
                    connections.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        for connection in connections:
            connection.close()


# waits for ever where Python runs no handler of a signal, as C code does
HANG = """
import ctypes, threading, time
import kinoclip.cli
from kinoclip.{module} import {owner}
def hang(*_, **__):
    open({started!r}, "w").close()
    {wait}
{owner}.{name} = hang
kinoclip.cli.run()
"""
C_CODE = "while True: ctypes.CDLL(None).poll(None, 0, -1)"
WAITS = {
    "decoder": ("video.reader", "VideoReader", "__init__", C_CODE),
    "model": ("inference.classifier", "Classifier", "load", C_CODE),
    "a thread that never ends": (
        "inference.classifier",
        "Classifier",
        "load",
        "threading.Thread(target=time.sleep, args=(100,)).start(); time.sleep(100)",
    ),
}


def stop(process, numbers):
    """Send signals half a second apart, and return the exit code and the seconds that the end took."""
    begin = time.monotonic()
    for number in numbers:
        process.send_signal(number)
        time.sleep(0.2)
    code = process.wait(timeout=20)
    return code, time.monotonic() - begin


@pytest.mark.skipif(sys.platform != "linux", reason="waits in poll of the C library")
@pytest.mark.parametrize(
    "numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["SIGTERM", "SIGINT twice"]
)
@pytest.mark.parametrize("wait", WAITS)
def test_a_command_that_waits_ends(wait, numbers, video_path, tmp_path, programs):
    module, owner, name, code = WAITS[wait]
    started = tmp_path / "started"
    code = HANG.format(module=module, owner=owner, name=name, wait=code, started=str(started))
    options = ["--model", "mini", "--labels", "red circle,blue square"]
    command = ["python", "-c", code, "classify", str(video_path), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=programs) as process:
        until = time.monotonic() + 60
        while not started.exists():
            assert process.poll() is None, process.stderr.read().decode()
            assert time.monotonic() < until
            time.sleep(0.05)
        code, seconds = stop(process, numbers)
        said = process.stderr.read().decode()
    assert code == (143 if signal.SIGTERM in numbers else 130)
    assert seconds < SECONDS_TO_END + _SLACK
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith("kinoclip: terminated" if code == 143 else "kinoclip: interrupted")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_live_ends_while_its_pipe_is_silent(number, programs):
    read, write = os.pipe()
    command = ["kinoclip", "live", "-", "--model", "mini", "--labels", "red circle,blue star"]
    with subprocess.Popen(command, stdin=read, stderr=subprocess.PIPE, env=programs) as process:
        time.sleep(4)
        code, seconds = stop(process, [number])
        said = process.stderr.read().decode()
    os.close(write)
    assert code == (143 if number == signal.SIGTERM else 130), said
    assert seconds < SECONDS_TO_END + _SLACK
    assert "Traceback" not in said


def test_a_download_that_gets_no_answer_ends(silent_server, programs):
    command = ["kinoclip", "live", f"{silent_server}/a.m3u8", "--model", "mini", "--labels", "red circle,blue star"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=programs) as process:
        time.sleep(4)
        code, seconds = stop(process, [signal.SIGTERM])
        said = process.stderr.read().decode()
    assert code == 143, said
    assert seconds < SECONDS_TO_END + _SLACK
