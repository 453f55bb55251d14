"""What a visitor may ask for, checked before any work is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kinoclip.processing import check_labels
from kinoclip.video import VideoReader


class VisitError(ValueError):
    """What a visitor asked for cannot be done; the message is one sentence or two for that person."""


@dataclass(frozen=True)
class Limits:
    """How much one visitor may ask for.

    Args:
        megabytes: of a video.
        seconds: of a video.
        reading_seconds: for reading the frames that are looked at.
        labels: how many names.
        letters: of one name.
        frames: looked at in one video.
    """

    megabytes: int = 100
    seconds: float = 600.0
    reading_seconds: float = 60.0
    labels: int = 1000
    letters: int = 200
    frames: int = 32


def read_names(text: str, limits: Limits) -> tuple[str, ...]:
    """Split what was typed into names: one a line, or a single line with commas.

    Raises:
        VisitError: too many or too long.
    """
    lines = text.splitlines()
    names = tuple(name.strip() for name in (lines if len(lines) > 1 else text.split(",")) if name.strip())
    if len(names) > limits.labels:
        raise VisitError(f"These are {len(names):,} labels. Write at most {limits.labels:,}.")
    for number, name in enumerate(names, 1):
        if len(name) > limits.letters:
            raise VisitError(f"Label {number} has {len(name):,} letters. Write at most {limits.letters} in a line.")
    return names


def read_labels(text: str, limits: Limits) -> tuple[str, ...]:
    """Read the labels to choose from.

    Raises:
        VisitError: there are none, too many, one is too long or comes twice.
    """
    labels = read_names(text, limits)
    if not labels:
        raise VisitError("There are no labels. Write what the video may show, one name a line.")
    try:
        check_labels(labels)
    except ValueError as error:
        raise VisitError(str(error)) from None
    return labels


def pair_names(labels: Sequence[str], chinese: Sequence[str]) -> dict[str, str]:
    """Give each label the Chinese name in the same place; nothing where none were written.

    Raises:
        VisitError: there are not as many names as labels.
    """
    if chinese and len(chinese) != len(labels):
        raise VisitError(
            f"There are {len(labels)} labels, but {len(chinese)} Chinese names. Write one for each label."
        )
    return dict(zip(labels, chinese, strict=False))


def check_video(path: str, limits: Limits) -> None:
    """Make sure that a video is there, and neither too large nor too long.

    Raises:
        VisitError: it is not so.
        VideoDecodeError: it cannot be read.
    """
    size = Path(path).stat().st_size
    if size > limits.megabytes * 1e6:
        raise VisitError(
            f"This file has {size / 1e6:,.0f} MB. Choose one of at most {limits.megabytes} MB, or cut a part out of it."
        )
    with VideoReader(path) as reader:
        seconds = reader.duration_seconds or 0.0
    if seconds > limits.seconds:
        raise VisitError(
            f"This video runs for {seconds / 60:,.0f} minutes. "
            f"Choose one of at most {limits.seconds / 60:.0f}, or cut a part out of it."
        )
