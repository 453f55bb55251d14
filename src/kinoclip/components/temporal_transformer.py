"""The six-layer transformer over the frames of a video that BIKE and Text4Vis put on top of CLIP."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoder, CLIPPreTrainedModel


def frame_blocks_config(*, hidden_size: int, **fields: Any) -> CLIPTextConfig:
    """Give the shape of transformer blocks over frames instead of tokens, those of the official heads where not said."""
    tokens = {"vocab_size": 1, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    # 1e-12: BERT-style LayerNorm of the official heads
    blocks = {"intermediate_size": 4 * hidden_size, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-12}
    return CLIPTextConfig(**{**tokens, **blocks, "hidden_size": hidden_size, **fields})


class TemporalTransformer(CLIPPreTrainedModel):
    """Let the frames of a video look at each other.

    Source: official `modules/video_clip.py`, `video_header` with `Transf` (the same in both repositories).
    """

    config: CLIPTextConfig
    config_class = CLIPTextConfig
    main_input_name = "frames"

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.encoder = CLIPEncoder(config)
        self.post_init()

    @staticmethod
    def derive_config(
        text_config: CLIPTextConfig, width: int, num_layers: int, attn_implementation: str | None
    ) -> CLIPTextConfig:
        """Give the head's shape: heads and position count are those of CLIP's text tower, as in the official code."""
        return frame_blocks_config(
            hidden_size=width,
            num_hidden_layers=num_layers,
            num_attention_heads=text_config.num_attention_heads,
            max_position_embeddings=text_config.max_position_embeddings,
            attn_implementation=attn_implementation,
        )

    def _fused_projections(self) -> list[nn.Linear]:
        """Give the projections that are one tensor in the official code."""
        blocks = [module for module in self.modules() if isinstance(module, CLIPAttention)]
        return [projection for block in blocks for projection in (block.q_proj, block.k_proj, block.v_proj)]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Embedding):
            if any(module is projection for projection in self._fused_projections()):
                # the official fused in_proj keeps torch's xavier-uniform; its fan is E in and 3E out
                bound = math.sqrt(6 / (4 * self.config.hidden_size))
                init.uniform_(module.weight, -bound, bound)
            else:
                init.normal_(module.weight, std=std)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Give (B, T, D) frames that know of each other; the input itself is added once more at the end.

        Raises:
            ValueError: T is larger than the position table.
        """
        length, limit = frames.shape[1], self.position_embedding.num_embeddings
        if length > limit:
            raise ValueError(
                f"The temporal transformer has positions for {limit} frames, but the video has {length}. "
                "Sample fewer frames (`num_frames`)."
            )
        positions = self.position_embedding.weight[:length].to(frames.dtype)
        return self.encoder(frames + positions, None).last_hidden_state + frames
