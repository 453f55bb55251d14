"""Scoring rules: how the views of a video are combined into one row of scores."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

ScoringRule = Literal[
    "probability",
    "logits",
    "bike",
    "bike_charades",
    "bike_attributes",
    "bike_fused",
    "text4vis",
    "frame_vote",
    "actionclip",
]
# The official test scripts use this constant instead of the learned logit_scale.
OFFICIAL_SCALE = 100.0


@dataclass(frozen=True)
class ViewOutputs:
    """Outputs of a recognizer for all views of a batch; a rule reads only some of them."""

    logits: Tensor | None = None  # (B, V, K), scaled, as `RecognitionOutput.logits`
    scores: Tensor | None = None  # (B, V, K), unscaled, as `RecognitionOutput.votes["video"]`
    attribute_scores: Tensor | None = None  # (B, K), unscaled, as `RecognitionOutput.votes["attributes"]`
    video_embeds: Tensor | None = None  # (B, V, D), not unit length
    frame_embeds: Tensor | None = None  # (B, V, T, D), of the image tower, before any temporal head
    class_embeds: Tensor | None = None  # (K, D)
    template_embeds: Tensor | None = None  # (P, K, D), as `TextFeatures.embeds`
    branch_logits: Tensor | None = None  # (B, V, N, K), of each of several branches


def score_views(views: ViewOutputs, rule: ScoringRule = "probability") -> Tensor:
    """Apply the named scoring rule to what it reads of the views: (B, K), rows sum to 1.

    "probability" is this package's; the others are those of official test scripts. The rules of BIKE use unscaled
    scores, so their rows are nearly flat.
    """
    if rule not in READS:
        raise ValueError(f"The scoring rule must be one of {', '.join(READS)}, got {rule!r}.")
    *names, score = _RULES[rule]
    tensors: list[Tensor] = []
    for name in names:
        tensor = getattr(views, name)
        if tensor is None:
            raise ValueError(f"The scoring rule {rule!r} needs `{name}`. Collect it, or use another rule.")
        tensors.append(tensor)
    scores: Tensor = score(*tensors)
    return scores


def score_probability(view_logits: Tensor) -> Tensor:
    """Average the probabilities of all views: scaled logits (B, V, K) -> (B, K), rows sum to 1."""
    return torch.softmax(view_logits, dim=-1).mean(dim=1)


def score_bike(view_scores: Tensor) -> Tensor:
    """Average views as BIKE's test scripts do: softmax of unscaled scores, mean, softmax again.

    Unscaled scores (B, V, K) -> (B, K), all close to 1 / K. Within one video this orders classes much like the mean
    score; across videos the second softmax changes ranks, which mean average precision sees.

    Source: official BIKE `test.py` and `test_charades.py`, `validate`.
    """
    return torch.softmax(torch.softmax(view_scores, dim=-1).mean(dim=1), dim=-1)


def score_bike_fused(view_scores: Tensor, attribute_scores: Tensor) -> Tensor:
    """Fuse the video and attributes branches: 0.7 and 0.3 of their probabilities, without a second softmax.

    Both are unscaled, (B, V, K), whose probabilities are averaged over views, and (B, K) -> (B, K).

    Source: BIKE eq. 4, without the weights; official `train.py` and `train_attributes.py`, `validate` and `save_sims`;
    `utils/utils.py`, `fusion_acc`. The authors publish no code for the fused multi-view rows; views are averaged as in `validate`.
    """
    video = torch.softmax(view_scores, dim=-1).mean(dim=1)
    return 0.7 * video + 0.3 * torch.softmax(attribute_scores, dim=-1)


def score_text4vis(view_embeds: Tensor, class_embeds: Tensor) -> Tensor:
    """Average the embeddings of views without normalization, then compare with every class.

    Embeddings (B, V, D), of which longer ones count more, and (K, D), of any length -> (B, K).

    Source: official Text4Vis `test.py`, `validate`.
    """
    video = functional.normalize(view_embeds.mean(dim=1), dim=-1)
    return torch.softmax(OFFICIAL_SCALE * video @ functional.normalize(class_embeds, dim=-1).T, dim=-1)


def score_frame_vote(frame_embeds: Tensor, class_embeds: Tensor) -> Tensor:
    """Average the probabilities of all frames, from their raw image features; no temporal head, no saliency.

    Embeddings (B, T, D), not unit length, and (K, D), of any length -> (B, K). Their products are multiplied by 100.
    Frame features of real CLIP models are long, so the probabilities of a frame are close to 0 or 1 and exact ties occur.

    Source: official BIKE `test_zeroshot.py`, `compute_accuracy`: the path of the published UCF101, HMDB51 and
    ActivityNet zero-shot numbers.
    """
    products = torch.einsum("btd,kd->btk", frame_embeds, functional.normalize(class_embeds, dim=-1))
    return torch.softmax(OFFICIAL_SCALE * products, dim=-1).mean(dim=1)


def score_actionclip(view_embeds: Tensor, template_embeds: Tensor) -> Tensor:
    """Average the probabilities of all templates and views (the official test has one view).

    Embeddings (B, V, D) and (P, K, D), of any length -> (B, K). Cosines are multiplied by 100.

    Source: official ActionCLIP `test.py`, `validate`.
    """
    views, templates = functional.normalize(view_embeds, dim=-1), functional.normalize(template_embeds, dim=-1)
    cosines = torch.einsum("bvd,pkd->bvpk", views, templates)
    return torch.softmax(OFFICIAL_SCALE * cosines, dim=-1).mean(dim=(1, 2))


# rule to the fields of `ViewOutputs` that it reads, and its function
_RULES: dict[ScoringRule, tuple[Any, ...]] = {
    "probability": ("logits", score_probability),
    "logits": ("logits", lambda logits: torch.softmax(logits.mean(dim=1), dim=-1)),  # official TAM `test.py`
    "bike": ("scores", score_bike),
    "bike_charades": ("scores", score_bike),
    "bike_attributes": ("attribute_scores", lambda scores: torch.softmax(scores, dim=-1)),
    "bike_fused": ("scores", "attribute_scores", score_bike_fused),
    "text4vis": ("video_embeds", "class_embeds", score_text4vis),
    "frame_vote": ("frame_embeds", "class_embeds", lambda frames, c: score_frame_vote(frames.flatten(1, 2), c)),
    "actionclip": ("video_embeds", "template_embeds", score_actionclip),
}
# the fields that a rule reads of a model's outputs; the others are embeddings of the texts
READS: dict[ScoringRule, tuple[str, ...]] = {
    rule: tuple(name for name in names if name not in ("class_embeds", "template_embeds"))
    for rule, (*names, _) in _RULES.items()
}
