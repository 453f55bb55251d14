"""The transformer over the frames of a video that BIKE, Text4Vis and ActionCLIP put on top of CLIP."""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import CLIPTextConfig
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPEncoder, CLIPPreTrainedModel


def frame_blocks_config(*, hidden_size: int, **fields: Any) -> CLIPTextConfig:
    """Build the config of transformer blocks over frames; the defaults are those of the official heads."""
    tokens = {"vocab_size": 1, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    # 1e-12: BERT-style LayerNorm of the official heads
    blocks = {"intermediate_size": 4 * hidden_size, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-12}
    return CLIPTextConfig(**{**tokens, **blocks, "hidden_size": hidden_size, **fields})


def mark_fused(encoder: CLIPEncoder) -> None:
    """Mark the projections that are one tensor in the official code, for `initialize_blocks`."""
    for layer in encoder.layers:
        for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
            projection.is_fused = True


def initialize_blocks(module: nn.Module, config: CLIPTextConfig, draw: Callable[..., object] = init.normal_) -> None:
    """Initialize a module of transformer blocks over frames as the official code does.

    `draw(weight, std=...)` is called for all matrices but the fused projections.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        if getattr(module, "is_fused", False):
            # torch's xavier-uniform of the fused tensor; its fan is E in and 3E out
            bound = math.sqrt(6 / (4 * config.hidden_size))
            init.uniform_(module.weight, -bound, bound)
        else:
            draw(module.weight, std=config.initializer_range)
        if getattr(module, "bias", None) is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)


def stretch_table(table: Tensor, length: int) -> Tensor:
    """Interpolate a table with one row for each frame (T, D) to another number of frames; the ends stay."""
    if len(table) == length:
        return table
    return interpolate(table.T[None], length, mode="linear", align_corners=True)[0].T


def check_length(length: int, limit: int) -> None:
    """Raise a `ValueError` if a head lacks positions for some of the frames."""
    if length > limit:
        raise ValueError(
            f"The temporal transformer has positions for {limit} frames, but the video has {length}. Sample fewer frames "
            "(`num_frames`)."
        )


class TemporalTransformer(CLIPPreTrainedModel):
    """Self-attention over the frames of a video.

    Source: official `modules/video_clip.py`, `video_header` with `Transf` (the same in both repositories).
    """

    config: CLIPTextConfig
    main_input_name = "frames"

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.encoder = CLIPEncoder(config)
        mark_fused(self.encoder)
        self.post_init()

    @classmethod
    def for_config(cls, config: Any) -> Self:
        """Build the head of a recognizer; heads and positions are those of its text tower, as in the official code."""
        shape = frame_blocks_config(
            hidden_size=config.projection_dim,
            num_hidden_layers=config.temporal_layers,
            num_attention_heads=config.text_config.num_attention_heads,
            max_position_embeddings=config.text_config.max_position_embeddings,
            attn_implementation=config._attn_implementation,
        )
        return cls._from_config(shape)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        initialize_blocks(module, self.config)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the frames (B, T, D), at most as many as positions, after attention; the input is added again."""
        length = frames.shape[1]
        check_length(length, self.position_embedding.num_embeddings)
        positions = self.position_embedding.weight[:length].to(frames.dtype)
        return self.encoder(frames + positions, None).last_hidden_state + frames
