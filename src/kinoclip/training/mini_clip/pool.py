"""Frames of KinoShapes, encoded and decoded once and kept in memory."""

import sys
from dataclasses import dataclass
from io import BytesIO

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kinoclip.data.kinoshapes import (
    BACKGROUNDS,
    COLORS,
    SHAPES,
    KinoClip,
    clip_generator,
    encode_video,
    render,
    sample_spec,
)

from .settings import Settings

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Pool:
    """Frames and what is on them.

    Attributes:
        images: (N, 3, H, W) uint8.
        colors: (N,) ids, -1 where the frame is empty.
        shapes: (N,) ids, -1 where the frame is empty.
        backgrounds: (N,) ids.
        verbs: of the clip that each frame comes from.
        masks: (N, patches) share of each patch that the object covers.
    """

    images: Tensor
    colors: Tensor
    shapes: Tensor
    backgrounds: Tensor
    verbs: list[str]
    masks: Tensor


def decode(content: bytes) -> Tensor:
    """Decode a whole mp4 file to uint8 (T, 3, H, W)."""
    with av.open(BytesIO(content), mode="r") as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    return torch.from_numpy(frames).permute(0, 3, 1, 2)


def resize_and_crop(frames: Tensor, size: int) -> Tensor:
    """Scale the shorter side to `size` (bicubic) and cut out the middle: (T, 3, H, W) to (T, 3, size, size), uint8."""
    height, width = frames.shape[-2:]
    scale = size / min(height, width)
    sides = (round(height * scale), round(width * scale))
    scaled = F.interpolate(frames.float(), sides, mode="bicubic", antialias=True)
    top, left = ((side - size) // 2 for side in sides)
    return scaled[..., top : top + size, left : left + size].round().clamp(0, 255).to(torch.uint8)


def normalize(images: Tensor) -> Tensor:
    """Turn uint8 images (..., 3, H, W) into what CLIP expects."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def build_pool(settings: Settings) -> Pool:
    """Render, encode and decode the training clips; a quarter of them is untrimmed."""
    images, masks, rows, verbs = [], [], [], []
    for index in range(settings.pool_clips):
        rng = clip_generator(settings.seed, "train", index)
        spec = sample_spec(rng, num_frames=8, untrimmed=index % 4 == 0, distractors=int(rng.integers(0, 3)))
        clip = render(spec)
        images.append(resize_and_crop(decode(encode_video(clip.frames)), settings.image_size))
        masks.append(_patch_shares(clip, settings.grid))
        visible = [bool(mask.any()) for mask in clip.masks]
        ids = (list(COLORS).index(clip.color), SHAPES.index(clip.shape))
        rows += [[*(ids if seen else (-1, -1)), BACKGROUNDS.index(clip.background)] for seen in visible]
        verbs += [clip.verb] * len(visible)
        if index % 500 == 0:
            sys.stderr.write(f"rendered {index} of {settings.pool_clips} clips\n")
    colors, shapes, backgrounds = torch.tensor(rows).unbind(1)
    return Pool(torch.cat(images), colors, shapes, backgrounds, verbs, torch.cat(masks))


def _patch_shares(clip: KinoClip, grid: int) -> Tensor:
    """Give the share of each patch of the central square that the object covers, (T, patches)."""
    masks = torch.from_numpy(clip.masks)[:, None].float()
    side = min(masks.shape[-2:])
    top, left = ((length - side) // 2 for length in masks.shape[-2:])
    return F.adaptive_avg_pool2d(masks[..., top : top + side, left : left + side], grid).flatten(1)
