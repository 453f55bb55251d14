"""The two kinds of clip behind `VideoReader`: a file that FFmpeg decodes, and pictures that somebody already took apart."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

from kinoclip.video.cores import num_cores
from kinoclip.video.display import Frame, Orientation, read_orientation, to_rgb
from kinoclip.video.errors import VideoDecodeError
from kinoclip.video.media import Media, Session
from kinoclip.video.passes import (
    Count,
    LostFrameError,
    count_by_decoding,
    first_frame,
    read_along_packets,
    read_in_order,
    read_table,
)
from kinoclip.video.side_by_side import read_ahead, read_side_by_side

if TYPE_CHECKING:
    from av import VideoFrame

logger = logging.getLogger(__name__)

OnDamage = Literal["keep", "raise"]

# What was decoded for counting is kept up to this size, so that such a clip is not decoded twice.
_KEPT_BYTES = 48_000_000
# Less than this (pixels of all frames to decode) is decoded sooner than another core is at work.
_SHARED_PIXELS = 1_500_000
# A group of pictures that is more of it leaves nothing to share out.
_LARGEST_SHARE = 0.75
# The most that several cores decode ahead of what is asked for.
_AHEAD_BYTES = 100_000_000


class FrameCountChangedError(Exception):
    """Decoding met damage, and the clip now counts fewer frames than it had promised."""


class Clip(Protocol):
    """Frames in display order."""

    num_frames: int
    height: int
    width: int
    orientation: Orientation
    fps: float | None
    stamps: list[float] | None
    damage: str | None

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Give frames (H, W, 3) for ascending indices without repeats."""

    def close(self) -> None:
        """Let go of everything."""


class PictureClip:
    """Frames that are there one by one.

    Args:
        name: for messages.
        num_frames: how many.
        load: gives one of them, (H, W, 3).
        fps: None if nobody said.
    """

    orientation = Orientation()
    damage: str | None = None

    def __init__(self, name: str, num_frames: int, load: Callable[[int], Frame], fps: float | None):
        if num_frames < 1:
            raise VideoDecodeError(f"{name}: there are no frames in it. Give at least one.")
        self.num_frames = num_frames
        self.fps = fps
        self.stamps = [i / fps for i in range(num_frames)] if fps else None
        self._load = load
        self.height, self.width = load(0).shape[:2]

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Give frames (H, W, 3) for ascending indices without repeats."""
        for index in indices:
            yield index, self._load(index)

    def close(self) -> None:
        """Forget the frames."""
        self._load = _closed


class FileClip:
    """The video stream of a file, read along its packets where they can be trusted, by counting what comes out elsewhere.

    `num_frames` is exact where it was counted by decoding: containers and codecs where packets are no frames, and `exact=True`.
    Elsewhere it is the number of packets, and damage that only decoding shows lowers it when it is met.

    Args:
        media: the file.
        stream: which of the video streams; None takes the largest.
        on_damage: "keep" what decodes, or "raise".
        max_pixels: of a frame.
        threads: cores to decode on; see `num_cores`.
        fps: for a stream without a clock.
        exact: count by decoding in any case.
    """

    def __init__(
        self,
        media: Media,
        *,
        stream: int | None,
        on_damage: OnDamage,
        max_pixels: int,
        threads: int | None,
        fps: float | None,
        exact: bool,
    ):
        self.name = media.name
        self.damage: str | None = None
        self._on_damage = on_damage
        self._declared_fps = fps
        self._session = Session(media, stream, max_pixels)
        self._helpers: dict[int, Session] = {}
        self._cores = num_cores(threads)
        self._is_closed = False
        self._kept: list[VideoFrame] | None = None
        self._first: VideoFrame | None = None
        self._current: Generator[tuple[int, Frame]] | None = None
        self._lock = threading.RLock()
        try:
            self._look(exact)
        except BaseException:
            self.close()
            raise

    def _look(self, exact: bool) -> None:
        """Find the number of frames, their size and how to read them."""
        self._table = read_table(self._session)
        self.num_frames = len(self._table.packets)
        first = None
        if self._table.is_countable and not exact:
            first = first_frame(self._session, self._table)
        if first is None or self._session.errors:
            self._count()
            return
        self._along_packets = self._table.is_seekable
        self._counted = False
        if self._along_packets and first.pts == self._table.display_stamps[0] and not first.is_corrupt:
            self._first = first
        self._set_shape(first.height, first.width, read_orientation(first))
        stamps: Sequence[int | None] = [packet.pts for packet in self._table.packets]
        self._set_stamps(sorted(stamps) if None not in stamps else stamps)  # type: ignore[type-var]

    def _count(self) -> None:
        """Decode everything."""
        self._session.reopen()
        count = count_by_decoding(self._session, _KEPT_BYTES)
        if count.num_frames == 0:
            raise VideoDecodeError(self._explain_nothing(count))
        self.damage = self._describe_damage(count)
        if self.damage:
            if self._on_damage == "raise":
                raise VideoDecodeError(
                    f"{self.name}: the video is damaged: {self.damage}. Re-encode it, or pass on_damage='keep'."
                )
            logger.warning("%s: the video is damaged: %s.", self.name, self.damage)
        self._counted = True
        self._kept = count.frames
        self.num_frames = count.num_frames
        is_as_promised = not self.damage and count.stamps == self._table.display_stamps
        self._along_packets = is_as_promised and self._table.is_seekable
        self._set_shape(count.height, count.width, count.orientation)
        self._set_stamps(count.stamps)

    def _describe_damage(self, count: Count) -> str | None:
        num_packets = len(self._table.packets)
        errors = list(count.errors)
        if not self._table.is_complete:
            errors.append("the file cannot be read to its end")
        if count.num_frames < num_packets and not self._table.packets[0].is_key:
            errors.append("it starts between key frames")
        if count.num_frames < num_packets and self._table.is_countable:
            errors.append("packets without a frame")
        return f"{count.num_frames} frames decode from {num_packets} packets ({errors[0]})" if errors else None

    def _explain_nothing(self, count: Count) -> str:
        codec = self._session.stream.codec_context
        if codec.width * codec.height > self._session.max_pixels:
            return (
                f"{self.name}: its frames of {codec.width} x {codec.height} are larger than max_pixels="
                f"{self._session.max_pixels}. Pass a larger max_pixels if you trust the file."
            )
        why = f" ({count.errors[0]})" if count.errors else ""
        return f"{self.name}: no frame could be decoded{why}. The file is damaged, encrypted or empty; re-encode it."

    def _set_shape(self, height: int, width: int, orientation: Orientation) -> None:
        self.orientation = orientation
        turned = orientation.rotation in (90, 270)
        self.height, self.width = (width, height) if turned else (height, width)

    def _set_stamps(self, stamps: Sequence[int | None]) -> None:
        """Keep presentation times in seconds after the first frame; without ascending ones, count them off at the frame rate."""
        base = self._session.stream.time_base
        known = [stamp for stamp in stamps if stamp is not None]
        self.stamps = None
        if base and len(known) == len(stamps) and all(a < b for a, b in pairwise(known)):
            self.stamps = [(stamp - known[0]) * base.numerator / base.denominator for stamp in known]
        self.fps = self._measure_fps()
        if self.stamps is None and self.fps:
            self.stamps = [i / self.fps for i in range(self.num_frames)]

    def _measure_fps(self) -> float | None:
        """Take the header's rate, unless the time stamps say otherwise by more than 5 percent."""
        stream = self._session.stream
        rate: Fraction | None = stream.average_rate or stream.guessed_rate
        declared = float(rate) if rate else None
        if self.stamps is None:
            return self._declared_fps or declared
        if len(self.stamps) < 2:
            return declared or self._declared_fps
        measured = (len(self.stamps) - 1) / self.stamps[-1]
        if declared and abs(declared - measured) <= 0.05 * measured:
            return declared
        return measured

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Give frames (H, W, 3) as shown, for ascending indices without repeats.

        Raises:
            FrameCountChangedError: there are fewer frames than promised; `num_frames` has been corrected.
            VideoDecodeError: damage, with `on_damage="raise"`.
        """
        remaining = list(indices)
        mine: Generator[tuple[int, Frame]] | None = None
        while remaining:
            with self._lock:
                # Another read of this clip has moved the file: start again where this one stands.
                if mine is None or self._current is not mine:
                    self._stop()
                    mine, cores = self._attempt(tuple(remaining)), self._cores
                    self._current = mine
                index, frame = next(mine, (None, None))
                if frame is None or index != remaining[0]:
                    mine = None
                    self._stop()
                    if cores == self._cores:  # otherwise one core alone may do it
                        self._recover()
                    continue
            yield remaining.pop(0), frame

    def _recover(self) -> None:
        """Decode everything to see what is there, after a frame did not come out."""
        if self._counted and not self._along_packets:
            raise VideoDecodeError(f"{self.name}: the file changed while it was read. Open it again.")
        promised = self.num_frames
        self._count()
        self._along_packets = False
        if self.num_frames != promised:
            raise FrameCountChangedError

    def _attempt(self, indices: Sequence[int]) -> Generator[tuple[int, Frame]]:
        """Give frames until one does not come out as it should."""
        if self._is_closed:
            raise ValueError(f"{self.name}: the reader is closed. Open the video again.")
        if self._kept is not None:
            yield from ((index, self._convert(self._kept[index])) for index in indices)
            return
        with contextlib.suppress(LostFrameError):
            if self._along_packets:
                self._session.errors = []
                self._session.flush()
                if self._first is not None and indices[0] == 0:
                    yield 0, self._convert(self._first)
                    indices = indices[1:]
                yield from self._read_along_packets(indices)
                return
            self._session.reopen()
            for index, frame in read_in_order(self._session, indices):
                if not self._counted and (self._session.errors or frame.is_corrupt):
                    return
                yield index, self._convert(frame)

    def _convert(self, frame: VideoFrame) -> Frame:
        return to_rgb(frame, self.orientation)

    def _read_along_packets(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Decode in the background where that pays, on as many cores as have something to do."""
        codec = self._session.stream.codec_context
        num_pixels = codec.width * codec.height
        apart = self._table.plan(indices, apart=True)
        lengths = [run.last - run.first + 1 for run in apart]
        if self._cores == 1 or sum(lengths) * num_pixels < _SHARED_PIXELS:
            frames = read_along_packets(self._session, self._table, indices)
            return ((index, self._convert(frame)) for index, frame in frames)
        if max(lengths) > _LARGEST_SHARE * sum(lengths) or not self._session.media.can_be_shared:
            return read_ahead(self._session, self._table, self._table.plan(indices), self._convert)
        openers = [self._open_session(number) for number in range(min(self._cores, len(apart)))]
        return read_side_by_side(openers, self._table, apart, self._convert, _AHEAD_BYTES // (3 * num_pixels))

    def _open_session(self, number: int) -> Callable[[], Session]:
        """Give what opens the session of a core, the first of which has that of the clip."""

        def open_session() -> Session:
            if number == 0:
                return self._session
            if number not in self._helpers:
                try:
                    self._helpers[number] = self._session.open_again()
                except VideoDecodeError as error:  # too many open files, say
                    self._cores = 1
                    raise LostFrameError from error
            helper = self._helpers[number]
            helper.errors = []
            helper.flush()
            return helper

        return open_session

    def _stop(self) -> None:
        """End the reading under way, so that no other core is at it."""
        if self._current is not None:
            self._current.close()
        self._current = None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._stop()
            self._is_closed = True
            self._kept = self._first = None
            for session in (self._session, *self._helpers.values()):
                session.close()


def _closed(index: int) -> Frame:
    raise ValueError("The reader is closed. Open the video again.")
