"""The temporal prompts of DSTPR: information about the other frames for each layer of the frozen vision tower.

A network of `reparameterization` re-encodes them, beta of eq. 12.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPPreTrainedModel

from kinoclip.methods.dstpr.configuration_dstpr import DstprConfig
from kinoclip.methods.dstpr.prompt_kinds import PROMPT_KINDS
from kinoclip.methods.dstpr.reparameterization import Reparameterization
from kinoclip.modeling.layers.class_token import LastLayer


class LayerPrompts(nn.Module):
    """Compute the prompts of one layer, the P of eq. 10, from its input class tokens: those of all kinds that are on."""

    def __init__(self, config: DstprConfig):
        super().__init__()
        width = config.vision_config.hidden_size
        self.interchange = config.interchange
        self.kinds = [kind for kind in PROMPT_KINDS.values() if kind.is_on(config)]
        reads = any(kind.reads_tokens for kind in self.kinds)
        self.class_projection = nn.Linear(width, width) if reads else None
        for kind in self.kinds:
            for name, module in kind.build(config).items():
                self.add_module(name, module)

    def forward(self, class_tokens: Tensor) -> Tensor:
        """Compute prompts (B, T, P, C) of class tokens (B, T, C): class prompt, global ones, interchange.

        Source: DSTPR eq. 8-10.
        """
        projected = class_tokens if self.class_projection is None else self.class_projection(class_tokens)
        return torch.cat([kind.compute(self, projected) for kind in self.kinds], 2)


class TemporalPrompts(CLIPPreTrainedModel):
    """The additions of DSTPR to CLIP's vision tower: re-encoded prompts for its layers, and vectors for the frames.

    They are not part of the layers, which gradient checkpointing computes twice: a batch norm must count each batch once.
    """

    config: DstprConfig

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
        """Add the vector of their frame to tokens (B, T, M, C); with another T, that of the nearest frame."""
        if self.time_embedding is None:
            return tokens
        table = self.time_embedding.weight
        if len(table) != tokens.shape[1]:
            table = interpolate(table.T[None], tokens.shape[1], mode="nearest")[0].T
        return tokens + table[:, None]

    def forward(self, class_tokens: Tensor, layer: int) -> Tensor | None:
        """Compute the prompts (B, T, P, C) of a layer with input class tokens (B, T, C); None if it has none."""
        name = str(layer)
        if name not in self.layers:
            return None
        prompts = self.layers[name](class_tokens)
        if not self.reparameterization:
            return prompts
        return self.reparameterization["shared" if "shared" in self.reparameterization else name](prompts)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super(CLIPPreTrainedModel, self)._init_weights(module)  # not as CLIP's attention
        if isinstance(module, nn.Embedding) and module is not self.time_embedding:
            # as Vita-CLIP initializes its prompts
            vision = self.config.vision_config
            pixels = 3 * int(vision.patch_size) ** 2
            bound = math.sqrt(6 / (pixels + vision.hidden_size))
            init.uniform_(module.weight, -bound, bound)
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv3d | nn.LSTM):
            module.reset_parameters()  # as torch does
            if getattr(module, "starts_xavier", False):
                init.xavier_uniform_(module.weight)
                init.zeros_(module.bias)
            if getattr(module, "starts_at_zero", False):
                for parameter in module.parameters():
                    init.zeros_(parameter)


class PromptedLayer(LastLayer):
    """A layer of CLIP's vision tower with prompts in its attention, but not in its MLP (eq. 13-14)."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        prompts: Tensor | None = None,
        class_token_only: bool = False,
        **kwargs: Any,
    ) -> Tensor:
        """Return tokens (N, 1 + M, C), or class tokens, after attention to themselves and prompts (N, P, C), and MLP."""
        if prompts is not None:
            kwargs["prompts"] = self.layer_norm1(prompts)
        return super().forward(hidden_states, attention_mask, class_token_only, **kwargs)
