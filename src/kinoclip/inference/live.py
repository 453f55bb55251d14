"""Name what a live source shows, as it happens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from kinoclip.video.live import LiveReader

from .timeline import Moment, Span, TimedFrame, Watcher, join_moments


@dataclass(frozen=True)
class LiveAnswer:
    """What the last window of a live source shows.

    Attributes:
        seconds: of its last frame, after the start.
        label: the most probable one; None when that is background, or below the threshold.
        probability: of the most probable one.
        lag_seconds: since that frame came in.
        dropped: frames that were lost until now, because looking was slower than the source.
    """

    seconds: float
    label: str | None
    probability: float
    lag_seconds: float
    dropped: int


def watch_live(
    reader: LiveReader,
    watcher: Watcher,
    *,
    threshold: float = 0.5,
    on_answer: Callable[[LiveAnswer], None] = lambda answer: None,
) -> Iterator[Span]:
    """Give each span of a live source as soon as it has ended; the last one when the source ends or `reader.stop()`.

    Args:
        reader: an open source.
        watcher: the model and its labels.
        threshold: probability from which a label is believed.
        on_answer: hears of each window at once, for those who cannot wait for the end of a span.

    Raises:
        VideoDecodeError: the source was lost.
        ValueError: the threshold is no probability.
    """

    def frames() -> Iterator[TimedFrame]:
        for seconds, frame in reader:
            yield TimedFrame(seconds, torch.from_numpy(frame).permute(2, 0, 1))

    def moments() -> Iterator[Moment]:
        for moment in watcher.moments(frames(), at_once=1):
            share, best = moment.probabilities.max(0)
            is_action = best < watcher.num_wanted and share >= threshold
            label = watcher.labels[int(best)] if is_action else None
            lag = time.monotonic() - reader.arrived
            on_answer(LiveAnswer(moment.end_seconds, label, share.item(), lag, reader.dropped))
            yield moment

    yield from join_moments(moments(), watcher.labels, watcher.num_wanted, threshold)
