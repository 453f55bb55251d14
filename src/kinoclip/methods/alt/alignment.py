"""ALT's alignment: from the tokens of a frame to entities of a corpus, and to one query (eq. 4-6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .configuration_alt import AltConfig
from .decoder import Mlp


def compare_entities(tokens: Tensor, corpus: Tensor) -> Tensor:
    """Give the cosine of each token (..., E) and entity (K, E): (..., K)."""
    return normalize(tokens, dim=-1) @ normalize(corpus, dim=-1).T


def assign_entities(scores: Tensor, temperature: float, *, noise: bool = False, hard: bool = True) -> Tensor:
    """Share each token among the entities.

    Args:
        scores: (..., K).
        temperature: divides them.
        noise: add Gumbel noise.
        hard: everything to the best entity, with the gradient of the soft shares (straight-through).

    Returns:
        (..., K), sums to one.

    Source: ALT eq. 4-5.
    """
    scaled = scores.float() / temperature
    if noise:
        scaled = scaled - torch.empty_like(scaled).exponential_().log()
    soft = scaled.softmax(-1)
    if hard:
        best = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1)
        soft = best + (soft - soft.detach())
    return soft.to(scores.dtype)


class RegionProjection(nn.Module):
    """From the vision tower to the shared space, as CLIP does it for the class token."""

    def __init__(self, config: AltConfig):
        super().__init__()
        vision = config.vision_config
        self.norm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.projection = nn.Linear(vision.hidden_size, config.projection_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project (..., D) to (..., E)."""
        return self.projection(self.norm(tokens))


class TokenReduction(nn.Module):
    """Make one query of the entities of a frame (eq. 6)."""

    def __init__(self, config: AltConfig):
        super().__init__()
        self.mlp_first = config.align_mlp_first
        self.weights = nn.Linear(config.aligned_tokens, 1) if config.learns_reduction else None
        self.mlp = Mlp(config, config.align_mlp_ratio)

    def forward(self, entities: Tensor, sizes: Tensor | None) -> Tensor:
        """Reduce (B, T, n, E) to (B, T, E); a weighted mean needs the patches of each token, `sizes` (B, T, n)."""
        if self.mlp_first:
            return self._reduce(self.mlp(entities), sizes)
        return self.mlp(self._reduce(entities, sizes))

    def _reduce(self, entities: Tensor, sizes: Tensor | None) -> Tensor:
        if self.weights is not None:
            return self.weights(entities.transpose(2, 3))[..., 0]
        if sizes is not None:
            return (entities * sizes[..., None]).sum(2) / sizes.sum(2)[..., None]
        return entities.mean(2)


def count_patches(tokens: Tensor, regions: Tensor | None) -> Tensor:
    """Count the patches of each token (B, T, n, E), the class token, which counts once, first: (B, T, n)."""
    counts = torch.ones_like(tokens[..., 0])
    if regions is None or tokens.shape[2] == 1:
        return counts
    return counts.index_fill(2, torch.arange(1, counts.shape[2], device=counts.device), 0).scatter_add(
        2, regions + 1, torch.ones_like(regions, dtype=counts.dtype)
    )
