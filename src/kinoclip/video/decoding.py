"""Read exactly the frames that are wanted, from whatever holds them."""

from __future__ import annotations

import operator
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from kinoclip.video.clips import FrameCountChangedError, OnDamage
from kinoclip.video.display import Frame
from kinoclip.video.sources import ReadOptions, VideoSource, open_source
from kinoclip.video.transforms import resize_to

Transform = Callable[[Tensor], Tensor]

# Time stamps are rational numbers; a caller's sums of decimals miss them by less than this.
_TOLERANCE_SECONDS = 1e-6


class VideoReader:
    """Frames of one video by index or time, in display order, turned as they are meant to be shown.

    Index i is the i-th frame that is displayed, at a constant frame rate or not. The number of frames is what decodes, never what
    a header says: it is found from the packets, and by decoding wherever packets are no frames or anything looks damaged.
    Non-square pixels are not stretched and interlaced frames not separated, as in every official reader.

    Args:
        source: a path; an http or https address; bytes; a binary file, read from its beginning; frames as an array or tensor
            (T, H, W, 3) or (T, 3, H, W), where the last axis decides if both have 3, uint8 or float from 0 to 1; a list of
            images; a folder of image files in natural order, with their EXIF orientation applied.
        stream: which video stream of a file, attached pictures not counted; None takes the one with the largest frames.
        on_damage: "keep" gives the frames that decode, and `damage` says what was lost; "raise" raises.
        max_pixels: the most pixels a frame may have, 64 million unless you say.
        threads: cores to decode on, where that pays; 0 for all, None for as many as torch uses here, which is 1 in a worker of a
            data loader. The frames of a sound video are the same with any number, those of a damaged one each time.
        fps: frames per second of sources without a clock: arrays, images, raw streams.
        exact: decode everything once on opening, so that no damage can lower `num_frames` later.
        allow_local: fetch addresses that lead to this machine or its network.
        max_bytes: the largest download.
        timeout_seconds: the longest download.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: a kind of source that cannot hold a video.
        VideoRefusedError: no video: an image, a text, a playlist, an archive, a pipe.
        VideoDecodeError: a video that cannot be read.
    """

    def __init__(
        self,
        source: VideoSource,
        *,
        stream: int | None = None,
        on_damage: OnDamage = "keep",
        max_pixels: int = 64_000_000,
        threads: int | None = None,
        fps: float | None = None,
        exact: bool = False,
        allow_local: bool = False,
        max_bytes: int = 2_000_000_000,
        timeout_seconds: float = 300.0,
    ):
        if on_damage not in ("keep", "raise"):
            raise ValueError(f"on_damage is {on_damage!r}; choose 'keep' or 'raise'.")
        if fps is not None and not 0 < fps < float("inf"):
            raise ValueError(f"fps is {fps}; frames per second must be a positive number.")
        if threads is not None and threads < 0:
            raise ValueError(f"threads is {threads}; choose a number, or 0 for one per core.")
        options = ReadOptions(
            stream, on_damage, max_pixels, threads, fps, exact, allow_local, max_bytes, timeout_seconds
        )
        opened = open_source(source, options)
        self.name = opened.name
        self._clip = opened.clip
        # Closes files and removes a download when the reader is forgotten, and at the latest when Python ends.
        self._finalizer = weakref.finalize(self, opened.close)

    @property
    def num_frames(self) -> int:
        """How many frames there are; meeting damage can lower it, see `exact`."""
        return self._clip.num_frames

    @property
    def width(self) -> int:
        """Pixels of the first frame, as shown."""
        return self._clip.width

    @property
    def height(self) -> int:
        """Pixels of the first frame, as shown."""
        return self._clip.height

    @property
    def rotation(self) -> int:
        """Degrees counterclockwise by which coded frames are turned: 0, 90, 180 or 270."""
        return self._clip.orientation.rotation

    @property
    def mirrored(self) -> bool:
        """Whether coded frames are mirrored left and right, before they are turned."""
        return self._clip.orientation.mirrored

    @property
    def fps(self) -> float | None:
        """Frames per second, on average; None where the source has no clock."""
        return self._clip.fps

    @property
    def duration_seconds(self) -> float | None:
        """From the first frame's appearance to the last one's end; None where the source has no clock."""
        stamps, fps = self._clip.stamps, self._clip.fps
        return stamps[-1] + 1 / fps if stamps and fps else None

    @property
    def damage(self) -> str | None:
        """What was found damaged so far, and None if nothing."""
        return self._clip.damage

    def frames(self, indices: Sequence[int], transform: Transform | None = None) -> Tensor:
        """Read frames in any order, repeats allowed.

        Where damage that only now is met lowers `num_frames`, the same places of the shorter video are given.

        Args:
            indices: from 0 to `num_frames - 1`.
            transform: done to each frame (3, H, W) uint8 as soon as it is decoded, so that a long video is never held at full
                size. It must give the same shape for each. Without it, frames of another size than the first are resized.

        Returns:
            (N, 3, H, W) uint8, or N of what `transform` gives.

        Raises:
            ValueError: an index is negative or too large, or `transform` gives different shapes.
            VideoDecodeError: damage, with `on_damage="raise"`.
        """
        asked = self._check(indices)
        promised = self.num_frames
        try:
            return self._collect(asked, transform)
        except FrameCountChangedError:
            return self._collect(self._move(asked, promised), transform)

    def iterate(self, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Read frames one at a time and hold none; going back in `indices` starts the video again.

        Args:
            indices: in the order they come out; None gives every frame.

        Yields:
            (3, H, W) uint8, all of the first frame's size.

        Raises:
            ValueError: an index is negative or too large.
            VideoDecodeError: damage, with `on_damage="raise"`.
        """
        asked = self._check(range(self.num_frames) if indices is None else indices)
        return self._iterate(asked)

    def _iterate(self, asked: list[int]) -> Iterator[Tensor]:
        done = 0
        while done < len(asked):
            stop = done + 1
            while stop < len(asked) and asked[stop] > asked[stop - 1]:
                stop += 1
            promised = self.num_frames
            try:
                for _, frame in self._clip.read(asked[done:stop]):
                    done += 1
                    yield self._fit(_as_tensor(frame))
            except FrameCountChangedError:
                if asked == list(range(promised)):
                    asked = list(range(self.num_frames))
                else:
                    asked = self._move(asked, promised)

    def _collect(self, asked: list[int], transform: Transform | None) -> Tensor:
        places: dict[int, list[int]] = {}
        for place, index in enumerate(asked):
            places.setdefault(index, []).append(place)
        out: Tensor | None = None
        for index, frame in self._clip.read(sorted(places)):
            tensor = _as_tensor(frame)
            tensor = self._fit(tensor) if transform is None else transform(tensor)
            if out is None:
                out = _empty((len(asked), *tensor.shape), tensor)
            elif tensor.shape != out.shape[1:]:
                raise ValueError(
                    f"{self.name}: the transform gives {tuple(tensor.shape)} for frame {index} and {tuple(out.shape[1:])} "
                    "for another. Frames can change size inside a video: make the transform give one shape."
                )
            for place in places[index]:
                _put(out, place, tensor)
        return out if out is not None else torch.empty((0, 3, self.height, self.width), dtype=torch.uint8)

    def timestamps(self, indices: Sequence[int]) -> list[float]:
        """Give the seconds at which frames appear, after the appearance of the first frame, which is 0.

        These are presentation times of the stream itself: sound that starts earlier, or a stream that starts at 5 s, does not
        move them. A stream without usable times is counted off at its frame rate.

        Raises:
            ValueError: the source has no clock, or an index is negative or too large.
        """
        stamps = self._stamps()
        return [stamps[index] for index in self._check(indices)]

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """Give the frame that is on the screen at each of these times, from 0 to `duration_seconds`.

        Raises:
            ValueError: the source has no clock, or a time lies outside the video.
        """
        stamps = self._stamps()
        for time in seconds:
            if not 0 <= time <= (self.duration_seconds or 0) + _TOLERANCE_SECONDS:
                raise ValueError(
                    f"{self.name}: asked for {time} s, but the video lasts from 0 to {self.duration_seconds} s."
                )
        return [bisect_right(stamps, time + _TOLERANCE_SECONDS) - 1 for time in seconds]

    def indices_between(self, start_seconds: float, end_seconds: float) -> list[int]:
        """Give the frames that appear from `start_seconds` on and before `end_seconds`; none may, at a low frame rate.

        Raises:
            ValueError: the source has no clock, the range is empty, or it begins outside the video. It may end after it.
        """
        stamps = self._stamps()
        if not start_seconds < end_seconds:
            raise ValueError(
                f"{self.name}: the range from {start_seconds} to {end_seconds} s is empty. Swap its ends?"
            )
        if not 0 <= start_seconds < (self.duration_seconds or 0):
            raise ValueError(
                f"{self.name}: the range begins at {start_seconds} s, but the video lasts from 0 to {self.duration_seconds} s."
            )
        first = bisect_left(stamps, start_seconds - _TOLERANCE_SECONDS)
        return list(range(first, bisect_left(stamps, end_seconds - _TOLERANCE_SECONDS)))

    def close(self) -> None:
        """Close files and remove a download; reading is over then."""
        self._finalizer()

    def __enter__(self) -> Self:
        """Give the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the reader."""
        self.close()

    def __len__(self) -> int:
        """Count the frames."""
        return self.num_frames

    def __repr__(self) -> str:
        """Name the video and its measures."""
        return f"VideoReader({self.name!r}, {self.num_frames} frames of {self.width} x {self.height})"

    def _check(self, indices: Sequence[int]) -> list[int]:
        if not self._finalizer.alive:
            raise ValueError(f"{self.name}: the reader is closed. Open the video again.")
        asked = [operator.index(index) for index in indices]
        wrong = next((index for index in asked if not 0 <= index < self.num_frames), None)
        if wrong is not None:
            raise ValueError(
                f"{self.name}: asked for frame {wrong}, but there are {self.num_frames} frames, 0 to {self.num_frames - 1}."
            )
        return asked

    def _move(self, asked: list[int], promised: int) -> list[int]:
        return [index * self.num_frames // promised for index in asked]

    def _fit(self, frame: Tensor) -> Tensor:
        return resize_to(frame[None], self.height, self.width)[0]

    def _stamps(self) -> list[float]:
        if self._clip.stamps is None:
            raise ValueError(
                f"{self.name}: this source has no clock. Pass fps= to VideoReader, or choose frames by index."
            )
        return self._clip.stamps


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Take memory; for frames from numpy, which asks Linux for large pages: to fill these costs much less."""
    if like.dtype == torch.uint8 and like.device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.uint8))
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _put(out: Tensor, place: int, tensor: Tensor) -> None:
    if out.dtype == torch.uint8 and out.device.type == "cpu":
        # Through numpy, because torch wakes its threads for a copy this small.
        out.numpy()[place] = tensor.numpy()
    else:
        out[place].copy_(tensor)


def _as_tensor(frame: Frame) -> Tensor:
    """Give a view (3, H, W) of a frame (H, W, 3), channels-last in memory."""
    return torch.from_numpy(frame).permute(2, 0, 1)
