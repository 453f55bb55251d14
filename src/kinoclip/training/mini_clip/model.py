"""Build the untrained mini CLIP, started where training is short."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from .pool import Pool, normalize
from .settings import Settings

CONTEXT_LENGTH = 77
_START_SCALE = 0.2


def build_model(settings: Settings, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Build the untrained model with the vocabulary of a tokenizer."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": settings.text_width,
        "intermediate_size": 4 * settings.text_width,
        "num_hidden_layers": settings.text_layers,
        "num_attention_heads": settings.text_width // 64,
        "max_position_embeddings": CONTEXT_LENGTH,
        "projection_dim": settings.text_width,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": settings.vision_width,
        "intermediate_size": 4 * settings.vision_width,
        "num_hidden_layers": settings.vision_layers,
        "num_attention_heads": settings.vision_width // 64,
        "image_size": settings.image_size,
        "patch_size": settings.patch_size,
        "projection_dim": settings.text_width,
    }
    torch.manual_seed(settings.seed)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings.text_width))


@torch.no_grad()
def start_image_tower(model: CLIPModel, pool: Pool) -> None:
    """Let patches start as the whitened main components of the pool, and positions as waves.

    Whitening gives outlines the weight that flat color has by nature; waves tell neighboring patches from distant ones.
    """
    embeddings = model.vision_model.embeddings
    size, width = embeddings.patch_size, embeddings.embed_dim
    step = max(1, len(pool.images) // 3000)
    patches = F.unfold(normalize(pool.images[::step]), size, stride=size).transpose(1, 2).flatten(0, 1)
    patches = patches[pool.masks[::step].flatten() > 0.05]
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    # A thousandth of the largest variance keeps the noise of compression from being blown up.
    whitened = (vectors / (values + 1e-3 * values[0]).sqrt()).T
    embeddings.patch_embedding.weight[: len(whitened)] = _START_SCALE * whitened.unflatten(1, (3, size, size))
    grid = embeddings.image_size // size
    embeddings.position_embedding.weight[1:] = _START_SCALE * _wave_positions(grid, width)


def _wave_positions(grid: int, width: int) -> Tensor:
    """Give each patch sines and cosines of its row and column, (patches, width)."""
    rates = math.pi / grid * torch.linspace(0.5, grid / 2, width // 4)
    angles = torch.arange(grid)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
