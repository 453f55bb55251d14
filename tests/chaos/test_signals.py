"""Signals at random moments of every command: it ends within two seconds, with one line, and leaves no process."""

import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from chaos.dripping import DRIPS, Server
from chaos.limits import IS_FULL

from kinoclip.kinoshapes import kinoshapes_clips, write_video

pytestmark = pytest.mark.skipif(not IS_FULL, reason="part of `make chaos`")

ROUNDS, SECONDS_TO_END, SLACK = 3, 2.0, 1.5  # the slack is for the load of the machine
LABELS = "red circle,blue square"
COMMANDS = {
    "classify": ["classify", "{videos}", "--model", "mini", "--labels", LABELS, "--explain"],
    "isolated": ["classify", "{videos}", "--model", "mini", "--labels", LABELS, "--isolate"],
    "spans": ["classify", "{videos}", "--model", "mini", "--labels", LABELS, "--spans"],
    "dripping address": ["classify", "{address}/a.mp4", "--model", "mini", "--labels", LABELS],
    "suggest": ["suggest", "{videos}", "--model", "mini", "--labels", LABELS, "--output", "{out}/table.csv"],
    "embed": ["embed", "{videos}", "--pooling", "mean", "--model", "mini", "--output", "{out}/v.safetensors"],
    "check": ["check", "{videos}", "--full", "--workers", "2"],
    "evaluate": ["evaluate", "mini", "--data", "{videos}", "--workers", "1"],
    "live": ["live", "{video}", "--model", "mini", "--labels", LABELS],
    "live of a silent pipe": ["live", "-", "--model", "mini", "--labels", LABELS],
    "live of a silent address": ["live", "{address}/a.m3u8", "--model", "mini", "--labels", LABELS],
    "export": ["export", "mini", "--output", "{out}/export"],
    "demo": ["demo", "--output", "{out}/demo", "--videos", "40"],
    "reproduce": ["reproduce", "bike/t6a-vcs", "--smoke", "--output", "{out}/results"],
    "a model of a silent hub": ["classify", "{video}", "--labels", LABELS, "--model", "org/model"],
    "space": ["space", "--port", "{port}"],
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number, clip in enumerate(kinoshapes_clips(40, seed=4, labels=["red circle", "blue square"])):
        (folder / clip.label).mkdir(exist_ok=True)
        write_video(folder / clip.label / f"{number}.mp4", clip.frames, clip.spec.fps)
    return folder


@pytest.fixture(scope="module")
def address():
    """The address of a server that sends a byte a second."""
    with Server(DRIPS["the status line"], 1.0) as server:
        yield server.address.rpartition("/")[0]


def running(group):
    """Return the processes of a group that run, without those that only wait to be collected."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(entry.name)
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_signal_at_a_random_moment_ends_a_command(name, videos, address, tmp_path, hold):
    rng, outcomes = random.Random(name), {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_HUB_OFFLINE": "0"}
    for number in range(ROUNDS):
        (tmp_path / str(number)).mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        places = {
            "videos": videos,
            "video": next(videos.rglob("*.mp4")),
            "out": tmp_path / str(number),
            "address": address,
            "port": port,
        }
        command = ["kinoclip", *(argument.format(**places) for argument in COMMANDS[name])]
        silent, write = os.pipe()
        signals = rng.choice([[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT] * 2, [signal.SIGTERM] * 2])
        moment = rng.uniform(3.0, 11.0)  # before that, the interpreter and its libraries start
        with subprocess.Popen(
            command,
            stdin=silent,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        ) as process:
            time.sleep(moment)
            was_running, begin = process.poll() is None, time.monotonic()
            for one in signals:
                process.send_signal(one)
                time.sleep(0.1)
            code = process.wait(timeout=60)
            seconds = time.monotonic() - begin
            said = process.stderr.read().decode(errors="replace")
        os.close(silent)
        os.close(write)
        time.sleep(0.5)
        key = f"{number}: {[int(one) for one in signals]} after {moment:.1f} s"
        is_clear = "Traceback" not in said and (not was_running or code in (0, 130, 143))
        left = running(process.pid)
        if not is_clear or seconds > SECONDS_TO_END + SLACK or left:
            outcomes[key] = f"code {code} after {seconds:.1f} s, left {left}: {said[-1500:]}"
        else:
            outcomes[key] = "error" if was_running and code else "frames"
    hold(outcomes)
