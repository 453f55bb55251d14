"""Readouts of encoded texts (end-of-text position, mean over templates), and rows of a classifier in their place."""

from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from kinoclip.modeling.outputs import TextFeatures


def ensemble(embeds: Tensor) -> Tensor:
    """Average the templates of each candidate: (P, K, D) -> (K, D), unit length."""
    return normalize(normalize(embeds, dim=-1).mean(0), dim=-1)


def end_of_text(input_ids: Tensor, eos_token_id: int | None) -> Tensor:
    """Find the end-of-text token of each row: (..., L) -> (...) positions.

    Published CLIP configs carry the wrong `eos_token_id` 2; for them, as in Transformers, it is the highest id.
    """
    if eos_token_id is None or eos_token_id == 2:
        return input_ids.argmax(-1)
    return (input_ids == eos_token_id).int().argmax(-1)


def classifier_rows(classifier: nn.Linear) -> TextFeatures:
    """Return the rows of a classifier (1, K, D) as candidates, with its bias as the branch "bias" (1, K, 1)."""
    return TextFeatures(embeds=classifier.weight[None], branches={"bias": classifier.bias[None, :, None]})


def apply_rows(video: Tensor, text: TextFeatures) -> Tensor:
    """Apply the classifier whose rows are candidates (`read_rows`) to videos (B, D): (B, K)."""
    return linear(video, *read_rows(text))


def read_rows(text: TextFeatures) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,) of the classifier whose rows are candidates; refuse other texts."""
    if text.branches is None or "bias" not in text.branches:
        raise ValueError(
            "The candidates of a classifier are its own labels, see `candidates()`. Leave other labels and text out."
        )
    return text.embeds.mean(0), text.branches["bias"].mean(0)[:, 0]
