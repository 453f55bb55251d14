"""The temporal prompts of DSTPR: what each layer of the frozen vision tower is told about the other frames."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPPreTrainedModel

from kinoclip.components.class_token import LastLayer

from .configuration_dstpr import DstprConfig
from .reparameterization import Reparameterization, TemporallyAdaptiveConvolution


class LayerPrompts(nn.Module):
    """Make the prompts of one layer, the P of eq. 10, from the class tokens that enter it."""

    def __init__(self, config: DstprConfig):
        super().__init__()
        vision = config.vision_config
        width = vision.hidden_size
        self.interchange = config.interchange
        self.class_projection = self.class_norm = self.class_attention = None
        self.global_prompts = self.interchange_prompts = None
        if config.class_prompts or config.interchange != "none":
            self.class_projection = nn.Linear(width, width)
        if config.class_prompts:
            self.class_norm = nn.LayerNorm(width, eps=vision.layer_norm_eps)
            self.class_attention = CLIPAttention(vision)
        if config.num_global_prompts:
            self.global_prompts = nn.Embedding(config.num_global_prompts, width)
        if config.interchange != "none":
            self.interchange_prompts = nn.Embedding(config.num_frames, width)

    def forward(self, class_tokens: Tensor) -> Tensor:
        """Give (B, T, P, C) prompts for class tokens (B, T, C): class prompt, global ones, interchange.

        Raises:
            ValueError: T is not the number of frames that exchange prompts.

        Source: DSTPR eq. 8-10.
        """
        batch, length, _ = class_tokens.shape
        projected = class_tokens if self.class_projection is None else self.class_projection(class_tokens)
        kinds = []
        if self.class_attention is not None:
            attended, _ = self.class_attention(self.class_norm(projected))
            kinds.append((projected + attended)[:, :, None])
        if self.global_prompts is not None:
            kinds.append(self.global_prompts.weight.expand(batch, length, -1, -1))
        if self.interchange_prompts is not None:
            slots = self.interchange_prompts.weight
            if len(slots) != length:
                raise ValueError(
                    f"This DSTPR exchanges prompts between {len(slots)} frames, but the video has {length}. Sample "
                    f'{len(slots)} frames (`num_frames`), or train a model with interchange="none".'
                )
            # every frame gets the tokens of all, or its own token in every slot
            told = projected[:, :, None] if self.interchange == "own" else projected[:, None]
            kinds.append((slots + told).expand(-1, length, -1, -1))
        return torch.cat(kinds, 2)


class TemporalPrompts(CLIPPreTrainedModel):
    """All that DSTPR adds to CLIP's vision tower: prompts for its layers, re-encoded, and vectors for the frames.

    It stands outside of the layers, and of what is computed twice with gradient checkpointing: a batch norm must see
    each batch once.
    """

    config: DstprConfig
    config_class = DstprConfig

    def __init__(self, config: DstprConfig):
        super().__init__(config)
        width = config.vision_config.hidden_size
        self.time_embedding = nn.Embedding(config.num_frames, width) if config.embeds_time else None
        self.layers = nn.ModuleDict({str(layer): LayerPrompts(config) for layer in config.prompted_layers})
        networks = ["shared"] if config.reparam_shared else list(self.layers)
        if config.reparam == "none" or not self.layers:
            networks = []
        self.reparameterization = nn.ModuleDict({name: Reparameterization(config) for name in networks})
        self.post_init()

    def add_time(self, tokens: Tensor) -> Tensor:
        """Add to the tokens (B, T, M, C) the vector of their frame; with another T, that of the nearest frame."""
        if self.time_embedding is None:
            return tokens
        table = self.time_embedding.weight
        if len(table) != tokens.shape[1]:
            table = interpolate(table.T[None], tokens.shape[1], mode="nearest")[0].T
        return tokens + table[:, None]

    def forward(self, class_tokens: Tensor, layer: int) -> Tensor | None:
        """Give the prompts (B, T, P, C) of a layer that class tokens (B, T, C) enter, or None if it has none."""
        name = str(layer)
        if name not in self.layers:
            return None
        prompts = self.layers[name](class_tokens)
        if not self.reparameterization:
            return prompts
        return self.reparameterization["shared" if "shared" in self.reparameterization else name](prompts)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Embedding) and module is not self.time_embedding:
            # as Vita-CLIP starts its prompts
            vision = self.config.vision_config
            pixels = 3 * int(vision.patch_size) ** 2
            bound = math.sqrt(6 / (pixels + vision.hidden_size))
            init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv3d | nn.LSTM):
            module.reset_parameters()  # as torch starts it
            parents = [parent for parent in self.modules() if module in parent.children()]
            if any(isinstance(parent, CLIPAttention) for parent in parents):
                init.xavier_uniform_(module.weight)
                init.zeros_(module.bias)
            if any(_starts_at_zero(module, parent, self.config) for parent in parents):
                for parameter in module.parameters():
                    init.zeros_(parameter)


def _starts_at_zero(module: nn.Module, parent: nn.Module, config: DstprConfig) -> bool:
    """Tell whether a module is the last of a network that changes nothing at first."""
    if isinstance(parent, TemporallyAdaptiveConvolution):
        return module is parent.expand
    is_last = isinstance(parent, Reparameterization) and module is parent.up
    return is_last and config.reparam_zero_init and config.reparam_residual


class PromptedLayer(LastLayer):
    """A layer of CLIP's vision tower with prompts in its attention, which are gone before its MLP (eq. 13-14)."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        prompts: Tensor | None = None,
        class_token_only: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Give the (N, 1 + M, C) tokens, or the first, after attention to themselves and the prompts (N, P, C), and MLP."""
        if prompts is not None:
            kwargs["prompts"] = self.layer_norm1(prompts)
        return super().forward(hidden_states, attention_mask, class_token_only, **kwargs)
