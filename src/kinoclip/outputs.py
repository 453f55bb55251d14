"""What passes between the stages of a recognizer."""

from __future__ import annotations

from dataclasses import dataclass

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
