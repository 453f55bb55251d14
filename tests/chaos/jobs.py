"""Jobs in forks of a process that has imported everything, disturbed at a moment that a test chooses."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SECONDS = 120
# audit events of changes to a folder
_CHANGES = ("open", "os.mkdir", "os.remove", "os.rename", "os.rmdir")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Ended(NamedTuple):
    """How a job ended.

    Args:
        code: its exit code, or the negative number of the signal that ended it.
        errors: its standard error.
        operations: number of changes of its folder; 0 if it was killed.
        seconds: its duration.
        left: number of processes of its group that still ran.
        second: the code and errors of another job with the same command, started while this one was stopped.
    """

    code: int
    errors: str
    operations: int
    seconds: float
    left: int
    second: tuple[int, str] | None


class Jobs:
    """Starts jobs one at a time, in mounts of their own where that is allowed.

    Args:
        folder: for their output.
        environment: of all jobs.
    """

    def __init__(self, folder: Path, **environment: str):
        self.folder = folder
        probe = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
        self.can_mount = probe.returncode == 0
        self.process = subprocess.Popen(
            [*(["unshare", "-m"] if self.can_mount else []), sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )
        assert self._ask() == {"threads": 1}

    def run(self, *arguments: object, **hurt: Any) -> Ended:
        """Run a command (or `kinoshapes FOLDER`), and disturb it as `_child` and `_watch` describe."""
        told = self._ask(arguments=list(map(str, arguments)), errors=str(self.folder / "errors"), **hurt)
        return Ended(**told)

    def mount(self, *arguments: object) -> None:
        """Mount something for the jobs."""
        assert self._ask(mount=list(map(str, arguments))) == {"code": 0}

    def unmount(self, folder: Path) -> None:
        """Unmount a folder, whatever is open there."""
        assert self._ask(mount=["umount", "-l", str(folder)]) == {"code": 0}

    def view(self, path: Path) -> Path:
        """Return the path by which this process sees a file of the jobs."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


def _run(arguments: list[str]) -> int:
    if arguments[0] == "kinoshapes":
        from kinoclip.kinoshapes import write_kinoshapes

        write_kinoshapes(arguments[1], 6, seed=3, num_frames=8)
        return 0
    from kinoclip.cli import main

    return main(arguments)


def _child(request: dict[str, Any], answer: int) -> None:
    """Run a job, and disturb it at a moment of its own.

    Args:
        request: `folder` and `operation`: at the n-th change of what is in the folder; or `size`: when a file would grow larger.
            Then `signal` is sent, or `errno` raised from then on. `size` kills during a write. `unplug` and `reading`:
            that link is removed when a file behind it is opened for the n-th time.
        answer: a pipe for the number of changes.
    """
    os.setpgid(0, 0)
    os.dup2(os.open(request["errors"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request.get("size"):
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # python ignores it
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["size"], request["size"]))
    changes = [0, 0]
    sys.addaudithook(_count(request.get("folder", "/none"), changes, request))
    try:
        code: Any = _run(request["arguments"])
    except SystemExit as stop:
        code = stop.code
    except KeyboardInterrupt:
        code = 130
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        code = 1
    sys.stderr.flush()
    os.write(answer, b"%d" % changes[0])
    os._exit(code)  # the deallocation of all modules takes seconds


def _count(folder: str, changes: list[int], request: dict[str, Any]) -> Callable[[str, tuple[Any, ...]], None]:
    """Return an audit hook that counts changes of a folder and openings of videos, and disturbs one of them."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and str(arguments[0]).startswith(request.get("unplug", "\0")):
            changes[1] += 1
            if changes[1] == request["reading"]:
                Path(request["unplug"]).unlink(missing_ok=True)
        if event not in _CHANGES or (event == "open" and not arguments[2] & _WRITES):
            return
        # files that are removed with their folder have relative names
        is_relative = event in ("os.remove", "os.rmdir") and arguments[1] != -1
        if not (is_relative or str(arguments[0]).startswith(folder)):
            return
        changes[0] += 1
        if changes[0] == request.get("operation") and "signal" in request:
            os.kill(os.getpid(), request["signal"])
        if changes[0] >= request.get("operation", 1 << 30) and "errno" in request:
            raise OSError(request["errno"], os.strerror(request["errno"]), str(arguments[0]))

    return hook


def _attempt(request: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    begin = time.monotonic()
    process = os.fork()
    if process == 0:
        os.close(reader)
        _child(request, writer)
    os.close(writer)
    with contextlib.suppress(OSError):  # the child may have done so and ended
        os.setpgid(process, process)
    code, second = _watch(process, request)
    seconds = time.monotonic() - begin
    operations = int(os.read(reader, 20) or 0) if select.select([reader], [], [], 0)[0] else 0
    os.close(reader)
    errors = Path(request["errors"]).read_text(errors="replace")
    told = {"code": code, "errors": errors, "operations": operations, "seconds": seconds, "second": second}
    return {**told, "left": _count_left(process)}


def _watch(process: int, request: dict[str, Any]) -> tuple[int, tuple[int, str] | None]:
    """Wait for a job, and send it `signal` after `seconds`."""
    begin, is_hurt, second = time.monotonic(), "seconds" not in request, None
    while True:
        found, status = os.waitpid(process, os.WNOHANG | os.WUNTRACED)
        if found and os.WIFSTOPPED(status):
            other = {"arguments": request["arguments"], "errors": request["errors"] + "-second"}
            told = _attempt(other)
            second = (told["code"], told["errors"])
            os.kill(process, signal.SIGCONT)
        elif found:
            return os.waitstatus_to_exitcode(status), second
        passed = time.monotonic() - begin
        if not is_hurt and passed >= request["seconds"]:
            is_hurt = True
            if request["signal"] == signal.SIGINT:
                os.killpg(process, signal.SIGINT)  # as a terminal does
            else:
                os.kill(process, request["signal"])
        if passed > SECONDS:
            os.killpg(process, signal.SIGKILL)
        time.sleep(0.001)


def _count_left(group: int) -> int:
    """Count the processes that are left of a job, after the seconds in which workers notice its end."""
    for _ in range(1000):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return 0
        time.sleep(0.01)
    os.killpg(group, signal.SIGKILL)
    return 1


def _serve() -> None:
    import accelerate  # noqa: F401
    import datasets  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import torch

    import kinoclip  # noqa: F401
    from kinoclip.cli import main  # noqa: F401
    from kinoclip.training import trainer  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        if "mount" in request:
            answer = {"code": subprocess.run(request["mount"], check=False).returncode}
        elif "arguments" in request:
            answer = _attempt(request)
        else:
            answer = {"threads": threading.active_count()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _serve()
