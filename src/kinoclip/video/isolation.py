"""Functions in processes of their own, with limits of time and memory, for files that may crash or exhaust a decoder."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeVar

from kinoclip.video.errors import VideoDecodeError
from kinoclip.video.limits import timeout_error

Result = TypeVar("Result")

# imported once, by the process that all others are forked from
_PRELOADED = ["kinoclip.video.reader", "kinoclip.inference.classifier"]
_POLL_SECONDS = 0.1
_LONGEST_FOLDER = 60  # the address of a socket in it has at most 107 bytes
_starting = threading.Lock()


class CancelledError(Exception):
    """The caller has no more use for the result."""


def start_server() -> Any:
    """Start the process that all others are forked from, if it does not run yet, and return the context of it.

    A fork of this process would copy the locks that its threads hold. Windows starts new processes instead.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver  # imports what Windows lacks

    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    before = tempfile.tempdir
    if len(os.fsencode(tempfile.gettempdir())) > _LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"
    try:
        forkserver.ensure_running()
    finally:
        tempfile.tempdir = before
    return context


class IsolatedProcess:
    """A process in which functions are called one at a time. It is started when it is needed, and again after a crash.

    It bounds what a file can do to this process: crash it, hang it, or exhaust its memory. It is not a sandbox: code that a file
    made the decoder execute would have the rights of the user.

    Args:
        megabytes: memory beyond that of a new process, where the system can limit it (Linux); None for no limit.
        threads: of torch.
    """

    def __init__(self, megabytes: int | None = None, threads: int = 1):
        self.megabytes, self.threads = megabytes, threads
        self._process: Any = None
        self._connection: Connection | None = None

    def call(
        self,
        function: Callable[..., Result],
        *arguments: Any,
        name: str,
        seconds: float,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> Result:
        """Call a function in the process. Function, arguments and result must be picklable.

        Args:
            function: of a module.
            arguments: positional.
            name: of the video, in errors.
            seconds: after which the process is killed.
            is_cancelled: called ten times a second; True kills the process.

        Raises:
            VideoTimeoutError: the time is over.
            VideoDecodeError: the process crashed, as it also does if it needs too much memory.
            CancelledError: `is_cancelled` returned True.
            Exception: what the function raises.
        """
        connection = self._connect()
        end = time.monotonic() + seconds
        try:
            connection.send_bytes(pickle.dumps((function, arguments)))
            while not connection.poll(_POLL_SECONDS):
                if is_cancelled():
                    raise CancelledError
                if time.monotonic() > end:
                    raise timeout_error(name, seconds)
            # not `recv`, which would share tensors in /dev/shm, of which containers have little
            is_result, result = pickle.loads(connection.recv_bytes())  # noqa: S301  (of this package)
        except (EOFError, OSError) as error:
            self._process.join(1)
            code = self._process.exitcode
            self.close()
            raise VideoDecodeError(
                f"{name}: reading it ended the process (exit code {code}): it crashes the decoder, or needs more memory than "
                "allowed. Re-encode it, or leave it out."
            ) from error
        except BaseException:
            self.close()
            raise
        if not is_result:
            raise result
        return result  # type: ignore[no-any-return]

    def kill(self) -> None:
        """Kill the process; a call in another thread that waits for it raises `VideoDecodeError`."""
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Kill the process, and free what belongs to it."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()  # type: ignore[union-attr]
            self._process = self._connection = None

    def _connect(self) -> Connection:
        if self._connection is not None and self._process.is_alive():
            return self._connection
        self.close()
        context = start_server()
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self.megabytes, self.threads), daemon=True)
        with _starting:
            # otherwise the new process would run the script of this one again, up to a guard that it may lack
            main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
            try:
                self._process.start()
            finally:
                sys.modules["__main__"] = main
        theirs.close()
        return self._connection


class IsolatedProcesses:
    """A context manager with one `IsolatedProcess` for each thread that calls."""

    def __init__(self, megabytes: int | None = None):
        self.megabytes = megabytes
        self._own = threading.local()
        self._all: list[IsolatedProcess] = []

    def call(self, function: Callable[..., Result], *arguments: Any, name: str, seconds: float) -> Result:
        """See `IsolatedProcess.call`."""
        if not hasattr(self._own, "process"):
            self._own.process = IsolatedProcess(self.megabytes)
            self._all.append(self._own.process)
        process: IsolatedProcess = self._own.process
        return process.call(function, *arguments, name=name, seconds=seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._all:
            process.close()

    def kill(self) -> None:
        """Kill the processes; calls in other threads that wait for them raise `VideoDecodeError`."""
        for process in self._all:
            process.kill()


def _serve(connection: Connection, megabytes: int | None, threads: int) -> None:
    """Answer calls until the other end is closed."""
    import torch

    torch.set_num_threads(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it, and kills this process
    if megabytes is not None and sys.platform == "linux":
        import resource

        status = Path("/proc/self/status").read_text(encoding="ascii")
        used = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
        limit = used + megabytes * 1_000_000
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            return
        try:
            function, arguments = pickle.loads(request)  # noqa: S301
            answer = pickle.dumps((True, function(*arguments)))
        except MemoryError:
            return
        except Exception as error:
            try:
                answer = pickle.dumps((False, error))
                pickle.loads(answer)  # noqa: S301
            except Exception:  # an error with arguments of its own
                answer = pickle.dumps((False, RuntimeError(f"{type(error).__name__}: {error}")))
        connection.send_bytes(answer)
