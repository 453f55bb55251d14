"""Restorers of SLLM and the losses that train them; a row of `RESTORERS` or `RESTORATION_LOSSES` adds one.

A restorer is a subclass of `Restorer`. Unless its weights depend on R, the number of restored frames in a gap, a trained model
can be used at another rate. A loss compares restored features (N, D) with those of the discarded frames (N, D) and returns a scalar.
"""

import math
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, mse_loss, scaled_dot_product_attention
from transformers import CLIPTextConfig
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPEncoder, CLIPPreTrainedModel

from kinoclip.modeling.layers.temporal_transformer import frame_blocks_config

# the official table has as many rows as CLIP's text has positions; only the first r + 1 are ever used
_POSITIONS = 77


def blend(left: Tensor, right: Tensor, shares: Tensor) -> Tensor:
    """Interpolate between two features (B, G, D) of each gap: (B, G, R, D).

    Source: SLLM eq. 6, last line.
    """
    shares = shares.to(left)[..., None]
    return (1 - shares) * left[:, :, None] + shares * right[:, :, None]


def directions(mix: Callable[[Tensor], Tensor], output: str, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mix all pairs of neighbors of (B, K, D), once in each order: (B, K - 1, D) each.

    Args:
        mix: from pairs of tokens (N, 2, D) to the same shape.
        output: of a pair: the "mean" of both tokens, or the "first" token.
        frames: of which neighbors are mixed.
    """
    left, right = frames[:, :-1], frames[:, 1:]
    pairs = torch.stack([torch.stack([left, right], 2), torch.stack([right, left], 2)])  # (2, B, K - 1, 2, D)
    tokens = mix(pairs.flatten(0, 2))
    pooled = tokens.mean(1) if output == "mean" else tokens[:, 0]
    left_first, right_first = pooled.unflatten(0, pairs.shape[:3])
    return left_first, right_first


class Restorer(nn.Module):
    """Restores the features of the frames between encoded ones."""

    @classmethod
    def for_config(cls, config: Any, width: int) -> Self:
        """Build the restorer for an `SllmConfig` and features of some width D."""
        return cls()

    def reset_parameters(self) -> None:
        """Initialize the parameters that no checkpoint filled, with `transformers.initialization`."""

    def forward(self, frames: Tensor, shares: Tensor) -> Tensor:
        """Restore frames between neighbors.

        Args:
            frames: (B, K, D), the encoded frames.
            shares: (R,), or (B, K - 1, R), positions of the restored frames in their gap, from 0 at the earlier neighbor to 1
                at the later one (lambda in eq. 6).

        Returns:
            (B, K - 1, R, D).
        """
        raise NotImplementedError


class LinearRestorer(Restorer):
    """Interpolate between the two neighbors; a control without parameters."""

    def forward(self, frames: Tensor, shares: Tensor) -> Tensor:
        """Restore frames, see `Restorer`."""
        return blend(frames[:, :-1], frames[:, 1:], shares)


class NearestRestorer(LinearRestorer):
    """Repeat the nearer neighbor, the earlier one in the middle of a gap; a control without parameters."""

    def forward(self, frames: Tensor, shares: Tensor) -> Tensor:
        """Restore frames, see `Restorer`."""
        return super().forward(frames, (shares > 0.5).to(shares))


class ParameterFreeRestorer(Restorer):
    """Blend two directions of attention without parameters over the pair of neighbors.

    Source: SLLM eq. 6-7.
    """

    def __init__(self, layers: int, pair_output: str):
        super().__init__()
        self.layers, self.pair_output = layers, pair_output

    @classmethod
    def for_config(cls, config: Any, width: int) -> Self:
        """Build the restorer, see `Restorer`."""
        return cls(config.restorer_layers, config.pair_output)

    def mix(self, pairs: Tensor) -> Tensor:
        """Apply eq. 7 to pairs of tokens (N, 2, D)."""
        for _ in range(self.layers):
            pairs = scaled_dot_product_attention(pairs, pairs, pairs)
        return pairs

    def forward(self, frames: Tensor, shares: Tensor) -> Tensor:
        """Restore frames, see `Restorer`."""
        return blend(*directions(self.mix, self.pair_output, frames), shares)


class FrameBlocks(CLIPPreTrainedModel):
    """Transformer blocks with positions over the pair of neighbors; the base of the restorers with parameters."""

    config: CLIPTextConfig
    main_input_name = "frames"

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.position_embedding = nn.Embedding(_POSITIONS, config.hidden_size)
        self.encoder = CLIPEncoder(config)

    @classmethod
    def for_config(cls, config: Any, width: int, **fields: Any) -> Self:
        """Build the restorer of features of some width: blocks as in the temporal head, with width / 64 heads."""
        shape = frame_blocks_config(
            hidden_size=width,
            num_hidden_layers=config.restorer_layers,
            num_attention_heads=max(1, width // 64),
            attn_implementation=config._attn_implementation,
            pair_output=config.pair_output,
            **fields,
        )
        return cls._from_config(shape)

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

    def mix(self, tokens: Tensor) -> Tensor:
        """Apply the blocks to tokens (N, L, D) with positions."""
        positions = self.position_embedding.weight[: tokens.shape[1]].to(tokens.dtype)
        return self.encoder(tokens + positions, None).last_hidden_state


class FfresRestorer(FrameBlocks):
    """Blend two directions of a small transformer over the pair of neighbors (FFRes).

    Source: SLLM eq. 6-7; official `restore_image`.
    """

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.post_init()

    def forward(self, frames: Tensor, shares: Tensor) -> Tensor:
        """Restore frames, see `Restorer`."""
        return blend(*directions(self.mix, self.config.pair_output, frames), shares)


class PlaceholderRestorer(FrameBlocks):
    """Fill learned placeholders between the pair of neighbors with the transformer, in one pass.

    Source: SLLM Table 13, as we read it.
    """

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.placeholders = nn.Parameter(torch.empty(config.num_placeholders, config.hidden_size))
        self.post_init()

    @classmethod
    def for_config(cls, config: Any, width: int, **fields: Any) -> Self:
        """Build the restorer with a placeholder for each restored frame of a gap."""
        return super().for_config(config, width, num_placeholders=config.restored_frames, **fields)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.normal_(self.placeholders, std=self.config.initializer_range)

    def forward(self, frames: Tensor, shares: Tensor) -> Tensor:
        """Restore frames, whose positions are learned; see `Restorer`."""
        pairs = torch.stack([frames[:, :-1], frames[:, 1:]], 2)  # (B, K - 1, 2, D)
        inner = self.placeholders.to(frames.dtype).expand(*pairs.shape[:2], *self.placeholders.shape)
        tokens = torch.cat([pairs[:, :, :1], inner, pairs[:, :, 1:]], 2)
        return self.mix(tokens.flatten(0, 1))[:, 1:-1].unflatten(0, pairs.shape[:2])


def restoration_kl(restored: Tensor, targets: Tensor) -> Tensor:
    """Compute KL(softmax(target) || softmax(restored)) over the features (N, D), averaged over N.

    A constant added to all features of a frame does not count; matching takes care of that.

    Source: official `train.py`.
    """
    target = targets.float().log_softmax(-1)
    return (target.exp() * (target - restored.float().log_softmax(-1))).sum(-1).mean()


def restoration_mse(restored: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean squared difference of the features (N, D)."""
    return mse_loss(restored.float(), targets.float())


def restoration_cosine(restored: Tensor, targets: Tensor) -> Tensor:
    """Compute one minus the cosine of the features (N, D), averaged over N."""
    return 1 - cosine_similarity(restored.float(), targets.float(), dim=-1).mean()


RESTORERS: dict[str, Any] = {
    "ffres": FfresRestorer,
    "attention": ParameterFreeRestorer,
    "placeholders": PlaceholderRestorer,
    "linear": LinearRestorer,
    "nearest": NearestRestorer,
}
RESTORATION_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": restoration_kl,
    "mse": restoration_mse,
    "cosine": restoration_cosine,
}
