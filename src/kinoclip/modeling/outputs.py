"""Data classes that pass between the stages of a recognizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclass
class FrameFeatures(ModelOutput):
    """Features of the frames of videos.

    Args:
        embeds: (B, T, D), in the shared space, not unit length.
        tokens: (B, T, M, D) image tokens, if the method uses them.
        regions: (B, T, N), the token that each of N patches was merged into, if tokens merge.
        kept: (B, T', D), in place of `embeds`: the encoded frames, from which SLLM restores the others (`encode_fixed`).
        discarded: (B, T - T', D), the features of the others, if they were encoded too.
    """

    embeds: Tensor = None  # ModelOutput wants a default
    tokens: Tensor | None = None
    regions: Tensor | None = None
    kept: Tensor | None = None
    discarded: Tensor | None = None


def candidate_axis(name: str) -> int:
    """Return the axis of candidates of a tensor in `TextFeatures.tensors()`."""
    return 0 if name in ("words", "word_mask") else 1


@dataclass
class TextFeatures(ModelOutput):
    """Features of the candidates.

    Args:
        embeds: (P, K, D), one row per template and candidate, in the shared space, not unit length.
        words: (K, L, D), every position of the text in the shared space, templates in succession; only for methods that
            read words.
        word_mask: (K, L), true where a position belongs to the candidate's own label.
        branches: name of a further text branch to its (P, K, E) embeddings of the same candidates, or mask of them.
    """

    embeds: Tensor = None  # ModelOutput wants a default
    words: Tensor | None = None
    word_mask: Tensor | None = None
    branches: dict[str, Tensor] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, as they are saved: "embeds", "words", "branch_chinese", ..."""
        plain = {name: tensor for name, tensor in self.items() if name != "branches"}  # items() leaves out None
        return plain | {f"branch_{name}": tensor for name, tensor in (self.branches or {}).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Build the features from `tensors()`."""
        branches = {name.removeprefix("branch_"): t for name, t in tensors.items() if name.startswith("branch_")}
        plain = {name: tensor for name, tensor in tensors.items() if not name.startswith("branch_")}
        return cls(**plain, branches=branches or None)


@dataclass
class Explanation(ModelOutput):
    """Evidence for the answers of a recognizer; None where its method has no such evidence.

    Args:
        saliency: (B, K, T), the weight of each frame for each candidate, sums to one over T.
        attention: (B, T, h, w), attention of the class token of a frame to each patch in the last layer, the mean over heads;
            sums to one over a frame.
        regions: (B, T, h, w), the token that each patch was merged into, from 0 to M - 1.
        entities: (B, T, M), the entity of the corpus that each region is aligned with, an index into `entity_names`; M is 1
            if frames are aligned as a whole.
        entity_scores: (B, T, M), the cosine of each region and its entity.
        entity_names: of the corpus, each unique.
        english: (B, K), the probabilities by English names alone, if candidates have Chinese ones too.
        chinese: (B, K), the probabilities by Chinese names alone.
        frames: indices of these T frames among those that are matched, if others were restored; None for all.
    """

    saliency: Tensor | None = None
    attention: Tensor | None = None
    regions: Tensor | None = None
    entities: Tensor | None = None
    entity_scores: Tensor | None = None
    entity_names: list[str] | None = None
    english: Tensor | None = None
    chinese: Tensor | None = None
    frames: list[int] | None = None


@dataclass
class RecognitionOutput(ModelOutput):
    """The answer of a recognizer.

    Args:
        loss: scalar, the sum of `losses`; only with labels.
        logits: (B, K), scaled, so that their `softmax` are probabilities.
        votes: name of a branch to its unscaled scores (B, K).
        losses: name of a loss to its value.
        video_embeds: (B, D), or (B, K, D) where the pooling depends on the candidate.
        frames: the features of the frames; can be passed again as `frame_features=`.
        text: the features of the candidates; can be passed again as `text_features=`.
        branch_logits: name of a branch to its logits (B, K), of which `logits` are the fusion; None from an export.
        hidden_states: the tokens (B * T, 1 + M, C) before the first layer of the vision tower and after each; the last one may
            hold the class token only. Those that were not requested are None.
        attentions: the attention weights (B * T, heads, queries, keys) of each layer.
    """

    loss: Tensor | None = None
    logits: Tensor = None
    votes: dict[str, Tensor] = None
    losses: dict[str, Tensor] | None = None
    video_embeds: Tensor | None = None
    frames: FrameFeatures | None = None
    text: TextFeatures | None = None
    branch_logits: dict[str, Tensor] | None = None
    hidden_states: tuple[Tensor | None, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
