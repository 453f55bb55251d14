"""A limit of time for reading videos: kept by the reader itself, and enforced where FFmpeg does not come back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Thread
from types import TracebackType
from typing import Generic, NamedTuple, Self, TypeVar

from kinoclip.video.cores import share_cores
from kinoclip.video.errors import VideoTimeoutError

Result = TypeVar("Result")

# when to stop, by `time.monotonic`, and the seconds that were allowed
_limit: ContextVar[tuple[float, float] | None] = ContextVar("_limit", default=None)
# how much longer than its limit a thread may take: FFmpeg comes back after a frame, if it does
_PATIENCE = 1.1
# Python is better ended without a thread in the midst of a video
_FAREWELL_SECONDS = 5.0


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let whatever is read inside raise `VideoTimeoutError` once it has taken so long; looked at before each packet.

    ```python
    >>> with time_limit(60), VideoReader("clip.mp4") as reader:  # doctest: +SKIP
    ...     frames = reader.frames([0, 10, 20])
    ```

    Raises:
        ValueError: `seconds` is not above 0.
    """
    if not seconds > 0:
        raise ValueError(f"The time limit is {seconds} s. It must be above 0.")
    token = _limit.set((time.monotonic() + seconds, seconds))
    try:
        yield
    finally:
        _limit.reset(token)


def check_time(name: str) -> None:
    """Raise where the time is over.

    Raises:
        VideoTimeoutError: it is; the message names the video and the limit.
    """
    limit = _limit.get()
    if limit is not None and time.monotonic() > limit[0]:
        raise _too_long(name, limit[1])


def _too_long(name: str, seconds: float) -> VideoTimeoutError:
    return VideoTimeoutError(
        f"{name}: reading it takes longer than {seconds:g} s. Allow more (--timeout, or in Python `time_limit`), or re-encode it."
    )


class Reading(NamedTuple, Generic[Result]):
    """A video that is read, or waits to be, and what comes of it."""

    video: str
    future: Future[Result]


class ReadingThreads(Generic[Result]):
    """Threads that read videos, each for a limited time.

    A call of FFmpeg cannot be interrupted. A thread that does not come back from one is left behind, and another one takes its
    place; what it holds is free when the process ends, which does not wait for it.

    Args:
        read: reads one video.
        threads: how many.
        seconds: for one video.
    """

    def __init__(self, read: Callable[[str], Result], threads: int, seconds: float):
        self._read, self._threads, self._seconds = read, threads, seconds
        self._line: SimpleQueue[Reading[Result] | None] = SimpleQueue()
        self._running: list[Thread] = []
        for _ in range(threads):
            self._start()

    def submit(self, video: str) -> Reading[Result]:
        """Put a video at the end of the line."""
        reading = Reading(video, Future[Result]())
        self._line.put(reading)
        return reading

    def result(self, reading: Reading[Result]) -> Result:
        """Wait for what was read; ask in the order of `submit`, so that a thread has begun or is free to.

        Raises:
            VideoTimeoutError: the time is over; otherwise what `read` raises.
        """
        with suppress(TimeoutError):
            reading.future.exception(min(self._seconds * _PATIENCE, TIMEOUT_MAX))
        with suppress(InvalidStateError):
            reading.future.set_exception(_too_long(reading.video, self._seconds))
            self._start()
        return reading.future.result()

    def close(self) -> None:
        """Forget the videos that wait, and let the threads end; those that do not within a few seconds are left behind."""
        with suppress(Empty):
            while (reading := self._line.get_nowait()) is not None:
                reading.future.cancel()
        for _ in range(self._threads):
            self._line.put(None)
        end = time.monotonic() + _FAREWELL_SECONDS
        for thread in self._running:
            thread.join(max(0.0, end - time.monotonic()))

    def __enter__(self) -> Self:
        """Give the threads themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close them."""
        self.close()

    def _start(self) -> None:
        thread = Thread(target=self._work, name="kinoclip-decode", daemon=True)
        thread.start()
        self._running.append(thread)

    def _work(self) -> None:
        while self._take(self._line.get()):
            pass

    def _take(self, reading: Reading[Result] | None) -> bool:
        """Read a video; false when there are no more, or when it was given up and another thread took this one's place."""
        if reading is None:
            return False
        if not reading.future.set_running_or_notify_cancel():
            return True
        try:
            try:
                with time_limit(self._seconds), share_cores(self._threads):
                    reading.future.set_result(self._read(reading.video))
            except Exception as error:
                reading.future.set_exception(error)
        except InvalidStateError:
            return False
        return True


def read_within(seconds: float, read: Callable[[str], Result], video: str) -> Result:
    """Read one video in a thread of its own, as `ReadingThreads` does many.

    Raises:
        VideoTimeoutError: the time is over; otherwise what `read` raises.
    """
    with ReadingThreads(read, 1, seconds) as threads:
        return threads.result(threads.submit(video))
