"""AIM's adapters in the layers of a frozen vision tower (ALT Table 7).

Taojiannan Yang, Yi Zhu, Yusheng Xie, Aston Zhang, Chen Chen, Mu Li: AIM: Adapting Image Models for Efficient Video Action
Recognition; ICLR 2023; https://arxiv.org/abs/2302.03024. An adapter is two linear layers with a quarter of the width between.
"""

from typing import Any, Literal

from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers.activations import ACT2FN

from kinoclip.modeling.layers.token_merging import MergingLayer

_MLP_SCALE = 0.5  # of the adapter beside the MLP: AIM section 3.4


class Adapter(nn.Module):
    """Two linear layers with a quarter of the width between them; the last one is initialized with zeros."""

    def __init__(self, config: CLIPVisionConfig):
        super().__init__()
        self.down = nn.Linear(config.hidden_size, config.hidden_size // 4)
        self.activation = ACT2FN[config.hidden_act]
        self.up = nn.Linear(config.hidden_size // 4, config.hidden_size)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Compute the residual: (..., D)."""
        return self.up(self.activation(self.down(hidden_states)))


class AdaptedLayer(MergingLayer):
    """A layer with adapters: S after attention, M parallel to the MLP, T after a first attention over the frames.

    In T, token i of each frame attends to token i of the others. Merged tokens are no longer the same patch; the paper
    combines both without a rule for that.
    """

    def __init__(self, config: CLIPVisionConfig, kind: Literal["S", "SM", "STM"]):
        super().__init__(config)
        names = {"S": "spatial", "M": "mlp", "T": "temporal"}
        self.adapters = nn.ModuleDict({names[letter]: Adapter(config) for letter in kind})

    def attend(
        self,
        hidden_states: Tensor,
        bias: Tensor | None,
        num_queries: int | None = None,
        num_frames: int = 1,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor]:
        """Compute attention over time, if there is an adapter for it, and over space: (B * T, num_queries, D), and keys."""
        if "temporal" in self.adapters:
            videos = self.layer_norm1(hidden_states).unflatten(0, (-1, num_frames)).transpose(1, 2)
            attended = self.self_attn(videos.flatten(0, 1), **kwargs)[0].unflatten(0, videos.shape[:2])
            hidden_states = hidden_states + self.adapters["temporal"](attended).transpose(1, 2).flatten(0, 1)
        attended, _, keys = self.self_attn(self.layer_norm1(hidden_states), bias, num_queries, **kwargs)
        return hidden_states[:, :num_queries] + attended + self.adapters["spatial"](attended), keys

    def transform(self, hidden_states: Tensor) -> Tensor:
        """Apply the MLP and its adapter with the residual: (N, n, D)."""
        normed = self.layer_norm2(hidden_states)
        transformed = hidden_states + self.mlp(normed)
        return transformed + _MLP_SCALE * self.adapters["mlp"](normed) if "mlp" in self.adapters else transformed
