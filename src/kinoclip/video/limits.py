"""Limits of time and cores for reading videos, and threads that read many of them within these limits."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Thread
from typing import Generic, NamedTuple, Self, TypeVar

from kinoclip.video.errors import VideoTimeoutError

Result = TypeVar("Result")

# Deadline by `time.monotonic`, and the allowed seconds.
_limit: ContextVar[tuple[float, float] | None] = ContextVar("_limit", default=None)
# Number of threads that read videos and share the cores; each of them has a value of its own.
_readers: ContextVar[int] = ContextVar("_readers", default=1)
# A thread may exceed its limit by this factor: FFmpeg returns after a frame, if at all.
_TIMEOUT_GRACE = 1.1
# Python should not end while a thread is inside FFmpeg.
_SHUTDOWN_TIMEOUT_S = 5.0


def num_cores(threads: int | None) -> int:
    """Return the number of cores of a reader: `threads`, 0 for all, None for its share of torch's threads."""
    if threads is None:
        import torch  # here, because it takes seconds that processes and limits of time need not wait for

        return max(1, torch.get_num_threads() // _readers.get())
    return threads or os.cpu_count() or 1


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise `VideoTimeoutError` in readers inside the block after some time; checked before each packet.

    ```python
    >>> with time_limit(60), VideoReader("clip.mp4") as reader:  # doctest: +SKIP
    ...     frames = reader.frames([0, 10, 20])
    ```

    Raises:
        ValueError: `seconds` is not positive.
    """
    if not seconds > 0:
        raise ValueError(f"The time limit must be positive, got {seconds} s.")
    token = _limit.set((time.monotonic() + seconds, seconds))
    try:
        yield
    finally:
        _limit.reset(token)


def seconds_left() -> float:
    """Return the seconds until the time limit, infinity without one."""
    limit = _limit.get()
    return float("inf") if limit is None else limit[0] - time.monotonic()


def check_time(name: str) -> None:
    """Check the time limit.

    Raises:
        VideoTimeoutError: the time is over.
    """
    limit = _limit.get()
    if limit is not None and time.monotonic() > limit[0]:
        raise timeout_error(name, limit[1])


def timeout_error(name: str, seconds: float) -> VideoTimeoutError:
    """Build the error of a video that takes too long to read."""
    return VideoTimeoutError(
        f"{name}: reading takes longer than {seconds:g} s. Allow more (--timeout, or `time_limit` in Python), or re-encode it."
    )


class Reading(NamedTuple, Generic[Result]):
    """A submitted video and its result."""

    video: str
    future: Future[Result]


class ReadingThreads(Generic[Result]):
    """Threads that read videos, each for a limited time.

    A call of FFmpeg cannot be interrupted. A thread that does not return is abandoned until the process ends, and replaced.

    Args:
        read: reads one video.
        threads: number of threads.
        seconds: per video.
    """

    def __init__(self, read: Callable[[str], Result], threads: int, seconds: float):
        self._read, self._threads, self._seconds = read, threads, seconds
        self._queue: SimpleQueue[Reading[Result] | None] = SimpleQueue()
        self._running: list[Thread] = []
        for _ in range(threads):
            self._start()

    def submit(self, video: str) -> Reading[Result]:
        """Append a video to the queue."""
        reading = Reading(video, Future[Result]())
        self._queue.put(reading)
        return reading

    def result(self, reading: Reading[Result]) -> Result:
        """Wait for a result; call in the order of `submit`, so that a thread has started the video or is free.

        Raises:
            VideoTimeoutError: the time is over; otherwise what `read` raises.
        """
        with suppress(TimeoutError):
            reading.future.exception(min(self._seconds * _TIMEOUT_GRACE, TIMEOUT_MAX))
        with suppress(InvalidStateError):
            reading.future.set_exception(timeout_error(reading.video, self._seconds))
            self._start()
        return reading.future.result()

    def close(self) -> None:
        """Cancel waiting videos and end the threads; threads that do not end within seconds are abandoned."""
        with suppress(Empty):
            while (reading := self._queue.get_nowait()) is not None:
                reading.future.cancel()
        for _ in range(self._threads):
            self._queue.put(None)
        end = time.monotonic() + _SHUTDOWN_TIMEOUT_S
        for thread in self._running:
            thread.join(max(0.0, end - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        thread = Thread(target=self._work, name="kinoclip-decode", daemon=True)
        thread.start()
        self._running.append(thread)

    def _work(self) -> None:
        _readers.set(self._threads)
        while (reading := self._queue.get()) is not None:
            if not reading.future.set_running_or_notify_cancel():
                continue
            try:
                try:
                    with time_limit(self._seconds):
                        reading.future.set_result(self._read(reading.video))
                except Exception as error:
                    reading.future.set_exception(error)
            except InvalidStateError:  # timed out; another thread has taken the place of this one
                return
