"""Run Python programs in forks of one process that has imported the package, instead of cold starts of several seconds.

`start(folder)` starts the server and writes two programs, `kinoclip` and `python`, into `folder / "bin"`. They take the same arguments
as the real ones and are run by the server: in a fork, with the working directory, the environment and the standard streams of
the caller. The fork is killed when its caller is. Variables that libraries read once, on their import, must be those of the
server; where they differ, the real program is started.
"""

import json
import os
import signal
import socket
import stat
import sys
from pathlib import Path

# Read on import by torch, huggingface_hub, transformers, datasets or Python itself.
IMPORT_PREFIXES = ("HF_", "HUGGING", "TRANSFORMERS_", "XDG_", "OMP_", "PYTHON", "CUDA_", "ACCELERATE_", "TORCH")
IMPORTED = [
    "kinoclip.cli",
    "kinoclip.inference.classifier",
    "kinoclip.inference.search",
    "kinoclip.training.trainer",
    "kinoclip.training.reproduce",
    "kinoclip.evaluation.evaluate",
    "kinoclip.data",
    "kinoclip.hub.publish",
    "kinoclip.kinoshapes",
    "kinoclip.export",
    "datasets",
    "accelerate",
    "pandas",
    "pyarrow.parquet",
    "PIL.Image",
    "av",
    "sklearn.metrics",
    "torchvision.transforms.v2",
]


class Server:
    """The process that forks; `bin` holds the programs, `environment` the variables with which they are called."""

    def __init__(self, folder: Path):
        import subprocess

        self.bin = folder / "bin"
        self.bin.mkdir()
        address = folder / "socket"
        for name in ("kinoclip", "python"):
            program = self.bin / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" "{address}" {name} "$@"\n')
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.process = subprocess.Popen([sys.executable, __file__, str(address)], stdin=subprocess.PIPE)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def call(address: str, name: str, arguments: list[str]) -> int:
    """Ask the server for a run and wait for its end."""
    with socket.socket(socket.AF_UNIX) as connection:
        while True:
            try:
                connection.connect(address)
                break
            except (FileNotFoundError, ConnectionRefusedError):  # it is still importing
                import time

                time.sleep(0.05)
        request = json.dumps([name, arguments, str(Path.cwd()), dict(os.environ)]).encode()
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], [0, 1, 2])
        connection.sendall(request)
        answers = connection.makefile("rb")
        pid = int(answers.readline())
        if not pid:
            program = [sys.executable, "-m", "kinoclip"] if name == "kinoclip" else [sys.executable]
            os.execv(sys.executable, [*program, *arguments])
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        return int(answers.readline())


def serve(address: str) -> None:
    import select
    import threading
    from contextlib import suppress
    from importlib import import_module

    own = dict(os.environ)  # before imports add to it
    import torch

    torch.set_num_threads(1)
    sys.path.pop(0)  # the folder of this file
    for name in IMPORTED:
        with suppress(ImportError):
            import_module(name)
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{address}.new")
    server.listen(64)
    Path(f"{address}.new").rename(address)

    def answer(connection: socket.socket) -> None:
        """Run in a process of its own, so that the server itself never has more than one thread."""
        size, streams, *_ = socket.recv_fds(connection, 8, 3)
        with connection.makefile("rb") as file:
            name, arguments, folder, environment = json.loads(file.read(int.from_bytes(size, "big")))
        changed = {key for key in own.keys() | environment.keys() if own.get(key) != environment.get(key)}
        if any(key.startswith(IMPORT_PREFIXES) for key in changed):
            connection.sendall(b"0\n")
            return
        child = os.fork()
        if not child:
            os.setsid()
            connection.close()
            _become(name, arguments, folder, environment, streams)
        for stream in streams:
            os.close(stream)
        connection.sendall(f"{child}\n".encode())
        watch = os.pidfd_open(child)
        ready, _, _ = select.select([watch, connection], [], [])
        if watch not in ready:  # the caller was killed
            os.kill(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        with suppress(BrokenPipeError):
            connection.sendall(f"{code if code >= 0 else 128 - code}\n".encode())

    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in ready:  # the tests have ended
            return
        connection, _ = server.accept()
        if not os.fork():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            server.close()
            assert threading.active_count() == 1
            answer(connection)
            os._exit(0)
        connection.close()


def _become(name: str, arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]) -> None:
    """Be the program that was asked for."""
    import atexit
    import runpy
    import threading
    import traceback

    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", errors=errors)  # noqa: SIM115, PTH123
        for number, mode, errors in ((0, "r", "strict"), (1, "w", "strict"), (2, "w", "backslashreplace"))
    )
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    import torch

    # Torch makes a pool of threads after a fork when it is first needed; two threads at once find an "Invalid thread pool".
    torch.set_num_threads(1)
    code: object = 1
    try:
        if name == "kinoclip":
            sys.argv = ["kinoclip", *arguments]
            runpy.run_module("kinoclip", run_name="__main__")
        elif arguments[0] in ("-c", "-m"):
            sys.argv = [arguments[0], *arguments[2:]]
            sys.path.insert(0, "")
            if arguments[0] == "-m":
                runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
            else:
                exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code
        if not isinstance(code, int | None):
            sys.stderr.write(f"{code}\n")
            code = 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
    threading._shutdown()  # as the interpreter does before its exit handlers
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code or 0)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        serve(sys.argv[1])
    else:
        sys.exit(call(sys.argv[1], sys.argv[2], sys.argv[3:]))
