"""`VideoReader`: exact frames by index or time, from any source."""

from __future__ import annotations

import operator
import weakref
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from kinoclip.video._clip import FileClip, FrameCountChangedError, MotionCue, OnDamage, ReadOptions
from kinoclip.video.display import Frame
from kinoclip.video.errors import VideoDecodeError, decoding, is_out_of_memory
from kinoclip.video.sources import VideoSource, open_source
from kinoclip.video.transforms import resize_to

Transform = Callable[[Tensor], Tensor]

# Time stamps are rational; sums of decimals deviate from them by less than this.
_TOLERANCE_SECONDS = 1e-6


class VideoReader:
    """Frames of a video by index or time, in display order, with rotation applied.

    Index i is the i-th displayed frame, also at a variable frame rate. The number of frames is the number that decodes, not that of a
    header: it is counted from the packets, and by decoding if packets are not frames or the file looks damaged.
    Non-square pixels are not stretched and interlaced frames not separated, as in every official reader.

    Args:
        source: a path; an http or https address; an address that fsspec opens, such as s3:// or hf:// (see `is_address`), of which
            mp4 and mov files are read in part; bytes; a binary file, read from its beginning; frames as an array or tensor
            (T, H, W, 3) or (T, 3, H, W) (channels last if both axes have 3), uint8 or float from 0 to 1; a list of images; a folder of
            image files in natural order, with EXIF orientation applied; a dict with `bytes` or `path`, as `datasets.Video` stores it;
            a `VideoDecoder` of torchcodec.
        stream: number of the video stream of a file, without attached pictures; None takes the one with the largest frames.
        on_damage: "keep" returns the frames that decode and describes the damage in `damage`; "raise" raises.
        max_pixels: maximum number of pixels per frame.
        threads: cores for decoding; 0 for all, None for the threads of torch (1 in a worker of a data loader). The frames do not
            depend on it; those of a damaged video are reproducible for the same number.
        fps: frames per second of sources without time stamps: arrays, images, raw streams.
        exact: decode everything once when opening, so that damage cannot lower `num_frames` later.
        allow_local: allow addresses in this machine's network.
        max_bytes: maximum size of a download.
        timeout_seconds: maximum duration of a download.

    Raises:
        FileNotFoundError: the file does not exist.
        TypeError: the source has an unsupported type.
        VideoRefusedError: not a video: an image, text, playlist, archive or pipe.
        VideoDecodeError: the video cannot be read.
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
            raise ValueError(f"on_damage must be 'keep' or 'raise', got {on_damage!r}.")
        if fps is not None and not 0 < fps < float("inf"):
            raise ValueError(f"fps must be positive, got {fps}.")
        if threads is not None and threads < 0:
            raise ValueError(f"threads must be at least 0 (one per core), got {threads}.")
        options = ReadOptions(
            stream, on_damage, max_pixels, threads, fps, exact, allow_local, max_bytes, timeout_seconds
        )
        self._clip = open_source(source, options)
        self.name = self._clip.name
        # Closes files and deletes a download when the reader is garbage collected, at the latest when Python ends.
        self._finalizer = weakref.finalize(self, self._clip.close)

    @property
    def num_frames(self) -> int:
        """Number of frames; damage found later can lower it, see `exact`."""
        return self._clip.num_frames

    @property
    def width(self) -> int:
        """Pixels of the first frame, as displayed."""
        return self._clip.width

    @property
    def height(self) -> int:
        """Pixels of the first frame, as displayed."""
        return self._clip.height

    @property
    def rotation(self) -> int:
        """Rotation of coded frames in degrees counterclockwise: 0, 90, 180 or 270."""
        return self._clip.orientation.rotation

    @property
    def mirrored(self) -> bool:
        """Whether coded frames are mirrored left and right before the rotation."""
        return self._clip.orientation.mirrored

    @property
    def fps(self) -> float | None:
        """Average frames per second; None without time stamps."""
        return self._clip.fps

    @property
    def duration_seconds(self) -> float | None:
        """Duration from the start of the first frame to the end of the last one; None without time stamps."""
        stamps, fps = self._clip.stamps, self._clip.fps
        return stamps[-1] + 1 / fps if stamps and fps else None

    @property
    def damage(self) -> str | None:
        """Description of the damage found so far, or None."""
        return self._clip.damage

    def frames(
        self, indices: Sequence[int], transform: Transform | None = None, *, channels_last: bool = False
    ) -> Tensor:
        """Return frames at the given indices, in any order, with duplicates.

        If damage lowers `num_frames` during the read, the frames at the same relative positions are returned.

        Args:
            indices: from 0 to `num_frames - 1`.
            transform: applied to each frame (3, H, W) uint8 after decoding, so that full-size frames are not held. It must
                return the same shape for all. By default frames of another size than the first are resized.
            channels_last: store frames in channels-last memory, as they are decoded and as resizing reads them. It is faster, and
                `permute(0, 2, 3, 1)` is then contiguous.

        Returns:
            (N, 3, H, W) uint8, or N results of `transform`.

        Raises:
            ValueError: an index is out of range, or `transform` returns different shapes.
            VideoDecodeError: damage, with `on_damage="raise"`; or too little memory.
        """
        requested = self._check(indices)
        before = self.num_frames
        try:
            try:
                return self._collect(requested, transform, channels_last)
            except FrameCountChangedError:
                return self._collect(self._rescale(requested, before), transform, channels_last)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise VideoDecodeError(
                f"{self.name}: too little memory for {len(requested)} frames of {self.width} x {self.height}. "
                "Request fewer, or pass a smaller max_pixels."
            ) from error

    def iterate(self, indices: Sequence[int] | None = None) -> Iterator[Tensor]:
        """Yield frames one at a time; an index below the previous one starts the video again.

        Args:
            indices: in order of the results; None for all frames.

        Yields:
            (3, H, W) uint8, of the size of the first frame.

        Raises:
            ValueError: an index is out of range.
            VideoDecodeError: damage, with `on_damage="raise"`.
        """
        return self._iterate(self._check(range(self.num_frames) if indices is None else indices))

    def _iterate(self, requested: list[int]) -> Iterator[Tensor]:
        done = 0
        while done < len(requested):
            stop = done + 1
            while stop < len(requested) and requested[stop] > requested[stop - 1]:
                stop += 1
            before = self.num_frames
            try:
                for _, frame in self._clip.read(requested[done:stop]):
                    done += 1
                    yield self._fit(_as_tensor(frame))
            except FrameCountChangedError:
                is_all = requested == list(range(before))
                requested = list(range(self.num_frames)) if is_all else self._rescale(requested, before)

    def _collect(self, requested: list[int], transform: Transform | None, channels_last: bool) -> Tensor:
        positions: dict[int, list[int]] = {}
        for position, index in enumerate(requested):
            positions.setdefault(index, []).append(position)
        out: Tensor | None = None
        for index, frame in self._clip.read(sorted(positions)):
            tensor = _as_tensor(frame)
            tensor = self._fit(tensor) if transform is None else transform(tensor)
            if out is None:
                out = _empty((len(requested), *tensor.shape), tensor, channels_last and tensor.ndim == 3)
            elif tensor.shape != out.shape[1:]:
                raise ValueError(
                    f"{self.name}: transform must return one shape, got {tuple(tensor.shape)} for frame {index} and "
                    f"{tuple(out.shape[1:])} for another. The size of frames can change within a video."
                )
            for position in positions[index]:
                _put(out, position, tensor)
        return out if out is not None else torch.empty((0, 3, self.height, self.width), dtype=torch.uint8)

    def timestamps(self, indices: Sequence[int]) -> list[float]:
        """Return the times at which frames are displayed, in seconds after the first frame.

        They do not depend on sound or on the start time of the stream. Without usable time stamps they follow from the frame rate.

        Raises:
            ValueError: the source has no time stamps, or an index is out of range.
        """
        stamps = self._stamps()
        return [stamps[index] for index in self._check(indices)]

    def indices_at(self, seconds: Sequence[float]) -> list[int]:
        """Return the frames displayed at the given times, from 0 to `duration_seconds`.

        Raises:
            ValueError: the source has no time stamps, or a time is out of range.
        """
        stamps = self._stamps()
        for time in seconds:
            if not 0 <= time <= (self.duration_seconds or 0) + _TOLERANCE_SECONDS:
                raise ValueError(f"{self.name}: {time} s is out of range for a video of {self.duration_seconds} s.")
        return [bisect_right(stamps, time + _TOLERANCE_SECONDS) - 1 for time in seconds]

    def indices_between(self, start_seconds: float, end_seconds: float) -> list[int]:
        """Return the frames whose display starts in [`start_seconds`, `end_seconds`); possibly none at a low frame rate.

        Raises:
            ValueError: the source has no time stamps, the range is empty, or its start is out of range. Its end may be.
        """
        stamps = self._stamps()
        if not start_seconds < end_seconds:
            raise ValueError(
                f"{self.name}: start_seconds must be less than end_seconds, got {start_seconds} and {end_seconds}."
            )
        if not 0 <= start_seconds < (self.duration_seconds or 0):
            raise ValueError(
                f"{self.name}: start_seconds={start_seconds} is out of range for a video of {self.duration_seconds} s."
            )
        first = bisect_left(stamps, start_seconds - _TOLERANCE_SECONDS)
        return list(range(first, bisect_left(stamps, end_seconds - _TOLERANCE_SECONDS)))

    def decoding_costs(self) -> list[int]:
        """Return how many coded frames must be decoded for each frame alone, in display order, without decoding; 1 for pictures."""
        if isinstance(self._clip, FileClip):
            return self._clip.decoding_costs()
        return [1] * self.num_frames

    def motion_cues(self, cue: MotionCue) -> list[tuple[str, float]]:
        """Return what the encoder wrote about the motion of each frame, in display order.

        Args:
            cue: "packets" for the size of each frame in bytes above the smallest of its type, without decoding; "vectors" for the mean length of its motion vectors in
                pixels, which is decoded without pixels (H.264 and MPEG). A frame without vectors has NaN.

        Returns:
            Picture type (such as I, P or B) and cue of each frame.

        Raises:
            VideoDecodeError: the source has no such cue.
        """
        if not isinstance(self._clip, FileClip):
            raise VideoDecodeError(
                f'{self.name}: no codec wrote its frames. Measure its motion in pixels, with motion="pixels".'
            )
        return self._clip.motion_cues(cue)

    def close(self) -> None:
        """Close the source and delete a download."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.num_frames

    def __repr__(self) -> str:
        return f"VideoReader({self.name!r}, {self.num_frames} frames of {self.width} x {self.height})"

    def _check(self, indices: Sequence[int]) -> list[int]:
        if not self._finalizer.alive:
            raise ValueError(f"{self.name}: the reader is closed. Open the video again.")
        requested = [operator.index(index) for index in indices]
        wrong = next((index for index in requested if not 0 <= index < self.num_frames), None)
        if wrong is not None:
            raise ValueError(
                f"{self.name}: frame {wrong} is out of range for a video of {self.num_frames} frames (0 to {self.num_frames - 1})."
            )
        return requested

    def _rescale(self, requested: list[int], before: int) -> list[int]:
        return [index * self.num_frames // before for index in requested]

    def _fit(self, frame: Tensor) -> Tensor:
        if frame.shape[1:] == (self.height, self.width):
            return frame
        with decoding(self.name):
            return resize_to(frame[None], self.height, self.width)[0]

    def _stamps(self) -> list[float]:
        if self._clip.stamps is None:
            raise ValueError(
                f"{self.name}: the source has no time stamps. Pass fps= to VideoReader, or choose frames by index."
            )
        return self._clip.stamps


def _empty(shape: tuple[int, ...], like: Tensor, channels_last: bool) -> Tensor:
    """Allocate memory; for uint8 with numpy, which requests large pages from Linux that are faster to fill."""
    if channels_last:
        return _empty((shape[0], *shape[2:], shape[1]), like, False).permute(0, 3, 1, 2)
    if like.dtype == torch.uint8 and like.device.type == "cpu":
        return torch.from_numpy(np.empty(shape, np.uint8))
    return torch.empty(shape, dtype=like.dtype, device=like.device)


def _put(out: Tensor, position: int, tensor: Tensor) -> None:
    if out.dtype == torch.uint8 and out.device.type == "cpu":
        # With numpy, because torch would use its threads for this small copy.
        out.numpy()[position] = tensor.numpy()
    else:
        out[position].copy_(tensor)


def _as_tensor(frame: Frame) -> Tensor:
    """Return a view (3, H, W) of a frame (H, W, 3), channels-last in memory."""
    return torch.from_numpy(frame).permute(2, 0, 1)
