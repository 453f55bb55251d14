"""A convolutional image tower, which learns poses from fewer clips than a vision transformer; CLIP's own tower learns from it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class TowerOutput(NamedTuple):
    """The outputs of CLIP's vision tower that the losses read."""

    pooler_output: Tensor  # (N, C)
    last_hidden_state: Tensor  # (N, 1 + patches, C)


class ConvolutionalTower(nn.Module):
    """Four convolutions that end with one feature for each patch of 8 x 8 pixels, and a head over all of them."""

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for channels, (after, stride) in zip((3, 24, 48, 96), ((24, 2), (48, 2), (96, 2), (width, 1)), strict=True):
            layers += [nn.Conv2d(channels, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(
            nn.Linear(grid**2 * width, 256), nn.GELU(), nn.Linear(256, width), nn.LayerNorm(width)
        )

    def forward(self, pixel_values: Tensor) -> TowerOutput:
        """Encode images (N, 3, H, W)."""
        patches = self.body(pixel_values.contiguous(memory_format=torch.channels_last)).flatten(2).transpose(1, 2)
        pooled = self.head(patches.flatten(1))
        return TowerOutput(pooled, torch.cat([pooled[:, None], self.norm(patches)], dim=1))
