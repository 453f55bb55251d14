"""The ResNet of CLIP's RN checkpoints as a vision tower, and the names and sizes of its weights in OpenAI's layout."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPVisionConfig
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.clip.modeling_clip import CLIPPreTrainedModel

from kinoclip.modeling.checkpoints import StateDict, count_parts, rename
from kinoclip.modeling.layers.temporal_shift import shift_frames

_MARK = re.compile(r"visual\.(layer\d|attnpool|bn\d)\.")
_NAMES = (
    (r"\.bn(\d)\.", r".norm\1."),
    (r"^visual\.(conv|norm)(\d)\.", r"vision_model.stem.\1\2."),
    *((rf"^visual\.layer{stage + 1}\.", f"vision_model.stages.{stage}.") for stage in range(4)),
    (r"\.downsample\.0\.", ".shortcut.conv."),
    (r"\.downsample\.1\.", ".shortcut.norm."),
    (r"^visual\.attnpool\.positional_embedding$", "vision_model.pooling.position_embedding.weight"),
    (r"^visual\.attnpool\.c_proj\.", "visual_projection."),
    (r"^visual\.attnpool\.", "vision_model.pooling."),
)
_NEEDED = ("visual.attnpool.positional_embedding", "visual.attnpool.c_proj.weight")


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
        """Encode pixels (N, 3, H, W): (N, width, H / 4, W / 4)."""
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
        """Reduce the size and change the channels: (N, width, H / stride, W / stride)."""
        return self.norm(self.conv(functional.avg_pool2d(hidden, self.stride)))


class Bottleneck(nn.Module):
    """A residual block; with `shift`, an eighth of its input channels comes from each neighboring frame.

    It is not recomputed in the backward pass: batch norms would count every batch twice.
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
        self.norm3.starts_at_zero = True  # in the official code every block is initially its residual path
        changes = stride > 1 or channels != 4 * width
        self.shortcut = Shortcut(channels, 4 * width, stride) if changes else nn.Identity()

    def forward(self, hidden: Tensor, num_frames: int) -> Tensor:
        """Encode (B * T, C, H, W): (B * T, 4 * width, H / stride, W / stride)."""
        residual = self.shortcut(hidden)
        if self.shift:
            hidden = shift_frames(hidden, num_frames, fold=hidden.shape[1] // 8, channel_dim=1)
        hidden = functional.relu(self.norm1(self.conv1(hidden)))
        hidden = functional.relu(self.norm2(self.conv2(hidden)))
        hidden = self.norm3(self.conv3(functional.avg_pool2d(hidden, self.stride)))
        return functional.relu(hidden + residual)


class AttentionPooling(nn.Module):
    """Attention pooling with the mean of an image as the query."""

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
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = False

    def __init__(self, config: CLIPVisionConfig, layers: Sequence[int], shift: bool = False):
        super().__init__(config)
        width = config.hidden_size // 32
        self.stem = Stem(width)
        every = 2 if layers[2] >= 23 else 1  # the official code skips every second block of a deep ResNet
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
        """Encode frames (B * T, 3, H, W) of the config's size, video by video; `pooler_output` is (B * T, C)."""
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
        elif getattr(module, "starts_at_zero", False):
            init.zeros_(module.weight)


def holds_resnet(state: Mapping[str, Tensor]) -> bool:
    """Check whether weights in OpenAI's layout are those of a ResNet."""
    return any(_MARK.match(name) for name in state)


def resnet_to_transformers(state: Mapping[str, Tensor]) -> StateDict:
    """Rename the weights of a ResNet (`visual.*`) to those of the vision tower and the projection, one-to-one."""
    return {rename(name, _NAMES): tensor for name, tensor in state.items()}


def infer_resnet_fields(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Infer fields of `Text4VisConfig` from the tensors of a ResNet."""
    depths = [count_parts(state, rf"visual\.layer{stage}\.(\d+)\.") for stage in range(1, 5)]
    missing = [name for name in _NEEDED if name not in state]
    missing += [f"visual.layer{i}" for i, depth in enumerate(depths, 1) if depth == 0]
    if missing:
        raise ValueError(f"The checkpoint lacks {missing[0]!r} of CLIP's ResNet. Name a whole CLIP.")
    positions, width = state["visual.attnpool.positional_embedding"].shape
    shared = state["visual.attnpool.c_proj.weight"].shape[0]
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": 0,
        "num_attention_heads": max(1, width // 64),
        "image_size": 32 * round((positions - 1) ** 0.5),
        "patch_size": 32,
        "projection_dim": shared,
    }
    return {"vision_config": vision, "projection_dim": shared, "resnet_layers": depths}
