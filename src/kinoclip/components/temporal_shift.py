"""Frames that see some channels of their neighbors (TSM): no parameters, no multiplications."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer, CLIPVisionModel


def shift_frames(hidden_states: Tensor, num_frames: int, fold: int, channel_dim: int = -1) -> Tensor:
    """Take the first `fold` channels from the next frame and the second `fold` from the previous one.

    Args:
        hidden_states: (B * T, ..., C, ...), the frames of a video one behind another.
        num_frames: T.
        fold: number of channels that move in each direction, at most C / 2. At the ends of a video zeros move in.
        channel_dim: axis of C, not 0.

    Source: official Text4Vis and ActionCLIP, `TemporalShift`.
    """
    channel_dim %= hidden_states.ndim
    rest = hidden_states.shape[channel_dim] - 2 * fold
    frames = hidden_states.unflatten(0, (-1, num_frames))
    ahead, behind, kept = frames.split([fold, fold, rest], dim=channel_dim + 1)
    ahead = torch.cat([ahead[:, 1:], torch.zeros_like(ahead[:, :1])], dim=1)
    behind = torch.cat([torch.zeros_like(behind[:, :1]), behind[:, :-1]], dim=1)
    return torch.cat([ahead, behind, kept], dim=channel_dim + 1).flatten(0, 1)


class TemporalShiftLayer(CLIPEncoderLayer):
    """A layer of CLIP's vision tower before which an eighth of the patches' channels moves in either direction.

    What moved is on the residual path too; the class token is left alone.
    """

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, num_frames: int, **kwargs: Any) -> Tensor:
        """Give the (B * T, 1 + M, C) tokens after shift, attention and MLP."""
        class_token, patches = hidden_states[:, :1], hidden_states[:, 1:]
        patches = shift_frames(patches, num_frames, fold=patches.shape[-1] // 8)
        return super().forward(torch.cat([class_token, patches], dim=1), attention_mask, **kwargs)


def replace_layers(vision_model: CLIPVisionModel, layer_class: type[CLIPEncoderLayer]) -> None:
    """Give a vision tower layers of another class, under the same names.

    Call it in a model's `__init__`, before its `post_init` gives the new layers their first values. Keywords of the
    tower reach its layers: `vision_model(pixel_values=..., num_frames=T)`.
    """
    layers = vision_model.encoder.layers
    vision_model.encoder.layers = nn.ModuleList([layer_class(vision_model.config) for _ in layers])
