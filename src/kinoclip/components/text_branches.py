"""Second texts that any recognizer on CLIP can vote by: attributes of the video, and Chinese names of the candidates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import ChineseCLIPConfig, ChineseCLIPModel, ChineseCLIPTextModel, CLIPTextModel
from transformers import initialization as init


class AttributesBranch(nn.Module):
    """Match the sentence of a video's attributes with the candidates.

    Source: BIKE sec. 2.2; official `modules/video_clip.py`, `sentence_text_logit`.
    """

    def __init__(self, config: Any):
        super().__init__()
        width = config.projection_dim
        if config.attributes == "own":
            width = config.attribute_projection_dim or width
            self.text_model = CLIPTextModel._from_config(config.attribute_text_config)
            self.text_projection = nn.Linear(config.attribute_text_config.hidden_size, width, bias=False)
        if config.attribute_head == "mlp":
            self.sentence_fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            self.query_fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        else:
            self.sentence_fc = self.query_fc = nn.Identity()
            self.logit_scale = None  # untrained, the branch counts as CLIP does

    def encode(self, input_ids: Tensor) -> Tensor:
        """Encode texts (N, L) with the branch's own tower: (N, E), not unit length."""
        return self.text_projection(self.text_model(input_ids=input_ids).pooler_output)

    def forward(self, sentences: Tensor, candidates: Tensor) -> Tensor:
        """Score attribute sentences (B, E) against candidates (K, E), unscaled: (B, K)."""
        sentences = normalize(self.sentence_fc(normalize(sentences, dim=-1)), dim=-1)
        return sentences @ normalize(self.query_fc(normalize(candidates, dim=-1)), dim=-1).T

    @torch.no_grad()
    def start_weights(self, clip: Any) -> None:
        """Initialize the weights that no checkpoint filled.

        Args:
            clip: the CLIP that the branch is built on. The temperature starts at its value, as in the official code, and an
                own text tower of the same size as a copy of its text tower.
        """
        std = clip.config.initializer_range
        if self.logit_scale is not None:
            init.copy_(self.logit_scale, clip.logit_scale)
        for layer in (*self.sentence_fc.children(), *self.query_fc.children()):
            if isinstance(layer, nn.Linear):
                init.normal_(layer.weight, std=std)
                init.zeros_(layer.bias)
        if clip.config.attributes != "own":
            return
        own, source = _tower(self), {} if clip.text_model is None else _tower(clip)
        if {name: t.shape for name, t in own.items()} == {name: t.shape for name, t in source.items()}:
            for name, tensor in own.items():
                init.copy_(tensor, source[name])
        else:
            init.normal_(self.text_projection.weight, std=std)


class ChineseBranch(nn.Module):
    """Encode the Chinese names of the candidates with Chinese-CLIP's text tower.

    A row of padding alone stands for a candidate without a name. Its features are zeros, which no name has.

    Source: DSTPR sec. 3.4; Chinese-CLIP: the [CLS] position of the last layer, projected.
    """

    def __init__(self, config: Any):
        super().__init__()
        self.text_model = ChineseCLIPTextModel._from_config(config.chinese_text_config, add_pooling_layer=False)
        self.text_projection = nn.Linear(config.chinese_text_config.hidden_size, config.projection_dim, bias=False)

    def train(self, mode: bool = True) -> ChineseBranch:
        """Switch to training; the tower is frozen, so its dropout stays off."""
        super().train(mode)
        self.text_model.eval()
        return self

    def read(self, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last states (N, L, W) of texts (N, L), and where they are not padding (N, L)."""
        present = input_ids != self.text_model.config.pad_token_id
        first = (
            torch.arange(input_ids.shape[1], device=input_ids.device) == 0
        )  # attention needs something to attend to
        states = self.text_model(input_ids, attention_mask=(present | first).long()).last_hidden_state
        return states, present

    def forward(self, input_ids: Tensor) -> Tensor:
        """Encode texts (N, L), padded with the tokenizer's padding: (N, D), not unit length."""
        states, present = self.read(input_ids)
        names = self.text_projection(states[:, 0])
        return names * present.any(1, keepdim=True).to(names.dtype)


def without_name(names: Tensor) -> Tensor:
    """Return which candidates of Chinese features (P, K, D) have no name: (K,)."""
    return (names == 0).all(-1).all(0)


def complete_votes(chinese: Tensor, english: Tensor, missing: Tensor) -> Tensor:
    """Replace the Chinese votes for candidates without a Chinese name by their English ones.

    The two languages score on different levels. So that a candidate is not ahead or behind for its missing name, its English
    vote is shifted by the mean difference that the two languages have on the other candidates of the same video.

    Args:
        chinese: (B, K).
        english: (B, K).
        missing: (K,), see `without_name`.

    Returns:
        (B, K), the Chinese votes of the candidates that have a name, unchanged.
    """
    named = (~missing).to(chinese.dtype)
    level = ((chinese - english).detach() * named).sum(1, keepdim=True) / named.sum().clamp_min(1)
    return torch.where(missing, english + level, chinese)


def _tower(model: Any) -> dict[str, Tensor]:
    """Return the weights of a text tower and its projection by name."""
    return {name: p for name, p in model.named_parameters() if name.startswith(("text_model.", "text_projection."))}


def read_chinese_clip(source: str, width: int) -> ChineseCLIPModel:
    """Read a Chinese-CLIP whose shared space is `width` wide.

    Args:
        source: a folder or hub id in the Transformers layout.
        width: D of the recognizer's shared space.

    Raises:
        ValueError: it is no Chinese-CLIP, or its space has another width.
    """
    if ChineseCLIPConfig.get_config_dict(source)[0].get("model_type") != "chinese_clip":
        raise ValueError(f"{source} is no Chinese-CLIP checkpoint. Give a folder or hub id of one.")
    found = ChineseCLIPConfig.from_pretrained(source).projection_dim
    if found != width:
        raise ValueError(
            f"The Chinese-CLIP {source} has a space of {found} dimensions, and this recognizer one of {width}. "
            "Take the Chinese-CLIP of the same size: vit-base-patch16 for 512, vit-large-patch14 for 768."
        )
    return ChineseCLIPModel.from_pretrained(source, dtype=torch.float32)
