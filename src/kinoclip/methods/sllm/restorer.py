"""The transformer that restores the features of frames that were not encoded."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import CLIPTextConfig
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPEncoder, CLIPPreTrainedModel

from kinoclip.components.temporal_transformer import frame_blocks_config

from .configuration_sllm import SllmConfig

# the official table has as many rows as CLIP's text has positions; only the first r + 1 are ever used
_POSITIONS = 77


class FrameRestorer(CLIPPreTrainedModel):
    """Restore the features of the frames between two encoded ones.

    Source: SLLM eq. 6-7; official `restore_image`.
    """

    config: CLIPTextConfig
    config_class = CLIPTextConfig
    main_input_name = "frames"

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.position_embedding = self.encoder = self.placeholders = None
        if not config.parameter_free:
            self.position_embedding = nn.Embedding(_POSITIONS, config.hidden_size)
            self.encoder = CLIPEncoder(config)
        if config.num_placeholders:
            self.placeholders = nn.Parameter(torch.empty(config.num_placeholders, config.hidden_size))
        self.post_init()

    @staticmethod
    def derive_config(config: SllmConfig, width: int) -> CLIPTextConfig:
        """Give the restorer's shape: blocks as in the temporal head, with width / 64 heads."""
        fills = config.restoration == "placeholders"
        return frame_blocks_config(
            hidden_size=width,
            num_hidden_layers=config.restorer_layers,
            num_attention_heads=max(1, width // 64),
            attn_implementation=config._attn_implementation,
            num_placeholders=restored_per_gap(config) if fills else 0,
            pair_output=config.pair_output,
            parameter_free=config.restoration == "attention",
        )

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # torch's own defaults: the official initializer does not reach the restorer
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight)
        elif isinstance(module, nn.Linear):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = module.in_features**-0.5
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif module is self and self.placeholders is not None:
            init.normal_(self.placeholders, std=self.config.initializer_range)

    def directions(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Run the transformer over all pairs of neighbors, once in each order.

        Args:
            frames: (B, K, D), not unit length.

        Returns:
            Left before right and right before left, (B, K - 1, D) each.
        """
        left, right = frames[:, :-1], frames[:, 1:]
        pairs = torch.stack([torch.stack([left, right], 2), torch.stack([right, left], 2)])  # (2, B, K - 1, 2, D)
        tokens = pairs.flatten(0, 2)
        if self.encoder is None:
            for _ in range(self.config.num_hidden_layers):
                tokens = scaled_dot_product_attention(tokens, tokens, tokens)
        else:
            positions = self.position_embedding.weight[:2].to(frames.dtype)
            tokens = self.encoder(tokens + positions, None).last_hidden_state
        pooled = tokens.mean(1) if self.config.pair_output == "mean" else tokens[:, 0]
        left_first, right_first = pooled.unflatten(0, pairs.shape[:3])
        return left_first, right_first

    def forward(self, frames: Tensor, shares: Tensor) -> Tensor:
        """Restore the frames between neighbors.

        Args:
            frames: (B, K, D), not unit length.
            shares: (R,), where in its gap each restored frame lies, from 0 at the left to 1 at the right.

        Returns:
            (B, K - 1, R, D).
        """
        if self.placeholders is not None:
            return self._fill(frames)
        left_first, right_first = (direction[:, :, None] for direction in self.directions(frames))
        shares = shares.to(frames)[:, None]
        return (1 - shares) * left_first + shares * right_first

    def _fill(self, frames: Tensor) -> Tensor:
        """Let the transformer write learned placeholders between each pair; source: SLLM Table 13, as we read it."""
        count = len(self.placeholders)
        pairs = torch.stack([frames[:, :-1], frames[:, 1:]], 2)  # (B, K - 1, 2, D)
        inner = self.placeholders.to(frames.dtype).expand(*pairs.shape[:2], count, -1)
        tokens = torch.cat([pairs[:, :, :1], inner, pairs[:, :, 1:]], 2)
        positions = self.position_embedding.weight[: count + 2].to(frames.dtype)
        filled = self.encoder(tokens.flatten(0, 1) + positions, None).last_hidden_state
        return filled[:, 1:-1].unflatten(0, pairs.shape[:2])


def restored_per_gap(config: SllmConfig) -> int:
    """Give how many frames are restored between two kept ones."""
    return {"all": config.rate - 1, "one": 1, "none": 0}[config.restored_per_gap]
