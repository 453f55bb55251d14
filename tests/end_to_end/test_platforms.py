"""Commands in a process from which what Windows lacks was removed, and with an output that cannot hold all letters."""

import json
import os
import subprocess
import sys

import pytest

# names that Windows lacks, and modules, which only libraries can import
WINDOWS = """
import builtins, multiprocessing, os, signal, sys
import datasets, psutil, torch.utils.data, torchvision, transformers.pipelines
POSIX = {
    os: "fork forkpty register_at_fork sched_getaffinity killpg getuid setsid mkfifo statvfs getloadavg pidfd_open",
    signal: "SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGPIPE SIGCHLD setitimer alarm pause",
}
for module, names in POSIX.items():
    for name in set(names.split()) & set(vars(module)):
        delattr(module, name)
real_import = builtins.__import__

def import_without_posix(name, globals=None, *rest, **more):
    if name in ("fcntl", "resource", "pwd", "grp", "termios") and (globals or {}).get("__name__", "").startswith("kinoclip"):
        raise ModuleNotFoundError(name)
    return real_import(name, globals, *rest, **more)

builtins.__import__ = import_without_posix
multiprocessing.get_all_start_methods = lambda: ["spawn"]
"""


COMMANDS = """
import importlib, pkgutil, kinoclip
from kinoclip.cli import main, run
for module in pkgutil.walk_packages(kinoclip.__path__, "kinoclip."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
video, report, demo = sys.argv[1:]
assert main(["check", video, "--workers", "1", "--output", report]) == 0
sys.argv = ["kinoclip", "demo", "--videos", "2", "--output", demo]
run()
"""


@pytest.fixture(scope="module")
def windows(video_path, tmp_path_factory):
    """What is printed there, and the report of a check, after every module was imported."""
    report, demo = (tmp_path_factory.mktemp("windows") / name for name in ("report.jsonl", "demo"))
    command = [sys.executable, "-c", WINDOWS + COMMANDS, video_path, report, demo]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode("cp1252")
    return done.stdout.decode("cp1252"), report


def test_the_demo_runs_without_posix_and_escapes_what_the_output_cannot_hold(windows):
    assert "2 of 2 right" in windows[0]
    assert "\\u2588" in windows[0]  # a full bar


def test_a_video_is_read_in_a_spawned_process_without_posix(windows):
    assert json.loads(windows[1].read_text())["num_frames"] == 16
