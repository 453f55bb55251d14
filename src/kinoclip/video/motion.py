"""MGSampler: An Explainable Sampling Strategy for Video Action Recognition.

Yuan Zhi, Zhan Tong, Limin Wang, Gangshan Wu; ICCV 2021; https://arxiv.org/abs/2104.09952.

Frames are chosen so that each stands for the same share of a video's motion. A motion curve says how much each frame differs
from the next one, `N - 1` numbers for N frames. Its cumulative sum climbs where something moves, and frames are taken at even
heights of it.

Differences from the official code
- Any number of frames T; the code knows 16.
- A video without any motion, or of one frame, is sampled at its segment centers; the code then repeats the first frame, or fails.
- Frames count from 0 (the code counts from 1). As there, the earlier frame of a pair is taken, so the last frame never is.
- Pixel differences of small frames are the default signal; the official script for Kinetics takes `ssim_distance` of whole ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from kinoclip.video.sampling import segment_centers
from kinoclip.video.transforms import resize_frame, short_side_size, to_grayscale

if TYPE_CHECKING:
    from kinoclip.video.decoding import VideoReader

Distance = Callable[[Tensor, Tensor], Tensor]
"""`distance(earlier, later)`: how much two frames (3, H, W) uint8 differ, a scalar of at least 0."""

# Motion of a few pixels of the whole picture is still seen at this size, and film grain is not.
_SHORT_SIDE = 64


def pixel_distance(earlier: Tensor, later: Tensor) -> Tensor:
    """Sum the absolute differences of two frames (3, H, W) over pixels and channels."""
    return (later.float() - earlier.float()).abs().sum(dtype=torch.float64)


def ssim_distance(earlier: Tensor, later: Tensor) -> Tensor:
    """Give one minus the structural similarity of two frames (3, H, W) uint8 of at least 7 x 7 pixels, as gray images.

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
    """Give the distance of two frames in the features of one convolution, as PAN's motion cue takes it.

    Args:
        weight: (D, 3, h, w), sides odd, for the channel order and range of the frames that come in. PAN's own are for blue, green,
            red from 0 to 255: flip them along axis 1 for this package's frames.
        bias: (D,).

    Returns:
        A distance: at each pixel the L2 norm over D, summed over pixels.

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


def motion_curve(frames: Iterable[Tensor], distance: Distance = pixel_distance) -> NDArray[np.float64]:
    """Measure how much each frame differs from the next one; two frames are held at a time.

    Args:
        frames: N of (3, H, W), of one size.
        distance: `pixel_distance`, `ssim_distance`, `feature_distance(weight, bias)` or one of your own. Scale does not matter.

    Returns:
        (max(N - 1, 0),), not smoothed and not summed up.
    """
    curve = []
    earlier: Tensor | None = None
    for later in frames:
        if earlier is not None:
            curve.append(float(distance(earlier, later)))
        earlier = later
    return np.array(curve, dtype=np.float64)


def measure_motion(reader: VideoReader, distance: Distance = pixel_distance) -> NDArray[np.float64]:
    """Measure the motion curve of a video on small copies of its frames.

    Every frame is decoded once for this, where sampling by position decodes what the chosen frames need only: for a long video
    that is most of the time that sampling by motion takes. Memory does not grow with the video.

    Returns:
        (num_frames - 1,), with the number that the reader counts afterwards; meeting damage can lower it.
    """
    short_side = min(_SHORT_SIDE, reader.height, reader.width)
    is_small = short_side_size(reader.height, reader.width, short_side) == (reader.height, reader.width)
    frames = reader.iterate() if is_small else (resize_frame(frame, short_side) for frame in reader.iterate())
    return motion_curve(frames, distance)[: reader.num_frames - 1]


def cumulative_motion(
    motion: Sequence[float] | NDArray[np.float64], exponent: float = 0.5
) -> NDArray[np.float64] | None:
    """Sum up a motion curve to a climb from 0 to 1, or give None where nothing moves.

    Args:
        motion: N - 1 numbers of at least 0.
        exponent: smooths the curve: 1 follows the motion, 0 takes all frames for equal. The paper's is 0.5.

    Raises:
        ValueError: motion that is negative or no number, or a negative exponent.

    Source: the official sampler of MGSampler; summed one after the other in double precision, since the last bit decides ties.
    """
    curve = np.asarray(motion, dtype=np.float64)
    if curve.ndim != 1 or not np.isfinite(curve).all() or (curve < 0).any():
        raise ValueError("A motion curve is a row of finite numbers of at least 0, one for each frame but the last.")
    if not 0 <= exponent < float("inf"):
        raise ValueError(f"exponent is {exponent}. Give 1 to follow the motion, 0 to ignore it, or something between.")
    if not curve.any():
        return None
    # powers and sums of extreme numbers would leave the range of doubles; dividing by 1 changes no bit of the others
    largest = curve.max() if exponent > 1 or curve.max() > 1e300 else 1.0
    smoothed = (curve / largest) ** exponent
    return np.cumsum(smoothed / np.sum(smoothed))


def sample_by_motion(
    motion: Sequence[float] | NDArray[np.float64],
    num_samples: int,
    *,
    exponent: float = 0.5,
    uniform: Callable[[float, float], float] | None = None,
) -> list[int]:
    """Take T frames at even heights of the cumulative motion: the middle of each T-th, or a random point of it.

    Args:
        motion: N - 1 numbers of at least 0 for a video of N frames, see `motion_curve`.
        num_samples: T.
        exponent: see `cumulative_motion`.
        uniform: for training: `uniform(low, high)` draws a number between, such as that of a `numpy.random.Generator` or a
            `random.Random`; one draw for each of the T points, in order.

    Returns:
        T indices in order, repeats allowed. Without motion, the segment centers: every frame is then like any other.

    Raises:
        ValueError: see `cumulative_motion`.

    Source: the official sampler of MGSampler: the nearest point of the curve, the first among equally near ones.
    """
    climb = cumulative_motion(motion, exponent)
    if climb is None:
        return segment_centers(len(motion) + 1, num_samples)
    if uniform is None:
        heights = [(2 * k + 1) / (2 * num_samples) for k in range(num_samples)]
    else:
        heights = [float(uniform(k / num_samples, (k + 1) / num_samples)) for k in range(num_samples)]
    return [int(np.abs(climb - height).argmin()) for height in heights]
