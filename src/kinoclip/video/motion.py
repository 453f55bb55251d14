"""MGSampler: An Explainable Sampling Strategy for Video Action Recognition.

Yuan Zhi, Zhan Tong, Limin Wang, Gangshan Wu; ICCV 2021; https://arxiv.org/abs/2104.09952.

Frames are sampled so that each represents the same share of the motion of a video. The motion curve measures the difference of each frame
from the next one, `N - 1` values for N frames; frames are taken at equidistant values of its cumulative sum.

Differences from the official code
- Any number of frames T; the code supports 16.
- A video without any motion, or of one frame, is sampled at its segment centers; the code then repeats the first frame, or fails.
- Frames count from 0 (the code counts from 1). As there, the earlier frame of a pair is taken, so the last frame never is.
- Pixel differences of small frames are the default curve; the official script for Kinetics uses `ssim_distance` of full-size frames.
- Two curves are ours: what the encoder spent on a frame, and the length of its motion vectors. They need no pixels.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kinoclip.storage import hash_file, hash_json, readable_by, write_bytes
from kinoclip.video.transforms import resize_frames, to_grayscale

if TYPE_CHECKING:
    from kinoclip.video.reader import VideoReader
    from kinoclip.video.sources import VideoSource

logger = logging.getLogger(__name__)

Distance = Callable[[Tensor, Tensor], Tensor]
"""`distance(earlier, later)`: difference of two frames (3, H, W) uint8, a scalar of at least 0."""

# Preserves motion of a few pixels and removes film grain.
_SHORT_SIDE = 64


def pixel_distance(earlier: Tensor, later: Tensor) -> Tensor:
    """Sum the absolute differences of two frames (3, H, W) over pixels and channels."""
    return (later.float() - earlier.float()).abs().sum(dtype=torch.float64)


def ssim_distance(earlier: Tensor, later: Tensor) -> Tensor:
    """Return one minus the structural similarity of two frames (3, H, W) uint8 of at least 7 x 7 pixels, as gray images.

    Source: official script of MGSampler for Kinetics: windows of 7 x 7 of equal weight, sample covariance, constants of
    Wang et al. 2004 for values from 0 to 255.
    """
    x, y = (to_grayscale(frame)[:1].double() for frame in (earlier, later))
    mean = partial(functional.avg_pool2d, kernel_size=7, stride=1)
    unbiased = 49 / 48
    mean_x, mean_y = mean(x), mean(y)
    variance = unbiased * (mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2)
    covariance = unbiased * (mean(x * y) - mean_x * mean_y)
    small_mean, small_variance = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_x * mean_y + small_mean) / (mean_x**2 + mean_y**2 + small_mean)
    similarity = luminance * (2 * covariance + small_variance) / (variance + small_variance)
    return (1 - similarity.mean()).clamp(min=0)  # rounding can put equal frames below 0


def feature_distance(weight: Tensor, bias: Tensor | None = None) -> Distance:
    """Return the distance of two frames in the features of a convolution, as in PAN's motion cue.

    Args:
        weight: (D, 3, h, w) with odd sides, for the channel order and range of the frames. PAN's own weights are for BGR from 0 to 255:
            flip them along axis 1.
        bias: (D,).

    Returns:
        The distance: the L2 norm over D at each pixel, summed over pixels.

    Source: official script of MGSampler for feature differences; PAN's `PA` module, whose pairwise distance adds 1e-6 to each difference.
    """
    height, width = weight.shape[-2:]

    @torch.no_grad()
    def distance(earlier: Tensor, later: Tensor) -> Tensor:
        pair = torch.stack([earlier, later]).to(weight.dtype)
        maps = functional.conv2d(pair, weight, bias, padding=(height // 2, width // 2))
        norms: Tensor = torch.linalg.vector_norm(maps[0] - maps[1] + 1e-6, dim=0)
        return norms.sum(dtype=torch.float64)

    return distance


def encoder_curve(cues: Sequence[tuple[str, float]]) -> NDArray[np.float64]:
    """Compute a motion curve from what the encoder wrote of each frame.

    Values of P and of B frames are divided by the median of their type, since encoders spend less on B frames and predict them from
    nearer ones. Frames without prediction tell no motion; they get values between those of their neighbors.

    Args:
        cues: of `VideoReader.motion_cues`, N of them.

    Returns:
        (max(N - 1, 0),), as `motion_curve`.
    """
    types = np.array([kind for kind, _ in cues])
    values = np.array([value for _, value in cues], dtype=np.float64)
    values[types == "I"] = np.nan
    for kind in set(types.tolist()):
        own = (types == kind) & (values > 0)
        if own.any():
            values[types == kind] /= np.median(values[own])
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(max(len(values) - 1, 0))
    numbers = np.arange(len(values))
    return np.interp(numbers, numbers[known], values[known])[1:]


def motion_curve(frames: Iterable[Tensor], distance: Distance = pixel_distance) -> NDArray[np.float64]:
    """Compute the difference of each frame from the next one; two frames are held at a time.

    Args:
        frames: N of (3, H, W), of equal size.
        distance: `pixel_distance`, `ssim_distance`, `feature_distance(weight, bias)` or your own. Its scale does not matter.

    Returns:
        (max(N - 1, 0),), neither smoothed nor summed.
    """
    curve = []
    earlier: Tensor | None = None
    for later in frames:
        if earlier is not None:
            curve.append(float(distance(earlier, later)))
        earlier = later
    return np.array(curve, dtype=np.float64)


def measure_motion(reader: VideoReader, distance: Distance = pixel_distance) -> NDArray[np.float64]:
    """Compute the motion curve of a video on small copies of its frames.

    All frames are decoded, which takes most of the time of sampling by motion in a long video. Memory does not grow with the video.

    Returns:
        (num_frames - 1,), with the number of frames after reading; damage can lower it.
    """
    short_side = min(_SHORT_SIDE, reader.height, reader.width)
    frames = (resize_frames(frame[None], short_side)[0] for frame in reader.iterate())
    return motion_curve(frames, distance)[: reader.num_frames - 1]


CURVES: dict[str, Callable[[VideoReader], NDArray[np.float64]]] = {
    "pixels": measure_motion,
    "ssim": partial(measure_motion, distance=ssim_distance),
    "packets": lambda reader: encoder_curve(reader.motion_cues("packets")),
    "vectors": lambda reader: encoder_curve(reader.motion_cues("vectors")),
}


def load_curve(
    source: VideoSource, reader: VideoReader, motion: str, weights: Sequence[Any] | None = None
) -> NDArray[np.float64]:
    """Compute the motion curve of a video, or read it if it was computed before.

    Curves are kept by the content of the file and the kind of curve, in `HF_HOME/kinoclip/motion`. Sources other than files, bytes
    and folders of frames are measured each time, and so are packets, which take no time.

    Args:
        source: that the reader has opened.
        reader: of the video.
        motion: a row of `CURVES`, or "features".
        weights: (D, 3, h, w) of the convolution for "features", see `feature_distance`.

    Raises:
        VideoDecodeError: the curve cannot be had of this source.
    """
    from huggingface_hub import constants

    measure = CURVES.get(motion) or partial(measure_motion, distance=feature_distance(torch.tensor(weights)))
    if motion == "packets" or not isinstance(source, bytes | str | os.PathLike) or "://" in str(source)[:10]:
        return measure(reader)
    content = sha256(source).hexdigest() if isinstance(source, bytes) else hash_file(Path(source))
    key = hash_json([content, motion, weights])
    path = Path(constants.HF_HOME) / "kinoclip" / "motion" / key[:2] / f"{key[2:42]}.npy"
    with suppress(OSError, ValueError):
        stored: NDArray[np.float64] = np.load(path, allow_pickle=False)
        if stored.shape == (reader.num_frames - 1,) and stored.dtype == np.float64:  # damage may have lowered it
            return stored
    curve = measure(reader)
    file = BytesIO()
    np.save(file, curve)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, file.getvalue(), owns=readable_by(np.load), shared=True)
    except OSError as error:
        logger.warning("The motion curve of %s is not kept: %s", reader.name, error)
    return curve
