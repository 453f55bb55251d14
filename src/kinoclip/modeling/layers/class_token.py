"""The last layer of CLIP's vision tower where only the class token of an image is used: other outputs are not computed.

Of a layer's 12 D^2 multiplications for each token, the keys and values of all tokens take 2; the rest is for the token itself.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer, eager_attention_forward


class KeyedAttention(CLIPAttention):
    """CLIP's attention with keys in the output, optional queries of the first tokens only, and optional prompts."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        num_queries: int | None = None,
        prompts: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Attend from the first `num_queries` tokens (N, n, D), or all, to tokens and prompts (N, P, D).

        Returns outputs (N, num_queries, D), the weights if the implementation returns them, and keys (N, n + P, H, C). The mask
        (N, 1, 1, n + P) is added to the scores.
        """
        context = hidden_states
        if prompts is not None:
            context = torch.cat([hidden_states, prompts.to(hidden_states.dtype)], 1)
        projected = self.q_proj(hidden_states[:, :num_queries]), self.k_proj(context), self.v_proj(context)
        query, key, value = (tensor.unflatten(-1, (self.num_heads, self.head_dim)) for tensor in projected)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        heads = (tensor.transpose(1, 2) for tensor in (query, key, value))
        dropout = self.dropout if self.training else 0.0
        attended, weights = attend(self, *heads, attention_mask, scaling=self.scale, dropout=dropout, **kwargs)
        return self.out_proj(attended.flatten(2)), weights, key


class LastLayer(CLIPEncoderLayer):
    """A layer of CLIP's vision tower that can return the class token only; parameters are CLIP's."""

    # False computes the other tokens too, to count operations as papers do
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
        """Return the tokens (N, n, D) after attention and MLP, or the class tokens (N, 1, D)."""
        num_read = 1 if class_token_only and self.skips_unread else None
        return self.transform(self.attend(hidden_states, attention_mask, num_read, **kwargs)[0])

    def attend(
        self, hidden_states: Tensor, bias: Tensor | None, num_queries: int | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute self-attention with its residual: (N, num_queries, D), and the keys of all tokens (N, n, H, C)."""
        attended, _, keys = self.self_attn(self.layer_norm1(hidden_states), bias, num_queries, **kwargs)
        return hidden_states[:, :num_queries] + attended, keys

    def transform(self, hidden_states: Tensor) -> Tensor:
        """Apply the MLP with its residual: (N, n, D)."""
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


def replace_last_layer(vision_model: CLIPVisionModel) -> None:
    """Make a ViT accept `class_token_only=True`, with which `last_hidden_state` is the class token: (N, 1, D)."""
    layers = vision_model.encoder.layers
    if not layers:  # a ResNet's config has no layers
        return
    old = layers[-1]
    with torch.device("meta"):  # a random initialization would shift the seeds of all later modules
        last = LastLayer(vision_model.config)
    attention = last.self_attn
    _move_children(old, last)
    last.self_attn = attention
    _move_children(old.self_attn, attention)
    layers[-1] = last


def _move_children(source: nn.Module, target: nn.Module) -> None:
    """Replace the children of a module by those of another one, with the mark that they are initialized."""
    for name, child in source.named_children():
        setattr(target, name, child)
    target._is_hf_initialized = getattr(source, "_is_hf_initialized", False)
