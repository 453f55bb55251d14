"""Many videos in batches, read ahead in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from kinoclip.recognizer import VideoRecognizer
from kinoclip.video.time_limits import Reading, ReadingThreads

from .records import VIDEO_ERRORS, Record, error_record

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
    if asked is not None:
        return asked
    return 1 if model.device.type == "cpu" else _BATCH_SIZE


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
