"""Orientation and color conversion of decoded frames."""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame


# one converter for all frames of a thread: `VideoFrame.reformat` prepares one for each frame
_converters = threading.local()

Frame = NDArray[np.uint8]
"""(H, W, 3), RGB."""


@dataclass(frozen=True)
class Orientation:
    """Transformation of a coded frame for display: mirror left and right first, then rotate."""

    rotation: int = 0  # degrees counterclockwise, 0, 90, 180 or 270
    mirrored: bool = False  # as written by selfie cameras

    def apply(self, frame: Frame) -> Frame:
        """Return the frame as displayed."""
        if self.mirrored:
            frame = frame[:, ::-1]
        if self.rotation:
            frame = np.rot90(frame, self.rotation // 90)
        return np.ascontiguousarray(frame)


# By the signs of a, b, c, d. The second half are transpositions: a mirror image, rotated by 90 degrees.
_ORIENTATIONS = {
    (1, 0, 0, 1): Orientation(0),
    (-1, 0, 0, -1): Orientation(180),
    (-1, 0, 0, 1): Orientation(0, mirrored=True),
    (1, 0, 0, -1): Orientation(180, mirrored=True),
    (0, -1, 1, 0): Orientation(90),
    (0, 1, -1, 0): Orientation(270),
    (0, 1, 1, 0): Orientation(90, mirrored=True),
    (0, -1, -1, 0): Orientation(270, mirrored=True),
}


def read_orientation(frame: VideoFrame) -> Orientation:
    """Read the display matrix of a frame; angles that are not multiples of 90 degrees are ignored.

    The matrix is a b u, c d v, x y w: column p, row q -> a*p + c*q, b*p + d*q.
    """
    from av.sidedata.sidedata import Type

    side_data = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if side_data is None or len(bytes(side_data)) < 36:
        return Orientation()
    matrix = struct.unpack("=9i", bytes(side_data)[:36])
    a, b, c, d = ((value > 0) - (value < 0) for value in (matrix[0], matrix[1], matrix[3], matrix[4]))
    return _ORIENTATIONS.get((a, b, c, d), Orientation())


def to_rgb(frame: VideoFrame, orientation: Orientation) -> Frame:
    """Convert a decoded frame to RGB as displayed, with its declared color matrix and range.

    The pixel aspect ratio is ignored, as in every official reader.
    """
    if not hasattr(_converters, "own"):
        from av.video.reformatter import VideoReformatter

        _converters.own = VideoReformatter()
    converted = _converters.own.reformat(frame, format="rgb24", threads=1)
    return orientation.apply(cast("Frame", converted.to_ndarray()))
