"""Decoding one video on several cores: each decodes other groups of pictures, which are independent.

FFmpeg's own threads share every picture and wait for each other, and a damaged video gives other frames each time. Overall two cores
were no faster with them than one core that skips unreferenced frames.

A damaged video can show remains of the decoder's memory. For reproducible frames, each thread always decodes the same runs, and the
decoder gets the memory of a frame back at a fixed position of the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, Queue
from threading import Event, Semaphore, Thread
from typing import TYPE_CHECKING

from kinoclip.video._packets import Cursor, PacketTable, Run, read_run
from kinoclip.video._session import Session
from kinoclip.video.display import Frame

if TYPE_CHECKING:
    from av import VideoFrame

# Decoded frames that may wait for their conversion.
_MAX_PENDING_FRAMES = 3


def read_in_parallel(
    openers: Sequence[Callable[[], Session]],
    table: PacketTable,
    runs: Sequence[Run],
    convert: Callable[[VideoFrame], Frame],
    max_waiting: int,
) -> Iterator[tuple[int, Frame]]:
    """Yield the requested frames of runs in order; thread i decodes and converts runs i, i + n, i + 2n, ...

    Args:
        openers: each returns the session of a thread.
        table: of the video.
        runs: see `PacketTable.plan`, separate.
        convert: applied to each requested frame in the thread.
        max_waiting: converted frames that may wait.

    Raises:
        LostFrameError: see `read_run`.
        VideoTimeoutError: the time of `time_limit` is over.
    """
    stopped, count = Event(), len(openers)
    queues: list[Queue[tuple[int, Frame] | BaseException | None]] = [
        Queue(max(1, max_waiting // count)) for _ in openers
    ]

    def work(number: int) -> None:
        """Put index and frame, an error, or None at the end of each run."""
        try:
            session = openers[number]()
            cursor = Cursor(session, table)
            for run in runs[number::count]:
                for index, frame in read_run(cursor, run):
                    if stopped.is_set():
                        return
                    queues[number].put((index, convert(frame)))
                queues[number].put(None)
        except BaseException as error:  # raised again in the reader
            queues[number].put(error)

    threads = [_start(work, number) for number in range(count)]
    try:
        for number in range(len(runs)):
            while (item := queues[number % count].get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
    finally:
        stopped.set()
        for queue, thread in zip(queues, threads, strict=True):
            while thread.is_alive():
                with suppress(Empty):  # it may wait for room in its queue
                    while True:
                        queue.get_nowait()
                thread.join(0.01)


def read_ahead(
    cursor: Cursor, runs: Sequence[Run], convert: Callable[[VideoFrame], Frame]
) -> Iterator[tuple[int, Frame]]:
    """Yield the requested frames of runs, converted here while a thread decodes the next ones.

    Raises:
        LostFrameError: see `read_run`.
        VideoTimeoutError: the time of `time_limit` is over.
    """
    stopped, converted = Event(), Semaphore(0)
    queue: Queue[tuple[int, VideoFrame] | BaseException | None] = Queue()

    def work() -> None:
        pending: deque[VideoFrame] = deque()
        try:
            for run in runs:
                for index, frame in read_run(cursor, run):
                    if len(pending) == _MAX_PENDING_FRAMES:
                        converted.acquire()
                        pending.popleft()
                    if stopped.is_set():
                        return
                    pending.append(frame)
                    queue.put((index, frame))
            queue.put(None)
        except BaseException as error:  # raised again in the reader
            queue.put(error)

    thread = _start(work)
    try:
        while (item := queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            result = item[0], convert(item[1])
            del item  # the decoder waits for its memory
            converted.release()
            yield result
    finally:
        stopped.set()
        converted.release()
        thread.join()


def _start(work: Callable[..., None], *arguments: int) -> Thread:
    """Start a thread that Python does not wait for at its end, because FFmpeg may never return from a damaged file."""
    thread = Thread(target=copy_context().run, args=(work, *arguments), name="kinoclip-decode", daemon=True)
    thread.start()
    return thread
