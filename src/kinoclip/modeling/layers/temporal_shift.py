"""Temporal shift (TSM): channels move between neighboring frames, without parameters or multiplications."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer, CLIPVisionModel


def shift_frames(hidden_states: Tensor, num_frames: int, fold: int, channel_dim: int = -1) -> Tensor:
    """Take the first `fold` channels from the next frame and the second `fold` from the previous one.

    Hidden states are (B * T, ..., C, ...), the frames of each video in succession, with C at `channel_dim`. At most C
    / 2 channels move in each direction; zeros move in at the ends of a video.

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
    """A layer of CLIP's vision tower whose input has an eighth of the patches' channels shifted in each direction.

    The shift is also on the residual path; the class token is not shifted.
    """

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, num_frames: int, **kwargs: Any) -> Tensor:
        """Return the (B * T, 1 + M, C) tokens after shift, attention and MLP."""
        class_token, patches = hidden_states[:, :1], hidden_states[:, 1:]
        patches = shift_frames(patches, num_frames, fold=patches.shape[-1] // 8)
        return super().forward(torch.cat([class_token, patches], dim=1), attention_mask, **kwargs)


def replace_layers(vision_model: CLIPVisionModel, layer_class: type[CLIPEncoderLayer]) -> None:
    """Replace the layers of a vision tower by layers of another class, under the same parameter names.

    Call it in a model's `__init__` before `post_init`, which initializes them. Keywords of the tower reach its layers:
    `vision_model(pixel_values=..., num_frames=T)`.
    """
    layers = vision_model.encoder.layers
    vision_model.encoder.layers = nn.ModuleList([layer_class(vision_model.config) for _ in layers])
