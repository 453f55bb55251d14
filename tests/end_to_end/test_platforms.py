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
    os: "fork forkpty register_at_fork sched_getaffinity killpg getuid setsid mkfifo statvfs getloadavg pidfd_open O_NONBLOCK",
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


@pytest.fixture(scope="module")
def run_on_windows(tmp_path_factory):
    """A function that runs code there and returns what it printed, in a folder that is kept between calls."""
    folder = tmp_path_factory.mktemp("windows")

    def run(code):
        environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
        done = subprocess.run(
            [sys.executable, "-c", WINDOWS + code], cwd=folder, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode("cp1252")
        return done.stdout.decode("cp1252")

    run.folder = folder
    return run


def test_the_demo_runs_without_posix_and_escapes_what_the_output_cannot_hold(run_on_windows):
    printed = run_on_windows("sys.argv = ['kinoclip', 'demo', '--videos', '2']\nfrom kinoclip.cli import run\nrun()")
    assert "2 of 2 right" in printed
    assert "\\u2588" in printed  # a full bar


def test_every_module_and_processes_of_their_own_work_without_posix(run_on_windows):
    kept = run_on_windows(
        "import importlib, pkgutil, kinoclip\n"
        "names = [module.name for module in pkgutil.walk_packages(kinoclip.__path__, 'kinoclip.')]\n"
        "modules = [importlib.import_module(name) for name in names if not name.endswith('__main__')]\n"
        "from kinoclip.cli import main\n"
        "main(['demo', '--videos', '2'])\n"
        "sys.exit(main(['check', 'demo', '--workers', '1', '--output', 'checked.jsonl']))"
    )
    records = [json.loads(line) for line in (run_on_windows.folder / "checked.jsonl").read_text().splitlines()]
    assert [record["status"] for record in records] == ["ok", "ok"], kept
