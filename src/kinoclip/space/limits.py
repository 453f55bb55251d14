"""Limits of a request, checked before any work is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kinoclip.text.labels import check_labels, split_names
from kinoclip.video import VideoReader


class VisitError(ValueError):
    """A request that cannot be answered; the message is shown to the visitor."""


# frames that are decoded for a sampled one in most files; one with rarer key frames is stopped by time
_GROUP = 60


@dataclass(frozen=True)
class Limits:
    """Upper limits of a request.

    Args:
        megabytes: size of a video.
        seconds: duration of a video.
        gigapixels: pixels of all frames that must be decoded, in billions.
        fast_gigapixels: the same, of videos in the fast lane.
        fast_seconds: time for an answer in the fast lane, after the time that it waits.
        answer_seconds: time for any answer, with the time that it waits.
        worker_megabytes: memory of a process that answers, beyond that of a new process.
        per_client: requests of one visitor that are answered or wait at a time.
        labels: number of labels.
        letters: length of a label.
        frames: number of sampled frames.
    """

    megabytes: int = 100
    seconds: float = 600.0
    gigapixels: float = 15.0
    fast_gigapixels: float = 1.5
    fast_seconds: float = 20.0
    answer_seconds: float = 60.0
    worker_megabytes: int = 3000
    per_client: int = 2
    labels: int = 1000
    letters: int = 200
    frames: int = 32


def read_names(text: str, limits: Limits) -> tuple[str, ...]:
    """Split text into names; see `split_names`.

    Raises:
        VisitError: too many names, or one is too long.
    """
    names = split_names(text)
    if len(names) > limits.labels:
        raise VisitError(f"At most {limits.labels:,} labels are allowed, got {len(names):,}.")
    for number, name in enumerate(names, 1):
        if len(name) > limits.letters:
            raise VisitError(f"A label may have at most {limits.letters} letters, label {number} has {len(name):,}.")
    return names


def read_labels(text: str, limits: Limits) -> tuple[str, ...]:
    """Parse the candidate labels.

    Raises:
        VisitError: no labels, too many, too long or duplicated.
    """
    labels = read_names(text, limits)
    if not labels:
        raise VisitError("Labels are missing. Write what the video may show, one label per line.")
    try:
        check_labels(labels)
    except ValueError as error:
        raise VisitError(str(error)) from None
    return labels


def pair_names(labels: Sequence[str], chinese: Sequence[str]) -> dict[str, str]:
    """Pair labels with Chinese names by position; no names are allowed too.

    Raises:
        VisitError: the numbers differ.
    """
    if chinese and len(chinese) != len(labels):
        raise VisitError(f"Each label needs a Chinese name: got {len(labels)} labels and {len(chinese)} names.")
    return dict(zip(labels, chinese, strict=False))


def check_video(path: str, limits: Limits, sampled: int | None = None) -> int:
    """Check size, duration and resolution of a video, and return the number of pixels that must be decoded for an answer.

    Args:
        path: of the video.
        limits: of a request.
        sampled: number of sampled frames, each within `_GROUP` of a key frame; None if all frames are read.

    Raises:
        VisitError: it is too large or too long.
        VideoDecodeError: it cannot be read.
    """
    size = Path(path).stat().st_size
    if size > limits.megabytes * 1e6:
        raise VisitError(
            f"A file may have at most {limits.megabytes} MB, got {size / 1e6:,.0f} MB. Upload a shorter part."
        )
    with VideoReader(path) as reader:
        seconds, frame = reader.duration_seconds or 0.0, reader.width * reader.height
        frames = reader.num_frames if sampled is None else min(reader.num_frames, _GROUP * sampled)
    if seconds > limits.seconds:
        raise VisitError(
            f"A video may last at most {limits.seconds / 60:.0f} minutes, got {seconds / 60:,.0f}. Upload a shorter part."
        )
    if frames * frame > limits.gigapixels * 1e9:
        raise VisitError(
            f"This video has {frames:,} frames of {frame / 1e6:.1f} million pixels to decode, more than the page can. Upload a "
            f"shorter or smaller version{', or switch the time line off' if sampled is None else ''}."
        )
    return frames * frame
