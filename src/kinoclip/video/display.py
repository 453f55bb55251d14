"""Turn decoded frames the way they are meant to be shown, and into RGB."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoFrame


Frame = NDArray[np.uint8]
"""(H, W, 3), RGB."""


@dataclass(frozen=True)
class Orientation:
    """How a coded frame is shown: mirrored left and right first, then turned.

    Args:
        rotation: degrees counterclockwise, 0, 90, 180 or 270.
        mirrored: selfie cameras write this.
    """

    rotation: int = 0
    mirrored: bool = False

    def apply(self, frame: Frame) -> Frame:
        """Turn a frame."""
        if self.mirrored:
            frame = frame[:, ::-1]
        if self.rotation:
            frame = np.rot90(frame, self.rotation // 90)
        return np.ascontiguousarray(frame)


def read_orientation(frame: VideoFrame) -> Orientation:
    """Read the display matrix of a frame; an angle that is no multiple of 90 degrees is ignored."""
    from av.sidedata.sidedata import Type

    side_data = frame.side_data.get(Type.DISPLAYMATRIX)  # type: ignore[call-overload]
    if side_data is None or len(bytes(side_data)) < 36:
        return Orientation()
    return orientation_of(struct.unpack("=9i", bytes(side_data)[:36]))


def orientation_of(matrix: tuple[int, ...]) -> Orientation:
    """Read a display matrix a b u, c d v, x y w, which takes column p and row q to a*p + c*q and b*p + d*q."""
    a, b, c, d = ((value > 0) - (value < 0) for value in (matrix[0], matrix[1], matrix[3], matrix[4]))
    return _ORIENTATIONS.get((a, b, c, d), Orientation())


# Signs of a, b, c, d. The second half is a transposition, which is a mirror image turned by 90 degrees.
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


def to_rgb(frame: VideoFrame, orientation: Orientation) -> Frame:
    """Convert a decoded frame to RGB as shown, with the color matrix and range that it declares.

    The aspect ratio of its pixels is ignored, as in every official reader.
    """
    return orientation.apply(cast("Frame", frame.to_ndarray(format="rgb24", threads=1)))
