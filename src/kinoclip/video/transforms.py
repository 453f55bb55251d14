"""Resize, crop, augment and normalize the frames of a clip, as the authors' code does with PIL images.

Frames are uint8 (T, 3, H, W) and become float only in `normalize_frames`. Resizing uint8 in channels-last memory is the fastest way and
within two grey levels of PIL. Crops follow torchvision's rounding, `round((width - crop) / 2)`, which on every 16:9 video is one pixel beside
the floor of the transformers processors and changes the features measurably.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import sqrt
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Interpolation = Literal["bicubic", "bilinear"]


@dataclass(frozen=True)
class Augmentation:
    """Augmentation of a training clip, the same for all frames."""

    # top, left, height and width of the crop; None resizes the short side to the crop size and crops at `corner`
    box: tuple[int, int, int, int] | None
    corner: tuple[int, int] = (0, 0)  # top and left of that crop
    flip: bool = False  # mirror left and right
    grayscale: bool = False  # remove the color, keep three channels


def resize_frames(frames: Tensor, short_side: int, interpolation: Interpolation = "bicubic") -> Tensor:
    """Resize frames to the given short side.

    Args:
        frames: (T, 3, H, W) uint8.
        short_side: pixels. The long side is rounded down.
        interpolation: "bicubic", or "bilinear" in the random crops of training; always with antialiasing, as in PIL.

    Returns:
        (T, 3, h, w) uint8.

    Source: torchvision `Resize`, which the official transforms call.
    """
    height, width = short_side_size(frames.shape[-2], frames.shape[-1], short_side)
    return resize_to(frames, height, width, interpolation)


def short_side_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return height and width after resizing to the given short side."""
    if height <= width:
        return short_side, int(short_side * width / height)
    return int(short_side * height / width), short_side


def resize_to(frames: Tensor, height: int, width: int, interpolation: Interpolation = "bicubic") -> Tensor:
    """Resize frames (T, 3, H, W) uint8 to `height` by `width`, with antialiasing."""
    if frames.shape[-2:] == (height, width):
        return frames
    frames = frames.contiguous(memory_format=torch.channels_last)
    return functional.interpolate(frames, (height, width), mode=interpolation, align_corners=False, antialias=True)


def center_crop(frames: Tensor, height: int, width: int) -> Tensor:
    """Crop the center of frames (..., H, W).

    Raises:
        ValueError: the frames are smaller than the crop.

    Source: torchvision `CenterCrop`: offsets rounded half to even.
    """
    _check_crop(frames, height, width)
    top = round((frames.shape[-2] - height) / 2.0)
    left = round((frames.shape[-1] - width) / 2.0)
    return _crop(frames, top, left, height, width)


def view_crops(
    frames: Tensor, crop_size: tuple[int, int], num_crops: int = 1, along_long_side: bool = False
) -> list[Tensor]:
    """Crop the spatial views of a test protocol.

    Args:
        frames: (T, 3, H, W).
        crop_size: height and width.
        num_crops: 1: center; 3: left, right, center at the vertical middle; 5: the corners (upper left, upper right, lower
            left, lower right) and the center; 10: the same, each followed by its mirror image.
        along_long_side: with 3 crops, both ends and the middle of the long side, at the middle of the short side.

    Returns:
        `num_crops` clips (T, 3, height, width), in the order of the official view axis.

    Raises:
        ValueError: another number of crops, or frames smaller than the crop.

    Source: BIKE and Text4Vis `datasets/transforms.py`, `GroupFullResSample` and `GroupOverSample`; along the long side
    X-CLIP `datasets/pipeline.py`, `ThreeCrop`.
    """
    height, width = crop_size
    if num_crops == 1:
        return [center_crop(frames, height, width)]
    if num_crops not in (3, 5, 10):
        raise ValueError(f"num_crops must be 1, 3, 5 or 10, got {num_crops}.")
    _check_crop(frames, height, width)
    # The official grid has steps of a quarter, rounded down: the last position can be 3 pixels off the border.
    down, right = (frames.shape[-2] - height) // 4, (frames.shape[-1] - width) // 4
    if num_crops == 3 and along_long_side:
        down, right = (frames.shape[-2] - height) // 2, (frames.shape[-1] - width) // 2
        ends = [(0, 1), (2, 1), (1, 1)]
        positions = ends if frames.shape[-2] > frames.shape[-1] else [(j, i) for i, j in ends]
    elif num_crops == 3:
        positions = [(2, 0), (2, 4), (2, 2)]
    else:
        positions = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    crops = [_crop(frames, i * down, j * right, height, width) for i, j in positions]
    if num_crops == 10:
        crops = [view for crop in crops for view in (crop, crop.flip(-1))]
    return crops


def draw_augmentation(
    height: int,
    width: int,
    crop_size: int,
    rng: np.random.Generator,
    *,
    flip_probability: float = 0.5,
    grayscale_probability: float = 0.2,
) -> Augmentation:
    """Sample the random resized crop, flip and grayscale of a training clip.

    Args:
        height: of the frames after `resize_frames`.
        width: of the frames after `resize_frames`.
        crop_size: side of the resulting square.
        rng: called in the authors' order.
        flip_probability: 0 if labels depend on left and right.
        grayscale_probability: of removing the color.

    Source: BIKE and Text4Vis `datasets/transforms.py`: area from 8 % to all, aspect ratio uniform (not log-uniform) in 3/4 to
    4/3, ten attempts; `utils/Augmentation.py` for the order and the probabilities.
    """
    box: tuple[int, int, int, int] | None = None
    corner = (0, 0)
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1.0)
        aspect = rng.uniform(3.0 / 4.0, 4.0 / 3.0)
        box_width, box_height = round(sqrt(area * aspect)), round(sqrt(area / aspect))
        if rng.random() < 0.5:
            box_width, box_height = box_height, box_width
        if box_width <= width and box_height <= height:
            left, top = _randint(rng, width - box_width), _randint(rng, height - box_height)
            box = (top, left, box_height, box_width)
            break
    if box is None:
        resized_height, resized_width = short_side_size(height, width, crop_size)
        left, top = _randint(rng, resized_width - crop_size), _randint(rng, resized_height - crop_size)
        corner = (top, left)
    flip = rng.random() < flip_probability
    return Augmentation(box, corner, flip, rng.random() < grayscale_probability)


def draw_multi_scale_crop(
    height: int,
    width: int,
    crop_size: int,
    rng: np.random.Generator,
    *,
    flip_probability: float = 0.5,
    grayscale_probability: float = 0.0,
) -> Augmentation:
    """Sample the multi-scale crop at one of 13 fixed positions, and the flip, of a training clip.

    Height and width of the crop are equal or neighboring shares of the short side.

    Args:
        height: of the frames.
        width: of the frames.
        crop_size: side of the resulting square.
        rng: see `draw_augmentation`.
        flip_probability: 0 if labels depend on left and right.
        grayscale_probability: 0.2 in ActionCLIP, 0 in TSN and TAM.

    Source: TSN `MultiScaleCrop`; ActionCLIP and TAM use it.
    """
    sides = [int(min(height, width) * scale) for scale in (1.0, 0.875, 0.75, 0.66)]
    # A crop within two pixels of the crop size gets that size, so that it is not resized.
    sides = [crop_size if abs(side - crop_size) < 3 and crop_size <= min(height, width) else side for side in sides]
    pairs = [(a, b) for (i, a), (j, b) in product(enumerate(sides), repeat=2) if abs(i - j) <= 1]
    box_height, box_width = pairs[_randint(rng, len(pairs) - 1)]
    down, right = (height - box_height) // 4, (width - box_width) // 4
    positions = [*product((0, 2, 4), repeat=2), *product((1, 3), repeat=2)]
    i, j = positions[_randint(rng, len(positions) - 1)]
    flip = rng.random() < flip_probability
    grayscale = rng.random() < grayscale_probability
    return Augmentation((i * down, j * right, box_height, box_width), (0, 0), flip, grayscale)


def augment_frames(frames: Tensor, augmentation: Augmentation, crop_size: int) -> Tensor:
    """Apply an augmentation to all frames of a clip.

    Args:
        frames: (T, 3, H, W) uint8, of the size for which the augmentation was sampled.
        augmentation: of `draw_augmentation` or `draw_multi_scale_crop`.
        crop_size: as passed there.

    Returns:
        (T, 3, crop_size, crop_size) uint8.
    """
    if augmentation.box is not None:
        frames = resize_to(_crop(frames, *augmentation.box), crop_size, crop_size, "bilinear")
    else:
        resized = resize_frames(frames, crop_size, "bilinear")
        frames = _crop(resized, *augmentation.corner, crop_size, crop_size)
    if augmentation.flip:
        frames = frames.flip(-1)
    return to_grayscale(frames) if augmentation.grayscale else frames


def to_grayscale(frames: Tensor) -> Tensor:
    """Replace the channels of frames (T, 3, H, W) uint8 by their luminance.

    Source: PIL `convert("L")`, ITU-R 601-2 in 16-bit fixed point.
    """
    red, green, blue = frames.to(torch.int32).unbind(-3)
    luminance = (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16
    return luminance.to(torch.uint8).unsqueeze(-3).expand_as(frames)


def normalize_frames(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalize frames to float32.

    Args:
        frames: (T, 3, H, W) uint8.
        mean: per channel, for values from 0 to 1.
        std: per channel, for values from 0 to 1.
    """
    scale = torch.tensor([1 / (255 * one) for one in std]).view(3, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)]).view(3, 1, 1)
    return frames.to(torch.float32, memory_format=torch.contiguous_format).mul_(scale).add_(shift)


def _crop(frames: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    return frames[..., top : top + height, left : left + width]


def _check_crop(frames: Tensor, height: int, width: int) -> None:
    if height > frames.shape[-2] or width > frames.shape[-1]:
        raise ValueError(
            f"Frames must be at least as large as the crop of {height} x {width}, got {frames.shape[-2]} x {frames.shape[-1]}. "
            "Resize the short side first."
        )


def _randint(rng: np.random.Generator, largest: int) -> int:
    """Return a random integer from 0 to `largest`, both included."""
    return int(rng.integers(0, largest, endpoint=True))
