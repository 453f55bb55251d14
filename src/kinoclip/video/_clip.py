"""The two kinds of clip behind `VideoReader`: a file that FFmpeg decodes, and in-memory or image-folder frames."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from kinoclip.video._packets import (
    Count,
    Cursor,
    LostFrameError,
    count_by_decoding,
    first_frame,
    read_in_order,
    read_run,
    read_table,
)
from kinoclip.video._parallel_decode import read_ahead, read_in_parallel
from kinoclip.video._session import Media, Session
from kinoclip.video.display import Frame, Orientation, read_orientation, to_rgb
from kinoclip.video.errors import VideoDecodeError, decoding
from kinoclip.video.limits import check_time, num_cores

if TYPE_CHECKING:
    from av import VideoFrame

logger = logging.getLogger(__name__)

OnDamage = Literal["keep", "raise"]
MotionCue = Literal["packets", "vectors"]

# Frames decoded for counting are kept up to this size, so that a short clip is not decoded twice.
_KEPT_BYTES = 48_000_000
# Fewer pixels (of all frames to decode) are decoded before another thread has started.
_MIN_PARALLEL_PIXELS = 500_000
# A group of pictures with a larger share of the frames leaves no work for another core.
_MAX_GROUP_SHARE = 0.75
# Memory of frames that are decoded in advance.
_AHEAD_BYTES = 100_000_000


class FrameCountChangedError(Exception):
    """Decoding found damage that lowers the number of frames."""


@dataclass(frozen=True)
class ReadOptions:
    """Arguments of `VideoReader`."""

    stream: int | None
    on_damage: OnDamage
    max_pixels: int
    threads: int | None
    fps: float | None
    exact: bool
    allow_local: bool
    max_bytes: int
    timeout_seconds: float


class PictureClip:
    """Single frames.

    Args:
        name: in messages.
        num_frames: number of frames.
        load: returns one frame (H, W, 3).
        fps: frames per second; None if unknown.
    """

    orientation = Orientation()
    damage: str | None = None

    def __init__(self, name: str, num_frames: int, load: Callable[[int], Frame], fps: float | None):
        if num_frames < 1:
            raise VideoDecodeError(f"{name}: a video needs at least one frame, got none.")
        self.name = name
        self.num_frames = num_frames
        self.fps = fps
        self.stamps = [i / fps for i in range(num_frames)] if fps else None
        self._load = load
        self.height, self.width = load(0).shape[:2]

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Yield frames (H, W, 3) of ascending indices."""
        for index in indices:
            check_time(self.name)
            yield index, self._load(index)

    def close(self) -> None:
        """Release the frames."""
        self._load = _closed


class FileClip:
    """The video stream of a file: read by its packets where they are reliable, otherwise by counting decoded frames.

    `num_frames` is exact if it was counted by decoding: with `exact=True`, and for containers and codecs whose packets are not frames.
    Otherwise it is the number of packets, and damage found later lowers it.

    Attributes:
        temporary: a file to delete on closing.
    """

    def __init__(self, media: Media, options: ReadOptions):
        self.name = media.name
        self.damage: str | None = None
        self.temporary: Path | None = None
        self._options = options
        with decoding(self.name):
            self._session = Session(media, options.stream, options.max_pixels)
        self._sessions: dict[int, Session] = {}
        self._cores = num_cores(options.threads)
        self._is_closed = False
        self._cached: list[VideoFrame] | None = None
        self._first: VideoFrame | None = None
        self._begun: Cursor | None = None  # where decoding can go on behind the first frame
        self._current: Generator[tuple[int, Frame]] | None = None
        self._lock = threading.RLock()
        try:
            with decoding(self.name):
                self._inspect(options.exact)
        except BaseException:
            self.close()
            raise

    def _inspect(self, exact: bool) -> None:
        """Determine the number of frames, their size, and how to read them."""
        self._table = read_table(self._session)
        self.num_frames = len(self._table.packets)
        first = begun = None
        if self._table.is_countable and not exact:
            first, begun = first_frame(self._session, self._table)
        if first is None or self._session.errors:
            self._count()
            return
        self._by_packets = self._table.is_seekable
        self._counted = False
        if self._by_packets and first.pts == self._table.display_stamps[0] and not first.is_corrupt:
            self._first, self._begun = first, begun
        self._set_shape(first.height, first.width, read_orientation(first))
        stamps: Sequence[int | None] = [packet.pts for packet in self._table.packets]
        self._set_stamps(sorted(stamps) if None not in stamps else stamps)  # type: ignore[type-var]

    def _count(self) -> None:
        """Count the frames by decoding all of them."""
        self._session.restart()
        count = count_by_decoding(self._session, _KEPT_BYTES)
        if count.num_frames == 0:
            raise VideoDecodeError(self._explain_nothing(count))
        self.damage = self._describe_damage(count)
        if self.damage:
            if self._options.on_damage == "raise":
                raise VideoDecodeError(
                    f"{self.name}: the video is damaged: {self.damage}. Re-encode it, or pass on_damage='keep'."
                )
            logger.warning("%s: the video is damaged: %s.", self.name, self.damage)
        self._counted = True
        self._cached = count.frames
        self.num_frames = count.num_frames
        is_as_declared = not self.damage and count.stamps == self._table.display_stamps
        self._by_packets = is_as_declared and self._table.is_seekable
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
        is_rotated = orientation.rotation in (90, 270)
        self.height, self.width = (width, height) if is_rotated else (height, width)

    def _set_stamps(self, stamps: Sequence[int | None]) -> None:
        """Store times in seconds after the first frame; without ascending time stamps, derive them from the frame rate."""
        base = self._session.stream.time_base
        known = [stamp for stamp in stamps if stamp is not None]
        self.stamps = None
        if base and len(known) == len(stamps) and all(a < b for a, b in pairwise(known)):
            self.stamps = [(stamp - known[0]) * base.numerator / base.denominator for stamp in known]
        self.fps = self._measure_fps()
        if self.stamps is None and self.fps:
            self.stamps = [i / self.fps for i in range(self.num_frames)]

    def _measure_fps(self) -> float | None:
        """Return the declared frame rate, unless the time stamps differ from it by more than 5 percent."""
        stream = self._session.stream
        rate: Fraction | None = stream.average_rate or stream.guessed_rate
        declared = float(rate) if rate else None
        if self.stamps is None:
            return self._options.fps or declared
        if len(self.stamps) < 2:
            return declared or self._options.fps
        measured = (len(self.stamps) - 1) / self.stamps[-1]
        if declared and abs(declared - measured) <= 0.05 * measured:
            return declared
        return measured

    def decoding_costs(self) -> list[int]:
        """Return the number of packets to decode for each frame, see `VideoReader.decoding_costs`."""
        return self._table.decoding_costs() if self._by_packets else list(range(1, self.num_frames + 1))

    def motion_cues(self, cue: MotionCue) -> list[tuple[str, float]]:
        """Return picture type and cue of each frame, see `VideoReader.motion_cues`."""
        from av.video.frame import PictureType

        if cue == "packets" and self._by_packets:
            return self._table.sizes()
        cues: list[tuple[str, float]] = []
        if cue == "vectors" and self._session.media.can_be_shared:
            # the loop filter changes pixels only
            options = {"flags2": "+export_mvs", "skip_loop_filter": "all"}
            with decoding(self.name), contextlib.closing(self._session.open_again(**options)) as session:
                cues = [(PictureType(frame.pict_type).name, _mean_vector(frame)) for frame in session.frames()]
        if len(cues) != self.num_frames or all(math.isnan(length) for _, length in cues):
            known = "its packets are not its frames" if cue == "packets" else "its decoder exports no motion vectors"
            raise VideoDecodeError(f'{self.name}: {known}. Measure its motion in pixels, with motion="pixels".')
        return cues

    def read(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Yield displayed frames (H, W, 3) of ascending indices without duplicates.

        Raises:
            FrameCountChangedError: there are fewer frames than before; `num_frames` has been corrected.
            VideoDecodeError: damage, with `on_damage="raise"`.
        """
        remaining = list(indices)
        own: Generator[tuple[int, Frame]] | None = None
        while remaining:
            with self._lock:
                # Another read of this clip has moved the file position: start again here.
                if own is None or self._current is not own:
                    self._stop()
                    own, cores = self._attempt(tuple(remaining)), self._cores
                    self._current = own
                with decoding(self.name):
                    index, frame = next(own, (None, None))
                if frame is None or index != remaining[0]:
                    own = None
                    self._stop()
                    if cores == self._cores:  # otherwise try again on one core
                        self._recover()
                    continue
            yield remaining.pop(0), frame

    def _recover(self) -> None:
        """Count by decoding after a frame is missing.

        Raises:
            FrameCountChangedError: see `read`.
        """
        if self._counted and not self._by_packets:
            raise VideoDecodeError(f"{self.name}: the file changed while it was read. Open it again.")
        before = self.num_frames
        with decoding(self.name):
            self._count()
        self._by_packets = False
        if self.num_frames != before:
            raise FrameCountChangedError

    def _attempt(self, indices: Sequence[int]) -> Generator[tuple[int, Frame]]:
        """Yield frames until one is missing or damaged."""
        if self._is_closed:
            raise VideoDecodeError(f"{self.name}: the reader is closed. Open the video again.")
        if self._cached is not None:
            yield from ((index, self._convert(self._cached[index])) for index in indices)
            return
        with contextlib.suppress(LostFrameError):
            if self._by_packets:
                self._session.errors = []
                if self._first is not None and indices[0] == 0:
                    yield 0, self._convert(self._first)
                    indices = indices[1:]
                if indices:
                    yield from self._read_by_packets(indices)
                return
            self._session.restart()
            for index, frame in read_in_order(self._session, indices):
                if not self._counted and (self._session.errors or frame.is_corrupt):
                    return
                yield index, self._convert(frame)

    def _convert(self, frame: VideoFrame) -> Frame:
        return to_rgb(frame, self.orientation)

    def _read_by_packets(self, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
        """Decode in background threads if there is enough work for them."""
        codec = self._session.stream.codec_context
        num_pixels = codec.width * codec.height
        cursor, self._begun = self._begun, None
        if cursor is None:
            self._session.flush()
            cursor = Cursor(self._session, self._table)
        runs = self._table.plan(indices, separate=True)
        lengths = [run.last - run.first + 1 for run in runs]
        if self._cores == 1 or sum(lengths) * num_pixels < _MIN_PARALLEL_PIXELS:
            frames = (each for run in self._table.plan(indices) for each in read_run(cursor, run))
            return ((index, self._convert(frame)) for index, frame in frames)
        if max(lengths) > _MAX_GROUP_SHARE * sum(lengths) or not self._session.media.can_be_shared:
            return read_ahead(cursor, self._table.plan(indices), self._convert)
        openers = [self._open_session(number) for number in range(min(self._cores, len(runs)))]
        return read_in_parallel(openers, self._table, runs, self._convert, _AHEAD_BYTES // (3 * num_pixels))

    def _open_session(self, number: int) -> Callable[[], Session]:
        """Return a function that opens the session of a thread; thread 0 has that of the clip."""

        def open_session() -> Session:
            if number == 0:
                return self._session
            if number not in self._sessions:
                try:
                    self._sessions[number] = self._session.share() or self._session.open_again()
                except VideoDecodeError as error:  # for example, too many open files
                    self._cores = 1
                    raise LostFrameError from error
            session = self._sessions[number]
            session.errors = []
            session.flush()
            return session

        return open_session

    def _stop(self) -> None:
        """End the current read and its threads."""
        if self._current is not None:
            self._current.close()
        self._current = None

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._stop()
            self._is_closed = True
            self._cached = self._first = None
            for session in (self._session, *self._sessions.values()):
                session.close()
        if self.temporary is not None:
            self.temporary.unlink(missing_ok=True)


Clip = PictureClip | FileClip


def _mean_vector(frame: VideoFrame) -> float:
    """Return the mean length of a frame's motion vectors in pixels, weighted by their blocks; NaN without vectors."""
    vectors = frame.side_data.get("MOTION_VECTORS")
    if vectors is None:
        return math.nan
    blocks = vectors.to_ndarray()
    lengths = np.hypot(blocks["motion_x"], blocks["motion_y"]) / np.maximum(blocks["motion_scale"], 1)
    return float(np.average(lengths, weights=blocks["w"].astype(float) * blocks["h"]))


def _closed(index: int) -> Frame:
    raise ValueError("The reader is closed. Open the video again.")
