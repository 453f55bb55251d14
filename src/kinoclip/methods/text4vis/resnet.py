"""The ResNet of CLIP's RN checkpoints as a vision tower: three stem convolutions, blurred strides, attention pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPPreTrainedModel

from kinoclip.components.temporal_shift import shift_frames


class Stem(nn.Module):
    """Three convolutions and an average over 2 x 2: (N, 3, H, W) -> (N, width, H / 4, W / 4)."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Give the (N, width, H / 4, W / 4) features of pixels (N, 3, H, W)."""
        hidden = functional.relu(self.norm1(self.conv1(pixels)))
        hidden = functional.relu(self.norm2(self.conv2(hidden)))
        return functional.avg_pool2d(functional.relu(self.norm3(self.conv3(hidden))), 2)


class Shortcut(nn.Module):
    """The residual path of a block that changes the number of channels: an average instead of a stride."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(channels, width, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Give (N, width, H / stride, W / stride)."""
        return self.norm(self.conv(functional.avg_pool2d(hidden, self.stride)))


class Bottleneck(nn.Module):
    """A residual block; its first convolution sees an eighth of the channels of either neighboring frame if it shifts.

    It is never recomputed in the backward pass: batch norms would count every batch twice.
    """

    def __init__(self, channels: int, width: int, stride: int, shift: bool):
        super().__init__()
        self.shift, self.stride = shift, stride
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(4 * width)
        changes = stride > 1 or channels != 4 * width
        self.shortcut = Shortcut(channels, 4 * width, stride) if changes else nn.Identity()

    def forward(self, hidden: Tensor, num_frames: int) -> Tensor:
        """Give (B * T, 4 * width, H / stride, W / stride)."""
        residual = self.shortcut(hidden)
        if self.shift:
            hidden = shift_frames(hidden, num_frames, fold=hidden.shape[1] // 8, channel_dim=1)
        hidden = functional.relu(self.norm1(self.conv1(hidden)))
        hidden = functional.relu(self.norm2(self.conv2(hidden)))
        hidden = self.norm3(self.conv3(functional.avg_pool2d(hidden, self.stride)))
        return functional.relu(hidden + residual)


class AttentionPooling(nn.Module):
    """Pool an image by attention whose query is its mean."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        width, grid = config.hidden_size, cast(int, config.image_size) // cast(int, config.patch_size)
        self.num_heads = config.num_attention_heads
        self.position_embedding = nn.Embedding(grid * grid + 1, width)
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C)."""
        tokens = hidden.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1) + self.position_embedding.weight
        parts = self.q_proj(tokens[:, :1]), self.k_proj(tokens), self.v_proj(tokens)
        heads = [part.unflatten(2, (self.num_heads, -1)).transpose(1, 2) for part in parts]
        return functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(1)


class ResNetVisionModel(CLIPPreTrainedModel):
    """CLIP's ResNet, without the last projection, which is the recognizer's `visual_projection`.

    Source: official `clip/model.py`, `ModifiedResNet`; `modules/temporal_shift.py`, `make_temporal_shift`.
    """

    config: CLIPVisionConfig
    config_class = CLIPVisionConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = False

    def __init__(self, config: CLIPVisionConfig, layers: Sequence[int], shift: bool = False):
        super().__init__(config)
        width = config.hidden_size // 32
        self.stem = Stem(width)
        every = 2 if layers[2] >= 23 else 1  # the official code spares every second block of a deep ResNet
        self.stages = nn.ModuleList()
        channels = width
        for stage, depth in enumerate(layers):
            blocks = nn.ModuleList()
            for i in range(depth):
                stride = 2 if stage > 0 and i == 0 else 1
                blocks.append(Bottleneck(channels, width << stage, stride, shift and i % every == 0))
                channels = 4 * (width << stage)
            self.stages.append(blocks)
        self.pooling = AttentionPooling(config)
        self.post_init()

    def forward(self, pixel_values: Tensor, num_frames: int) -> BaseModelOutputWithPooling:
        """Encode frames (B * T, 3, H, W), those of a video one behind another; `pooler_output` is (B * T, C).

        Raises:
            ValueError: the frames are of another size than the tower has positions for.
        """
        size = self.config.image_size
        if pixel_values.shape[-2:] != (size, size):
            height, width = pixel_values.shape[-2:]
            raise ValueError(f"Input image size ({height}*{width}) doesn't match model ({size}*{size}).")
        hidden = self.stem(pixel_values.to(self.stem.conv1.weight.dtype))
        for stage in self.stages:
            for block in cast(nn.ModuleList, stage):
                hidden = block(hidden, num_frames)
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=self.pooling(hidden))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            bound = module.weight[0].numel() ** -0.5  # torch's own, as in the official code
            init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.Linear | nn.Embedding):
            init.normal_(module.weight, std=self.config.hidden_size**-0.5)
        elif any(module is block.norm3 for block in self.modules() if isinstance(block, Bottleneck)):
            init.zeros_(module.weight)  # the official code starts every block as its residual path
