"""Many videos in batches: read ahead in threads, and computed on all cores of the processor at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, islice
from typing import NamedTuple, TypeVar

import torch

from kinoclip.export.exported import ExportedRecognizer
from kinoclip.recognizer import VideoRecognizer
from kinoclip.video.time_limits import Reading, ReadingThreads

from .records import VIDEO_ERRORS, Record, error_record

Item = TypeVar("Item")
Result = TypeVar("Result")

# more threads than that decode no faster than a model on a GPU takes in
_MAX_DECODERS = 16
# videos that a GPU works on at once, unless somebody says
_BATCH_SIZE = 8
# a video that takes longer to read gets an error record
READ_SECONDS = 600.0


class ReadBatch(NamedTuple):
    """A batch of videos, what was read of each, and error records of those that cannot be read."""

    videos: Sequence[str]
    samples: dict[str, object]
    errors: dict[str, Record]


def choose_batch_size(model: VideoRecognizer, asked: int | None) -> int:
    """Give the number that was asked for, or 1 on a CPU, where more at once are no faster, and 8 elsewhere."""
    return asked or (1 if model.device.type == "cpu" else _BATCH_SIZE)


def share_out(videos: Sequence[str], batch_size: int, process: int = 0, processes: int = 1) -> list[Sequence[str]]:
    """Cut videos into batches, and give every n-th of these: the share of one of several processes.

    >>> share_out("abcdefg", 2, process=1, processes=2)
    ['cd', 'g']
    """
    starts = range(process * batch_size, len(videos), processes * batch_size)
    return [videos[start : start + batch_size] for start in starts]


def read_batches(
    read: Callable[[str], object],
    batches: Sequence[Sequence[str]],
    processes: int = 1,
    seconds: float = READ_SECONDS,
) -> Iterator[ReadBatch]:
    """Give each batch of videos with what was read of it.

    Threads read ahead, as many as there are processor cores for this one of several processes: a batch, or one video each. Reading a
    video may take so many seconds.
    """
    threads = max(1, min(_MAX_DECODERS, (os.cpu_count() or 1) // processes))
    ahead = 1 + threads // max(map(len, batches), default=1)
    with ReadingThreads(read, threads, seconds) as pool:
        waiting: deque[list[Reading[object]]] = deque()
        for number, batch in enumerate(batches):
            for later in batches[number + len(waiting) : number + 1 + ahead]:
                waiting.append([pool.submit(video) for video in later])
            samples, errors = {}, {}
            for video, reading in zip(batch, waiting.popleft(), strict=True):
                try:
                    samples[video] = pool.result(reading)
                except VIDEO_ERRORS as error:
                    errors[video] = error_record(video, error)
            yield ReadBatch(batch, samples, errors)


def spread(count: int, model: VideoRecognizer, *, one_by_one: bool = False) -> list[int]:
    """Tell with how many of torch's threads to compute each of so many batches, so that no core is ever without work.

    One thread each does more than all of them for one batch after another, because none waits for another; where fewer batches are
    left than there are threads, these share them. On other devices, for exports, whose threads are their own, and `one_by_one` all
    threads serve each batch.
    """
    threads = torch.get_num_threads()
    if one_by_one or model.device.type != "cpu" or isinstance(model, ExportedRecognizer):
        return [threads] * count
    rest = count % threads
    return [1] * (count - rest) + [threads // max(1, rest)] * rest


def compute_on_cores(
    compute: Callable[[Item], Result], items: Iterable[Item], threads: Sequence[int]
) -> Iterator[tuple[Item, Result]]:
    """Give each item with what is computed of it, in their order; as many at once as torch has threads for.

    Args:
        compute: may run in a thread of its own, beside itself.
        items: taken as they are needed.
        threads: of torch, for each item; see `spread`. While several are computed at once, torch has no more in other threads either.
    """
    source, total = iter(items), torch.get_num_threads()
    for each, group in groupby(threads):
        part = islice(source, len(list(group)))
        if each == total:
            yield from ((item, compute(item)) for item in part)
        else:
            yield from _compute_at_once(compute, part, total // each, each)


def _compute_at_once(
    compute: Callable[[Item], Result], items: Iterable[Item], workers: int, threads: int
) -> Iterator[tuple[Item, Result]]:
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "kinoclip-compute", torch.set_num_threads, (threads,))
    torch.set_num_threads(threads)
    try:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(compute, item)))
            while waiting and (len(waiting) > workers or waiting[0][1].done()):
                first, future = waiting.popleft()
                yield first, future.result()
        for item, future in waiting:
            yield item, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
