"""Spans of actions in long and live videos, found by a sliding window in one pass and bounded memory."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kinoclip.inference.classifier import Classifier
from kinoclip.inference.encoding import encode_on_cores
from kinoclip.modeling.classification import Span, to_probabilities
from kinoclip.modeling.outputs import FrameFeatures
from kinoclip.video import VideoReader, VideoSource
from kinoclip.video.live import LiveReader
from kinoclip.video.sampling import split_kept_frames

_BATCH_SIZE = 16


class TimedFrame(NamedTuple):
    """A frame (3, H, W) uint8 and its time in seconds."""

    seconds: float
    frame: Tensor


class Window(NamedTuple):
    """The times of the first and the last frame of a window, and the probabilities (K,) of the labels."""

    start_seconds: float
    end_seconds: float
    probabilities: Tensor


def find_spans(
    video: VideoSource,
    classifier: Classifier,
    labels: Sequence[str] | None = None,
    *,
    background: Sequence[str] = (),
    threshold: float = 0.5,
    frames_per_second: float = 4.0,
    window: int | None = None,
    min_seconds: float = 0.0,
) -> list[Span]:
    """Find the labels that an untrimmed video shows, with start and end. The video is read once, in order.

    Args:
        video: a source with timestamps: a path, URL, bytes or file.
        classifier: a loaded model.
        labels: names to choose from; by default those of the checkpoint.
        background: further names that compete with the labels and get no span.
        threshold: the lowest probability of a span.
        frames_per_second: density of the frames.
        window: frames per window; fewer give sharper borders and see less of a motion.
        min_seconds: shorter spans are left out.

    Raises:
        VideoDecodeError: the video cannot be read.
        ValueError: it has no timestamps, or a number is out of range.
    """
    windows = SlidingWindowClassifier(classifier, labels, background=background, window=window)
    return windows.find_spans(video, threshold=threshold, frames_per_second=frames_per_second, min_seconds=min_seconds)


def read_evenly(reader: VideoReader, frames_per_second: float) -> Iterator[TimedFrame]:
    """Read frames at equal intervals, one at a time.

    Raises:
        ValueError: the source has no timestamps, or `frames_per_second` is not positive.
    """
    if not 0 < frames_per_second < float("inf"):
        raise ValueError(f"frames_per_second must be above 0, got {frames_per_second}.")
    if reader.duration_seconds is None:
        raise ValueError(f"{reader.name} has no timestamps. Use a video, or images with their frames per second.")
    count = max(1, round(reader.duration_seconds * frames_per_second))
    indices = sorted(set(reader.indices_at([i / frames_per_second for i in range(count)])))
    yield from map(TimedFrame, reader.timestamps(indices), reader.iterate(indices))


class SlidingWindowClassifier:
    """Classifies windows of a stream of frames; a frame is encoded once if the model encodes frames independently.

    Args:
        classifier: a loaded model.
        labels: names to choose from; by default those of the checkpoint.
        background: further names, see `find_spans`.
        window: frames per window; by default as many as the model samples from a video.
        hop: frames from one window to the next; by default a quarter of a window.

    Attributes:
        labels: all names, those of the background last.
        num_foreground: how many of them are not background.
    """

    def __init__(
        self,
        classifier: Classifier,
        labels: Sequence[str] | None = None,
        *,
        background: Sequence[str] = (),
        window: int | None = None,
        hop: int | None = None,
    ):
        if labels is None and background:
            raise ValueError("A background competes with labels that are given. Give labels too.")
        if window is not None and window < 1:
            raise ValueError(f"window must be at least 1 frame, got {window}.")
        self.labels = classifier.set_labels(None if labels is None else (*labels, *background))
        self.num_foreground = len(self.labels) - len(background)
        self.classifier, self.model = classifier, classifier.model
        self.num_frames: int = window or classifier.video_processor.num_frames
        self.hop = hop or max(1, self.num_frames // 4)
        self.encodes_alone = self.model.encodes_frames_alone

    def find_spans(
        self,
        video: VideoSource,
        *,
        threshold: float = 0.5,
        frames_per_second: float = 4.0,
        min_seconds: float = 0.0,
    ) -> list[Span]:
        """Find the spans of a video; see the function."""
        with VideoReader(video) as reader:
            windows = self.windows(read_evenly(reader, frames_per_second))
            spans = join_windows(windows, self.labels, self.num_foreground, threshold)
            return [span for span in spans if span.end_seconds - span.start_seconds >= min_seconds]

    @torch.inference_mode()
    def windows(self, frames: Iterable[TimedFrame], batch_size: int = _BATCH_SIZE) -> Iterator[Window]:
        """Classify each window of a stream; a stream shorter than a window repeats its last frame.

        Args:
            frames: in order.
            batch_size: frames that are encoded together; a window waits for its batch.
        """
        window: deque[tuple[float, dict[str, Tensor]]] = deque(maxlen=self.num_frames)
        seen, stream = 0, iter(frames)
        while batch := list(islice(stream, batch_size if self.encodes_alone else 1)):
            for timed, row in zip(batch, self._encode([timed.frame for timed in batch]), strict=True):
                window.append((timed.seconds, row))
                seen += 1
                if seen >= self.num_frames and (seen - self.num_frames) % self.hop == 0:
                    yield self._classify(window)
        if 0 < seen < self.num_frames:
            window.extend([window[-1]] * (self.num_frames - seen))
            yield self._classify(window)

    def _encode(self, frames: list[Tensor]) -> list[dict[str, Tensor]]:
        """Return what a window needs of each frame: its features, or its pixels."""
        pixels = self.classifier.video_processor.prepare_frames(torch.stack(frames))
        pixels = pixels.to(self.model.device, self.model.dtype)
        if not self.encodes_alone:
            return [{"pixels": row} for row in pixels]
        features = encode_on_cores(self.model, pixels[None])
        return [{name: tensor[0, i] for name, tensor in features.items()} for i in range(len(frames))]

    def _classify(self, window: deque[tuple[float, dict[str, Tensor]]]) -> Window:
        rows = [row for _, row in window]
        stacked = {name: torch.stack([row[name] for row in rows])[None] for name in rows[0]}
        if self.encodes_alone:
            inputs: dict[str, Any] = {"frame_features": FrameFeatures(**stacked)}
        else:
            kept, _, _ = split_kept_frames(self.num_frames, self.classifier.video_processor.keep_every)
            inputs = {"frame_features": encode_on_cores(self.model, stacked["pixels"][:, kept])}
        output = self.model(**inputs, text_features=self.classifier.text)
        return Window(window[0][0], window[-1][0], to_probabilities(output.logits[0]).cpu())


def join_windows(
    windows: Iterable[Window], labels: Sequence[str], num_foreground: int, threshold: float = 0.5
) -> Iterator[Span]:
    """Join windows with the same label into spans, and yield each as soon as it has ended.

    The border of two windows is halfway between their middles.

    Args:
        windows: in order.
        labels: K names.
        num_foreground: how many of them, the first, may get a span.
        threshold: the lowest probability of a span.

    Raises:
        ValueError: the threshold is out of range.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be a probability from 0 to 1, got {threshold}.")
    start, end, label = 0.0, 0.0, -1
    probabilities: list[float] = []
    last: Window | None = None
    for window in windows:
        middles = [(each.start_seconds + each.end_seconds) / 2 for each in (last or window, window)]
        border = window.start_seconds if last is None else sum(middles) / 2
        probability, best = window.probabilities.max(0)
        current = int(best) if best < num_foreground and probability >= threshold else -1
        if current != label:
            if label >= 0:
                yield Span(start, border, labels[label], sum(probabilities) / len(probabilities))
            start, label, probabilities = border, current, []
        probabilities.append(probability.item())
        end, last = window.end_seconds, window
    if label >= 0:
        yield Span(start, end, labels[label], sum(probabilities) / len(probabilities))


@dataclass(frozen=True)
class LiveAnswer:
    """The answer for the last window of a live source.

    Attributes:
        seconds: time of its last frame, after the start.
        label: the most probable one; None if it is background or below the threshold.
        probability: of the most probable one.
        lag_seconds: time since that frame arrived.
        dropped: frames that were lost so far, because the model was slower than the source.
    """

    seconds: float
    label: str | None
    probability: float
    lag_seconds: float
    dropped: int


def watch_live(
    reader: LiveReader,
    windows: SlidingWindowClassifier,
    *,
    threshold: float = 0.5,
    on_answer: Callable[[LiveAnswer], None] = lambda answer: None,
) -> Iterator[Span]:
    """Yield each span of a live source as soon as it has ended; the last one when the source ends or after `reader.stop()`.

    Args:
        reader: an open source.
        windows: the model and its labels.
        threshold: the lowest probability of a span.
        on_answer: callback, called with the answer for each window.

    Raises:
        VideoDecodeError: the source was lost.
        ValueError: the threshold is out of range.
    """
    frames = (TimedFrame(seconds, torch.from_numpy(frame).permute(2, 0, 1)) for seconds, frame in reader)

    def answered() -> Iterator[Window]:
        for window in windows.windows(frames, batch_size=1):
            probability, best = window.probabilities.max(0)
            is_label = best < windows.num_foreground and probability >= threshold
            label = windows.labels[int(best)] if is_label else None
            lag = time.monotonic() - reader.arrived
            on_answer(LiveAnswer(window.end_seconds, label, probability.item(), lag, reader.dropped))
            yield window

    yield from join_windows(answered(), windows.labels, windows.num_foreground, threshold)
