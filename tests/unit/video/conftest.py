"""Videos that carry their frame number: 14 black or white blocks in the top rows, block b is bit b."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from kinoclip.video import _clip

WIDTH, HEIGHT = 112, 64


def paint_frame(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw a frame (H, W, 3): the number above, a gradient that tells left from right and top from bottom below."""
    frame = np.zeros((height, width, 3), np.uint8)
    frame[..., 0] = np.linspace(0, 200, width)[None]
    frame[..., 1] = np.linspace(0, 200, height)[:, None]
    block = width // 14
    for bit in range(14):
        frame[: height // 4, bit * block : (bit + 1) * block] = 255 * (number >> bit & 1)
    return frame


def read_number(frame: torch.Tensor, block: float | None = None) -> int:
    """Read the number of a frame (3, H, W)."""
    block = block or frame.shape[-1] // 14
    rows = frame[:, 1 : max(2, frame.shape[-2] // 8)].float().mean((0, 1))
    return sum(int(rows[int(bit * block + block / 2)] > 127) << bit for bit in range(14))


def encode(
    path: Path,
    numbers: Sequence[int],
    *,
    codec: str = "libx264",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rate: int = 25,
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    options: dict[str, str] | None = None,
    stamps: Sequence[int] | None = None,
    matrix: Sequence[int] | None = None,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
    interlaced: bool = False,
) -> Path:
    """Write one frame per number; `stamps` are presentation times in 1/1000 s."""
    with av.open(str(path), "w", options=container_options or {}, format=container_format) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.gop_size = gop
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(paint_frame(number, *size), format="rgb24")
            frame.pts = place if stamps is None else stamps[place]
            frame.time_base = Fraction(1, rate) if stamps is None else Fraction(1, 1000)
            container.mux(stream.encode(frame.reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def make_video(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Encode a video in a folder of its own: `make_video("name.mp4", range(50), ...)`."""

    def make(name: str, numbers: Sequence[int], **kwargs: Any) -> Path:
        return encode(tmp_path_factory.mktemp("video") / name, numbers, **kwargs)

    return make


@pytest.fixture(scope="session")
def h264(make_video: Callable[..., Path]) -> Path:
    """50 frames of 112 x 64 at 25 per second, groups of 12, with B-frames."""
    return make_video("h264.mp4", range(50))


@pytest.fixture(params=["counted", "along_packets", "side_by_side"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a test as videos are read that are decoded whole on opening, and as others are on one core and on several."""
    look = _clip.FileClip._inspect
    if request.param == "counted":
        monkeypatch.setattr(_clip.FileClip, "_inspect", lambda clip, exact: look(clip, True))
    else:
        monkeypatch.setattr(_clip, "_KEPT_BYTES", 0)
        monkeypatch.setattr(_clip, "_MIN_PARALLEL_PIXELS", 0)
        monkeypatch.setattr(_clip, "num_cores", lambda threads: 3 if request.param == "side_by_side" else 1)
    return str(request.param)


@pytest.fixture
def paint() -> Callable[..., np.ndarray]:
    """Draw a frame (H, W, 3) that carries a number."""
    return paint_frame


@pytest.fixture
def read_numbers() -> Callable[[Iterable[torch.Tensor]], list[int]]:
    """Read the numbers of frames (3, H, W)."""
    return lambda frames: [read_number(frame) for frame in frames]


@pytest.fixture(scope="session")
def resized_midway(make_video: Callable[..., Path]) -> Path:
    """10 frames of 112 x 64, then 10 of 224 x 128, as a camera that adapts sends them."""
    path = make_video("small.ts", range(10))
    large = make_video("large.ts", range(10, 20), size=(2 * WIDTH, 2 * HEIGHT))
    path.write_bytes(path.read_bytes() + large.read_bytes())
    return path


@pytest.fixture(scope="session")
def two_streams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 112 x 64 and one of 224 x 128 in one file."""
    path = tmp_path_factory.mktemp("video") / "two.mp4"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=25) for _ in range(2)]
        for scale, stream in enumerate(streams, 1):
            stream.width, stream.height, stream.pix_fmt = scale * WIDTH, scale * HEIGHT, "yuv420p"
        for number in range(10):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(paint_frame(number, stream.width, stream.height), format="rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path
