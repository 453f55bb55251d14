"""The last layer of CLIP's vision tower where only the class token of an image is read: what no one reads is not computed.

Of a layer's 12 D^2 multiplications for each token, the keys and values of all tokens take 2; the rest serves the token itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer, eager_attention_forward


class KeyedAttention(CLIPAttention):
    """CLIP's attention, which gives its keys too, can be asked for the first tokens alone, and lets them look at prompts."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        num_queries: int | None = None,
        prompts: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Let tokens look at each other and at prompts; nothing is computed of what prompts would see.

        Args:
            hidden_states: tokens (N, n, D).
            attention_mask: (N, 1, 1, n + P), added to the scores.
            num_queries: how many of the tokens look, from the first on; None for all.
            prompts: (N, P, D).
            kwargs: of the attention.

        Returns:
            What is attended to (N, num_queries, D), the weights where the implementation has them, and keys (N, n + P, H, C).
        """
        asked = hidden_states
        if prompts is not None:
            asked = torch.cat([hidden_states, prompts.to(hidden_states.dtype)], 1)
        projected = self.q_proj(hidden_states[:, :num_queries]), self.k_proj(asked), self.v_proj(asked)
        query, key, value = (tensor.unflatten(-1, (self.num_heads, self.head_dim)) for tensor in projected)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        heads = (tensor.transpose(1, 2) for tensor in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        attended, weights = attend(self, *heads, attention_mask, scaling=self.scale, dropout=dropout, **kwargs)
        return self.out_proj(attended.flatten(2)), weights, key


class LastLayer(CLIPEncoderLayer):
    """A layer of CLIP's vision tower that can leave out all but the class token; modules and parameters are CLIP's."""

    # False computes the other tokens all the same, to count operations as papers do
    skips_unread = True

    def __init__(self, config: CLIPVisionConfig):
        super().__init__(config)
        self.self_attn = KeyedAttention(config)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        class_token_only: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Give the tokens (N, n, D) after attention and MLP, or the class tokens (N, 1, D)."""
        num_read = 1 if class_token_only and self.skips_unread else None
        attended, _, _ = self.self_attn(self.layer_norm1(hidden_states), attention_mask, num_read, **kwargs)
        hidden_states = hidden_states[:, :num_read] + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


def replace_last_layer(vision_model: CLIPVisionModel) -> None:
    """Let a ViT take `class_token_only=True`, with which its `last_hidden_state` is the class token: (N, 1, D)."""
    for layer in vision_model.encoder.layers[-1:]:  # a ResNet's config has none
        # nothing is added to the modules: they keep their values, and the generator of random numbers its place
        layer.__class__, layer.self_attn.__class__ = LastLayer, KeyedAttention
