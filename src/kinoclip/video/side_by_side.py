"""Decode one video in the background, on several cores: each decodes other groups of pictures, which need nothing of one another.

FFmpeg's own threads share out every picture instead. They wait for each other, a damaged video gives other frames each time, and
on the whole two cores decoded no faster with them than one that leaves out what nobody wants.

A damaged video can show what is left in the memory of its decoder. So that its frames are the same each time, the decoder gets the
memory of a frame back at the same place of the video, no matter who is faster.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Event, Semaphore, Thread
from typing import TYPE_CHECKING, Generic, TypeVar

from kinoclip.video.media import Session
from kinoclip.video.packets import PacketTable, Run
from kinoclip.video.passes import Cursor, read_run

if TYPE_CHECKING:
    from av import VideoFrame

Converted = TypeVar("Converted")

# how many frames may wait to be converted
_LENT = 3


@dataclass(frozen=True)
class _Worker(Generic[Converted]):
    """What one thread does: always the same runs.

    Args:
        opener: gives its session.
        table: of the video.
        runs: to decode.
        convert: done to each wanted frame, which the decoder has back before the next.
        out: takes an index and a frame at a time, what went wrong, and None where a run ends; it waits when it is full.
        stopped: nobody wants any more.
    """

    opener: Callable[[], Session]
    table: PacketTable
    runs: Sequence[Run]
    convert: Callable[[VideoFrame], Converted]
    out: Queue[tuple[int, Converted] | BaseException | None]
    stopped: Event

    def work(self) -> None:
        """Decode one run after another."""
        try:
            session = self.opener()
            cursor = Cursor(session, self.table)
            for run in self.runs:
                for index, frame in read_run(session, self.table, cursor, run):
                    if self.stopped.is_set():
                        return
                    self.out.put((index, self.convert(frame)))
                self.out.put(None)
        except BaseException as error:  # raised again where the frames are asked for
            self.out.put(error)


def read_side_by_side(
    openers: Sequence[Callable[[], Session]],
    table: PacketTable,
    runs: Sequence[Run],
    convert: Callable[[VideoFrame], Converted],
    ahead: int,
) -> Iterator[tuple[int, Converted]]:
    """Give the wanted frames of runs in their order, while the next are decoded.

    Args:
        openers: give a session each, which nobody else uses until this iterator is closed.
        table: of the video.
        runs: see `PacketTable.plan`; those that shall be decoded at once are apart.
        convert: makes something else of each wanted frame, in the background too.
        ahead: how many frames may wait.

    Raises:
        LostFrameError: see `read_run`.
        VideoTimeoutError: the time of `time_limit` is over.
    """
    stopped, count = Event(), len(openers)
    workers = [
        _Worker(opener, table, runs[number::count], convert, Queue(max(1, ahead // count)), stopped)
        for number, opener in enumerate(openers)
    ]
    threads = [_start(worker.work) for worker in workers]
    try:
        for number in range(len(runs)):
            while (item := workers[number % count].out.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
    finally:
        stopped.set()
        for worker, thread in zip(workers, threads, strict=True):
            while thread.is_alive():  # it may wait for room
                with suppress(Empty):
                    worker.out.get(timeout=0.01)
            thread.join()


def read_ahead(
    session: Session, table: PacketTable, runs: Sequence[Run], convert: Callable[[VideoFrame], Converted]
) -> Iterator[tuple[int, Converted]]:
    """Give the wanted frames of runs, each converted here while the next are decoded in the background.

    Raises:
        LostFrameError: see `read_run`.
        VideoTimeoutError: the time of `time_limit` is over.
    """
    stopped, converted = Event(), Semaphore(0)
    out: Queue[tuple[int, VideoFrame] | BaseException | None] = Queue()

    def work() -> None:
        lent: deque[VideoFrame] = deque()
        try:
            cursor = Cursor(session, table)
            for run in runs:
                for index, frame in read_run(session, table, cursor, run):
                    if len(lent) == _LENT:
                        converted.acquire()
                        lent.popleft()
                    if stopped.is_set():
                        return
                    lent.append(frame)
                    out.put((index, frame))
            out.put(None)
        except BaseException as error:  # raised again where the frames are asked for
            out.put(error)

    thread = _start(work)
    try:
        while (item := out.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            result = item[0], convert(item[1])
            del item
            converted.release()
            yield result
    finally:
        stopped.set()
        converted.release()
        thread.join()


def _start(work: Callable[[], None]) -> Thread:
    """Work in a thread that the end of Python does not wait for, because FFmpeg may never come back from a damaged file."""
    thread = Thread(target=copy_context().run, args=(work,), name="kinoclip-decode", daemon=True)
    thread.start()
    return thread
