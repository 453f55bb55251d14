"""ALT's video decoder: queries of the frames look at frames that know their neighbors (eq. 8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward

from .configuration_alt import AltConfig

_HEAD_WIDTH = 64


class Mlp(nn.Module):
    """Two linear layers, the inner one `ratio` times as wide."""

    def __init__(self, config: AltConfig, ratio: int):
        super().__init__()
        width = config.projection_dim
        self.fc1 = nn.Linear(width, ratio * width)
        self.activation = ACT2FN[config.vision_config.hidden_act]
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform each token: (..., E)."""
        return self.fc2(self.activation(self.fc1(tokens)))


class ResidualMlp(Mlp):
    """An MLP that adds to its input what it makes of it, normalized."""

    def __init__(self, config: AltConfig):
        super().__init__(config, config.mlp_ratio)
        self.norm = nn.LayerNorm(config.projection_dim, eps=config.vision_config.layer_norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform each token: (..., E)."""
        return tokens + super().forward(self.norm(tokens))


class Attention(nn.Module):
    """Queries that look at a sequence, which may be their own; heads of 64 channels."""

    is_causal = False

    def __init__(self, config: AltConfig):
        super().__init__()
        width = config.projection_dim
        self.config = config
        self.num_heads = max(1, width // _HEAD_WIDTH)
        self.scale = (width // self.num_heads) ** -0.5
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, queries: Tensor, context: Tensor, weigh: bool = False) -> tuple[Tensor, Tensor | None]:
        """Give (B, T, E), and with `weigh` how much each query looks at each of the context (B, H, T, T')."""
        implementation = "eager" if weigh else self.config._attn_implementation
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        heads = [
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projected in (self.q_proj(queries), self.k_proj(context), self.v_proj(context))
        ]
        attended, weights = attend(self, *heads, None, scaling=self.scale, dropout=0.0)
        return self.out_proj(attended.flatten(2)), weights


class DecoderLayer(GradientCheckpointingLayer):
    """A block of the decoder: convolution over frames, self-attention of queries, cross-attention."""

    def __init__(self, config: AltConfig):
        super().__init__()
        width, eps = config.projection_dim, config.vision_config.layer_norm_eps
        self.conv = self.conv_mlp = self.self_attn = self.self_mlp = None
        if config.decoder_conv:
            groups = width if config.conv_groups == "depthwise" else 1
            padding = config.conv_kernel // 2
            self.conv = nn.Conv1d(width, width, config.conv_kernel, padding=padding, groups=groups)
            self.conv_mlp = ResidualMlp(config) if config.conv_ffn else nn.Identity()
        if config.decoder_self_attention:
            self.self_norm = nn.LayerNorm(width, eps=eps)
            self.self_attn = Attention(config)
            self.self_mlp = ResidualMlp(config) if config.decoder_ffn_after_self else nn.Identity()
        self.query_norm = nn.LayerNorm(width, eps=eps)
        self.frame_norm = nn.LayerNorm(width, eps=eps)
        self.cross_attn = Attention(config)
        self.cross_mlp = ResidualMlp(config)

    def forward(self, queries: Tensor, frames: Tensor, weigh: bool = False) -> tuple[Tensor, Tensor | None]:
        """Give the queries (B, T, E) after this block, and with `weigh` their attention to the frames (B, H, T, T)."""
        if self.conv is not None:
            frames = self.conv_mlp(frames + self.conv(frames.transpose(1, 2)).transpose(1, 2))
        if self.self_attn is not None:
            normed = self.self_norm(queries)
            queries = self.self_mlp(queries + self.self_attn(normed, normed)[0])
        attended, weights = self.cross_attn(self.query_norm(queries), self.frame_norm(frames), weigh)
        return self.cross_mlp(queries + attended), weights


class VideoDecoder(nn.Module):
    """All blocks, and the norm before queries are averaged."""

    def __init__(self, config: AltConfig):
        super().__init__()
        width = config.projection_dim
        self.position_embedding = None
        if config.temporal_position_embedding:
            self.position_embedding = nn.Embedding(config.num_frames, width)
        self.layers = nn.ModuleList([DecoderLayer(config) for _ in range(config.decoder_layers)])
        self.norm = nn.LayerNorm(width, eps=config.vision_config.layer_norm_eps)

    def _start(self, queries: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        if self.position_embedding is None:
            return queries, frames
        positions = stretch_table(self.position_embedding.weight, frames.shape[1]).to(frames.dtype)
        return queries + positions, frames + positions

    def forward(self, queries: Tensor, frames: Tensor) -> Tensor:
        """Give the queries (B, T, E) after all blocks; each of them reads the same frames (B, T, E)."""
        queries, frames = self._start(queries, frames)
        for layer in self.layers:
            queries, _ = layer(queries, frames)
        return self.norm(queries)

    def weigh_frames(self, queries: Tensor, frames: Tensor) -> Tensor:
        """Tell how much the queries look at each frame, averaged over blocks, heads and queries: (B, T), sums to one."""
        queries, frames = self._start(queries, frames)
        weights = []
        for layer in self.layers:
            queries, looks = layer(queries, frames, weigh=True)
            weights.append(looks.mean((1, 2)))
        return torch.stack(weights).mean(0)


def stretch_table(table: Tensor, length: int) -> Tensor:
    """Give a table of one row for each frame (T, E) for another number of frames; the ends keep their rows."""
    if len(table) == length:
        return table
    return functional.interpolate(table.T[None], length, mode="linear", align_corners=True)[0].T
