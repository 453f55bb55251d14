"""What passes between the stages of a recognizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor
from transformers.utils.generic import ModelOutput


@dataclass
class FrameFeatures(ModelOutput):
    """What the encoder knows of each frame of a video.

    Args:
        embeds: (B, T, D), in the shared space, not unit length.
        tokens: (B, T, M, D) image tokens, where a method uses them.
        regions: (B, T, N), the token that each of N patches was merged into, where tokens merge.
    """

    embeds: Tensor = None  # type: ignore[assignment]  # ModelOutput wants a default
    tokens: Tensor | None = None
    regions: Tensor | None = None


@dataclass
class TextFeatures(ModelOutput):
    """What the text tower knows of each candidate.

    Args:
        embeds: (P, K, D), one row per template and candidate, in the shared space, not unit length.
        words: (K, L, D), every position of the text in the shared space, templates one behind another;
            only for methods that read words.
        word_mask: (K, L), true where a position belongs to the candidate's own label.
        branches: name of a second text branch to its (P, K, E) embeddings of the same candidates.
    """

    embeds: Tensor = None  # type: ignore[assignment]  # ModelOutput wants a default
    words: Tensor | None = None
    word_mask: Tensor | None = None
    branches: dict[str, Tensor] | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Name every tensor, to be kept in a file: "embeds", "words", "branch_chinese", ..."""
        plain = {name: tensor for name, tensor in self.items() if name != "branches"}  # items() leaves out None
        return plain | {f"branch_{name}": tensor for name, tensor in (self.branches or {}).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Undo `tensors`."""
        branches = {name.removeprefix("branch_"): t for name, t in tensors.items() if name.startswith("branch_")}
        plain = {name: tensor for name, tensor in tensors.items() if not name.startswith("branch_")}
        return cls(**plain, branches=branches or None)


@dataclass
class Explanation(ModelOutput):
    """Why a recognizer answers as it does; None where its method has no such evidence.

    Args:
        saliency: (B, K, T), how much each frame counts for each candidate, sums to one over T.
        attention: (B, T, h, w), how much the class token of a frame looks at each patch in the last layer, the mean over
            heads; sums to one over a frame.
        regions: (B, T, h, w), the token that each patch was merged into, from 0 to M - 1.
        entities: (B, T, M), the entity of the corpus that each region is aligned with, an index into `entity_names`; M is
            one where frames are aligned as a whole.
        entity_scores: (B, T, M), the cosine of each region and its entity.
        entity_names: of the corpus, each its own.
        english: (B, K), the probabilities by the names of the candidates alone, where they have Chinese ones too.
        chinese: (B, K), the probabilities by those alone.
        frames: which of the frames that are matched these T are, where others were restored; None for all.
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
        loss: scalar, the sum of `losses`; only when labels were given.
        logits: (B, K), scaled, so that `softmax` gives probabilities.
        votes: name of a branch to its unscaled scores (B, K).
        losses: name of a loss to its value.
        video_embeds: (B, D), or (B, K, D) where the pooling depends on the candidate.
        frames: what was pooled; can be handed back as `frame_features=`.
        text: what was matched; can be handed back as `text_features=`.
    """

    loss: Tensor | None = None
    logits: Tensor = None  # type: ignore[assignment]
    votes: dict[str, Tensor] = None  # type: ignore[assignment]
    losses: dict[str, Tensor] | None = None
    video_embeds: Tensor | None = None
    frames: FrameFeatures | None = None
    text: TextFeatures | None = None
