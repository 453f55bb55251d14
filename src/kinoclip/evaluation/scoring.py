"""Scoring rules: how the views of a video become one row of scores, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

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
# the fields of `ViewOutputs` that each rule reads of a model's outputs
READS: dict[ScoringRule, tuple[str, ...]] = {
    "probability": ("logits",),
    "logits": ("logits",),
    "bike": ("scores",),
    "bike_charades": ("scores",),
    "bike_attributes": ("attribute_scores",),
    "bike_fused": ("scores", "attribute_scores"),
    "text4vis": ("video_embeds",),
    "frame_vote": ("frame_embeds",),
    "actionclip": ("video_embeds",),
}

# The official test scripts write this number out and ignore the learned logit_scale.
OFFICIAL_SCALE = 100.0
# Official BIKE `utils/utils.py`, `fusion_acc`.
_FUSION_WEIGHTS = {"video": 0.7, "attributes": 0.3}


@dataclass(frozen=True)
class ViewOutputs:
    """What a recognizer returned for all views of a batch; a rule needs only some of it.

    Attributes:
        logits: (B, V, K), scaled, as `RecognitionOutput.logits`. For "probability" and "logits".
        scores: (B, V, K), unscaled, as `RecognitionOutput.votes["video"]`. For the rules of BIKE.
        attribute_scores: (B, K), unscaled, as `RecognitionOutput.votes["attributes"]`. For "bike_attributes" and "bike_fused".
        video_embeds: (B, V, D), not unit length. For "text4vis" and "actionclip".
        frame_embeds: (B, V, T, D), as the image tower gives them, before any temporal head. For "frame_vote".
        class_embeds: (K, D). For "text4vis" and "frame_vote".
        template_embeds: (P, K, D), as `TextFeatures.embeds`. For "actionclip".
    """

    logits: Tensor | None = None
    scores: Tensor | None = None
    attribute_scores: Tensor | None = None
    video_embeds: Tensor | None = None
    frame_embeds: Tensor | None = None
    class_embeds: Tensor | None = None
    template_embeds: Tensor | None = None


def score_views(views: ViewOutputs, rule: ScoringRule = "probability") -> Tensor:
    """Apply the named scoring rule.

    Args:
        views: must hold what the rule needs.
        rule: "probability" is this package's; the others repeat what an official test script does.

    Returns:
        (B, K), rows sum to 1. The rules of BIKE use unscaled scores, so their rows are nearly flat.
    """
    match rule:
        case "probability":
            return score_probability(_need(views.logits, "logits", rule))
        case "logits":  # official TAM `test.py`, `eval_a_batch`
            return torch.softmax(_need(views.logits, "logits", rule).mean(dim=1), dim=-1)
        case "bike" | "bike_charades":
            return score_bike(_need(views.scores, "scores", rule))
        case "bike_attributes":
            return torch.softmax(_need(views.attribute_scores, "attribute_scores", rule), dim=-1)
        case "bike_fused":
            attribute_scores = _need(views.attribute_scores, "attribute_scores", rule)
            return score_bike_fused(_need(views.scores, "scores", rule), attribute_scores)
        case "text4vis":
            class_embeds = _need(views.class_embeds, "class_embeds", rule)
            return score_text4vis(_need(views.video_embeds, "video_embeds", rule), class_embeds)
        case "frame_vote":
            class_embeds = _need(views.class_embeds, "class_embeds", rule)
            frame_embeds = _need(views.frame_embeds, "frame_embeds", rule)
            return score_frame_vote(frame_embeds.flatten(1, 2), class_embeds)
        case "actionclip":
            template_embeds = _need(views.template_embeds, "template_embeds", rule)
            return score_actionclip(_need(views.video_embeds, "video_embeds", rule), template_embeds)
        case _:
            raise ValueError(f"There is no scoring rule {rule!r}. Use one of {', '.join(get_args(ScoringRule))}.")


def score_probability(view_logits: Tensor) -> Tensor:
    """Average the probabilities of all views.

    Args:
        view_logits: (B, V, K), scaled.

    Returns:
        (B, K), rows sum to 1.
    """
    return torch.softmax(view_logits, dim=-1).mean(dim=1)


def score_bike(view_scores: Tensor) -> Tensor:
    """Average views as BIKE's test scripts do: softmax of unscaled scores, mean, softmax again.

    Within one video this orders classes much like the mean score; across videos the second softmax changes ranks,
    which mean average precision sees.

    Args:
        view_scores: (B, V, K), unscaled.

    Returns:
        (B, K), rows sum to 1, all entries close to 1 / K.

    Source: official BIKE `test.py` and `test_charades.py`, `validate`.
    """
    return torch.softmax(torch.softmax(view_scores, dim=-1).mean(dim=1), dim=-1)


def score_bike_fused(view_scores: Tensor, attribute_scores: Tensor) -> Tensor:
    """Fuse the video and attributes branches: 0.7 and 0.3 of their probabilities, without a second softmax.

    Args:
        view_scores: (B, V, K), unscaled. The probabilities of views are averaged.
        attribute_scores: (B, K), unscaled.

    Returns:
        (B, K), rows sum to 1.

    Source: official BIKE `train.py` and `train_attributes.py`, `validate` and `save_sims`; `utils/utils.py`, `fusion_acc`.
    The authors publish no code for the fused multi-view rows; views are averaged as in `validate`.
    """
    video = torch.softmax(view_scores, dim=-1).mean(dim=1)
    # the softmax of a log probability is that probability
    return fuse_votes({"video": video.log(), "attributes": attribute_scores}, _FUSION_WEIGHTS)


def score_text4vis(view_embeds: Tensor, class_embeds: Tensor, scale: float = OFFICIAL_SCALE) -> Tensor:
    """Average embeddings of views before anything is normalized, then compare with every class.

    Args:
        view_embeds: (B, V, D), not unit length: a longer embedding counts more.
        class_embeds: (K, D), any length.
        scale: multiplies the cosines.

    Returns:
        (B, K), rows sum to 1.

    Source: official Text4Vis `test.py`, `validate`.
    """
    video = functional.normalize(view_embeds.mean(dim=1), dim=-1)
    return torch.softmax(scale * video @ functional.normalize(class_embeds, dim=-1).T, dim=-1)


def score_frame_vote(frame_embeds: Tensor, class_embeds: Tensor, scale: float = OFFICIAL_SCALE) -> Tensor:
    """Let every frame vote by itself, with its raw image feature; no temporal head, no saliency.

    Frame features of real CLIP models are long, so a frame's vote is close to all or nothing and exact ties occur.

    Args:
        frame_embeds: (B, T, D), not unit length.
        class_embeds: (K, D), any length.
        scale: multiplies the products.

    Returns:
        (B, K), rows sum to 1.

    Source: official BIKE `test_zeroshot.py`, `compute_accuracy`: the path of the published UCF101, HMDB51 and
    ActivityNet zero-shot numbers.
    """
    products = torch.einsum("btd,kd->btk", frame_embeds, functional.normalize(class_embeds, dim=-1))
    return torch.softmax(scale * products, dim=-1).mean(dim=1)


def score_actionclip(view_embeds: Tensor, template_embeds: Tensor, scale: float = OFFICIAL_SCALE) -> Tensor:
    """Average the probabilities of all templates, and of all views.

    Args:
        view_embeds: (B, V, D), any length. The official test has one view.
        template_embeds: (P, K, D), any length: each template gives its own probabilities.
        scale: multiplies the cosines.

    Returns:
        (B, K), rows sum to 1.

    Source: official ActionCLIP `test.py`, `validate`.
    """
    views, templates = functional.normalize(view_embeds, dim=-1), functional.normalize(template_embeds, dim=-1)
    cosines = torch.einsum("bvd,pkd->bvpk", views, templates)
    return torch.softmax(scale * cosines, dim=-1).mean(dim=(1, 2))


def fuse_votes(votes: Mapping[str, Tensor], weights: Mapping[str, float], scale: float = 1.0) -> Tensor:
    """Weighted sum of the probabilities of several branches.

    Args:
        votes: (B, K) each, unscaled, named as in `RecognitionOutput.votes`.
        weights: one weight per vote; BIKE uses {"video": 0.7, "attributes": 0.3}.
        scale: multiplies every vote before its softmax; BIKE uses 1.

    Returns:
        (B, K), rows sum to the sum of the weights.

    Source: BIKE eq. 4; official `utils/utils.py`, `fusion_acc`. The paper does not give the weight.
    """
    if votes.keys() != weights.keys():
        raise ValueError(
            f"There are votes for {sorted(votes)} but weights for {sorted(weights)}. Give one weight for each vote."
        )
    if not votes:
        raise ValueError("There are no votes to fuse. Give at least one branch.")
    fused = [weights[name] * torch.softmax(scale * vote, dim=-1) for name, vote in votes.items()]
    return torch.stack(fused).sum(dim=0)


def _need(tensor: Tensor | None, name: str, rule: str) -> Tensor:
    if tensor is None:
        raise ValueError(
            f"The scoring rule {rule!r} needs `{name}`, which these views do not hold. "
            "Collect it, or use another rule."
        )
    return tensor
