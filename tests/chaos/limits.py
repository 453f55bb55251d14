"""How much is attacked, all of it in `make chaos` and a quick part in `make test`, and children with limits for it."""

from __future__ import annotations

import contextlib
import math
import os
import resource
import select
import signal
from collections.abc import Callable
from pathlib import Path

IS_FULL = os.environ.get("KINOCLIP_CHAOS") == "full"


def limited(attack: Callable[[], str], *, memory_bytes: int, seconds: float, cpu_seconds: float = math.inf) -> str:
    """Run an attack in a fork of this process, and return what it returns or what went wrong.

    Args:
        attack: runs in the child.
        memory_bytes: beyond what this process has.
        seconds: by the clock, which other processes slow down.
        cpu_seconds: that the child may compute.
    """
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        with contextlib.suppress(BaseException):
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + memory_bytes, used + memory_bytes))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            try:
                found = attack()
            except BaseException as error:
                found = f"{type(error).__name__}: {error}"
            os.write(writer, found.encode(errors="replace")[:4000])
        os._exit(0)
    os.close(writer)
    is_over = not select.select([reader], [], [], seconds)[0]
    found = "" if is_over else os.read(reader, 4096).decode(errors="replace")
    os.close(reader)
    if is_over:
        os.kill(process, signal.SIGKILL)
    _, status, usage = os.wait4(process, 0)
    took = usage.ru_utime + usage.ru_stime
    if is_over or took > cpu_seconds:
        return f"over {seconds} s" if is_over else f"{took:.1f} s instead of {cpu_seconds}"
    return found or f"ended by status {status}"
