"""Augmentation of training clips, with the options of recipes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from kinoclip.video.transforms import (
    augment_frames,
    center_crop,
    draw_augmentation,
    draw_multi_scale_crop,
    to_grayscale,
)

Crop = Literal["center_crop", "resized_crop", "multi_scale_crop"]

_DRAWS = {"resized_crop": draw_augmentation, "multi_scale_crop": draw_multi_scale_crop}
# ActionCLIP and X-CLIP: brightness, contrast, saturation, hue
_JITTER = (0.4, 0.4, 0.2, 0.1)


@dataclass(frozen=True)
class ClipAugmentation:
    """Random changes of a training clip; every frame of it gets the same.

    Raises:
        ValueError: an unknown crop, a probability outside 0 to 1, or an angle outside 0 to 180.

    Source: the order of ActionCLIP `utils/Augmentation.py`, which draws RandAugment and the jitter for each frame separately.
    """

    # "resized_crop" as BIKE and Text4Vis, "multi_scale_crop" as ActionCLIP, TAM and X-CLIP, "center_crop" as in evaluation
    crop: Crop = "resized_crop"
    flip: bool = True  # mirror every other clip; off where left and right are part of the label (Something-Something)
    grayscale: float = 0.2  # probability of removing the color
    color_jitter: float = 0.0  # probability of changing brightness, contrast, saturation and hue; ActionCLIP: 0.8
    randaugment: Sequence[int] | None = None  # number and magnitude (0 to 30) before the crop; ActionCLIP: (2, 9)
    erasing: float = 0.0  # probability of replacing a rectangle by the mean color
    rotation: float = 0.0  # largest rotation of a clip before the crop, in degrees, uniform in both directions

    def __post_init__(self) -> None:
        if self.crop not in get_args(Crop):
            raise ValueError(f"The crop must be one of {', '.join(get_args(Crop))}, got {self.crop!r}.")
        for name in ("grayscale", "color_jitter", "erasing"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be a probability from 0 to 1, got {getattr(self, name)}.")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation must be 0 to 180 degrees, got {self.rotation}.")
        if self.randaugment is not None and len(self.randaugment) != 2:
            raise ValueError(f"randaugment must be a number and a magnitude, such as (2, 9), got {self.randaugment}.")

    def change_frames(self, frames: Tensor, crop_size: int, rng: np.random.Generator) -> Tensor:
        """Crop and recolor the frames (T, 3, h, w) uint8 of one clip: (T, 3, crop_size, crop_size) uint8."""
        if self.randaugment is not None:
            frames = _apply("RandAugment", frames, rng, *self.randaugment)
        if self.rotation:
            from torchvision.transforms import InterpolationMode

            frames = _apply("RandomRotation", frames, rng, self.rotation, InterpolationMode.BILINEAR)
        is_gray = rng.random() < self.grayscale
        if self.crop == "center_crop":
            frames = center_crop(frames, crop_size, crop_size)
            frames = frames.flip(-1) if self.flip and rng.random() < 0.5 else frames
        else:
            draw = partial(_DRAWS[self.crop], flip_probability=0.5 if self.flip else 0.0, grayscale_probability=0.0)
            drawn = draw(frames.shape[-2], frames.shape[-1], crop_size, rng)
            frames = augment_frames(frames, drawn, crop_size)
        if rng.random() < self.color_jitter:
            frames = _apply("ColorJitter", frames, rng, *_JITTER)
        return to_grayscale(frames) if is_gray else frames

    def erase(self, pixels: Tensor, rng: np.random.Generator) -> Tensor:
        """Replace a rectangle in the normalized pixels (T, 3, H, W) of a clip by zeros, the mean color."""
        return _apply("RandomErasing", pixels, rng, self.erasing) if self.erasing else pixels


def _apply(name: str, frames: Tensor, rng: np.random.Generator, *options: Any) -> Tensor:
    """Call a transform of torchvision with random numbers from `rng`; torch's own generator keeps its state."""
    from torchvision.transforms import v2

    generator = torch.default_generator  # not torch.manual_seed, which would seed the accelerator too
    state = generator.get_state()
    try:
        generator.manual_seed(int(rng.integers(2**63)))
        changed: Tensor = getattr(v2, name)(*options)(frames)
    finally:
        generator.set_state(state)
    return changed
