"""Long and live video: which action happens when, in one pass and bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kinoclip.outputs import FrameFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.video import VideoReader, VideoSource
from kinoclip.video.sampling import split_kept_frames

from .classify import Classifier
from .computing import encode_on_cores

# frames encoded at once
_BATCH = 16


class TimedFrame(NamedTuple):
    """A picture (3, H, W) uint8 and when it is shown."""

    seconds: float
    frame: Tensor


@dataclass(frozen=True)
class Moment:
    """What a window of frames shows.

    Attributes:
        start_seconds: of its first frame.
        end_seconds: of its last frame.
        probabilities: (K,), of the labels.
    """

    start_seconds: float
    end_seconds: float
    probabilities: Tensor


@dataclass(frozen=True)
class Span:
    """One label from one time to another, with its mean probability over the windows in between."""

    start_seconds: float
    end_seconds: float
    label: str
    probability: float


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
    """Tell which labels an untrimmed video shows, and from when to when.

    The video is read once, in order; only the frames of one window are held.

    Args:
        video: anything with a clock: a path, URL, bytes or file.
        classifier: a loaded model.
        labels: names to choose from; those of the checkpoint when left out.
        background: further names, of what is no action of interest; they compete, and get no span.
        threshold: probability from which a label is believed; below, there is no span.
        frames_per_second: how densely to look.
        window: frames that are looked at together, see `Watcher`; fewer find sharper borders and less of a motion.
        min_seconds: shorter spans are left out.

    Raises:
        VideoDecodeError: the video cannot be read.
        ValueError: it has no clock, or a number is not usable.
    """
    watcher = Watcher(classifier, labels, background=background, window=window)
    return watcher.find_spans(video, threshold=threshold, frames_per_second=frames_per_second, min_seconds=min_seconds)


def read_evenly(reader: VideoReader, frames_per_second: float) -> Iterator[TimedFrame]:
    """Read frames at even distances, one at a time.

    Raises:
        ValueError: the source has no clock, or `frames_per_second` is not above 0.
    """
    if not 0 < frames_per_second < float("inf"):
        raise ValueError(f"frames_per_second is {frames_per_second}. Give a number above 0.")
    if reader.duration_seconds is None:
        raise ValueError(f"{reader.name} has no clock. Give a video, or pictures with their frames per second.")
    count = max(1, round(reader.duration_seconds * frames_per_second))
    indices = sorted(set(reader.indices_at([i / frames_per_second for i in range(count)])))
    for seconds, frame in zip(reader.timestamps(indices), reader.iterate(indices), strict=False):
        yield TimedFrame(seconds, frame)


class Watcher:
    """A window over a stream of frames. Where the model's frames do not depend on each other, each is encoded once.

    Args:
        classifier: a loaded model.
        labels: names to choose from; those of the checkpoint when left out.
        background: further names, see `find_spans`.
        window: frames that are looked at together; as many as the model was trained with when left out.
        hop: frames from one window to the next; a quarter of a window when left out.

    Attributes:
        labels: all names, those of the background last.
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
        self.labels = classifier.set_labels(None if labels is None else (*labels, *background))
        self.num_wanted = len(self.labels) - len(background)
        self.classifier, self.model = classifier, classifier.model
        if window is not None and window < 1:
            raise ValueError(f"window is {window}. Look at one frame at least.")
        self.num_frames: int = window or classifier.video_processor.num_frames
        self.hop = hop or max(1, self.num_frames // 4)
        self.encodes_alone = encodes_alone(self.model, self.num_frames, classifier.video_processor.crop_size)

    def find_spans(
        self,
        video: VideoSource,
        *,
        threshold: float = 0.5,
        frames_per_second: float = 4.0,
        min_seconds: float = 0.0,
    ) -> list[Span]:
        """Tell which labels a video shows, and from when to when; see the function of this name."""
        with VideoReader(video) as reader:
            moments = self.moments(read_evenly(reader, frames_per_second))
            spans = join_moments(moments, self.labels, self.num_wanted, threshold)
            return [span for span in spans if span.end_seconds - span.start_seconds >= min_seconds]

    @torch.inference_mode()
    def moments(self, frames: Iterable[TimedFrame], at_once: int = _BATCH) -> Iterator[Moment]:
        """Look at each window of a stream; a stream shorter than a window repeats its last frame.

        Args:
            frames: in order.
            at_once: how many are waited for, to be encoded together; fewer answer sooner.
        """
        window: deque[tuple[float, dict[str, Tensor]]] = deque(maxlen=self.num_frames)
        seen, stream = 0, iter(frames)
        batch_size = at_once if self.encodes_alone else 1
        while batch := list(islice(stream, batch_size)):
            for timed, row in zip(batch, self._encode([timed.frame for timed in batch]), strict=True):
                window.append((timed.seconds, row))
                seen += 1
                if seen >= self.num_frames and (seen - self.num_frames) % self.hop == 0:
                    yield self._look(window)
        if 0 < seen < self.num_frames:
            window.extend([window[-1]] * (self.num_frames - seen))
            yield self._look(window)

    def _encode(self, frames: list[Tensor]) -> list[dict[str, Tensor]]:
        """Give what a window keeps of each frame: its features, or its pixels."""
        pixels = self.classifier.video_processor.prepare_frames(torch.stack(frames))
        pixels = pixels.to(self.model.device, self.model.dtype)
        if not self.encodes_alone:
            return [{"pixels": row} for row in pixels]
        features = encode_on_cores(self.model, pixels[None])
        return [{name: tensor[0, i] for name, tensor in features.items()} for i in range(len(frames))]

    def _look(self, window: deque[tuple[float, dict[str, Tensor]]]) -> Moment:
        rows = [row for _, row in window]
        stacked = {name: torch.stack([row[name] for row in rows])[None] for name in rows[0]}
        if self.encodes_alone:
            inputs: dict[str, Any] = {"frame_features": FrameFeatures(**stacked)}
        else:
            kept, _, _ = split_kept_frames(self.num_frames, self.classifier.video_processor.keep_every)
            inputs = {"pixel_values_videos": stacked["pixels"][:, kept]}
        output = self.model(**inputs, text_features=self.classifier.text)
        return Moment(window[0][0], window[-1][0], output.logits[0].float().softmax(-1).cpu())


@torch.inference_mode()
def encodes_alone(model: VideoRecognizer, num_frames: int, crop_size: dict[str, int]) -> bool:
    """Find out whether a model encodes each frame by itself: the same frames in another order get the same features."""
    if model.encodes_frames_alone:
        return True
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, num_frames, 3, crop_size["height"], crop_size["width"], generator=generator)
    pixels = pixels.to(model.device, model.dtype)
    forward, backward = (model.encode_frames(order).embeds for order in (pixels, pixels.flip(1)))
    if forward.shape[1] != num_frames:
        return False
    return torch.allclose(forward, backward.flip(1), atol=1e-3 * forward.abs().max().item())


def join_moments(
    moments: Iterable[Moment], labels: Sequence[str], num_wanted: int, threshold: float = 0.5
) -> Iterator[Span]:
    """Join windows that agree on a label into spans, each as soon as it has ended.

    A window speaks for the time around its middle, halfway to the windows beside it.

    Args:
        moments: in order.
        labels: K names.
        num_wanted: how many of them, the first, may get a span.
        threshold: probability from which a label is believed.

    Raises:
        ValueError: the threshold is no probability.
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}. It is a probability, from 0 to 1.")
    start, until, label, shares = 0.0, 0.0, -1, [0.0]
    last: Moment | None = None
    for moment in moments:
        border = moment.start_seconds if last is None else (_middle(last) + _middle(moment)) / 2
        share, best = moment.probabilities.max(0)
        found = int(best) if best < num_wanted and share >= threshold else -1
        if found != label:
            if label >= 0:
                yield Span(start, border, labels[label], sum(shares) / len(shares))
            start, label, shares = border, found, []
        shares.append(share.item())
        until, last = moment.end_seconds, moment
    if label >= 0:
        yield Span(start, until, labels[label], sum(shares) / len(shares))


def _middle(moment: Moment) -> float:
    return (moment.start_seconds + moment.end_seconds) / 2
