"""Scoring rules, metrics and zero-shot splits against numbers recorded from the official code."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kinoclip.evaluation.metrics import mean_average_precision, running_mean_average_precision, topk_accuracy
from kinoclip.evaluation.protocols import evaluate_classes, half_class_splits
from kinoclip.evaluation.report import summarize
from kinoclip.evaluation.scoring import (
    ViewOutputs,
    score_bike,
    score_frame_vote,
    score_text4vis,
    score_views,
)

RECORDINGS = Path(__file__).parent / "recordings"
# Scores lie in [0, 1] and were recorded in float32.
ATOL = 1e-6
# Percentages were recorded in float32: 100 * 2 ** -24 is 6e-6.
PERCENT_ATOL = 1e-5


def load(name: str) -> dict[str, Tensor]:
    return load_file(RECORDINGS / f"{name}.safetensors")


def score_cosines(videos: Tensor, classes: Tensor) -> Tensor:
    return score_text4vis(videos[:, None], classes)


@pytest.fixture(params=[("bike", score_frame_vote), ("text4vis", score_cosines)], ids=["bike", "text4vis"])
def zero_shot(request):
    method, rule = request.param
    recorded = load(f"{method}_zeroshot_split")

    def score(videos: Tensor, classes: Tensor) -> Tensor:
        return rule(recorded["visual_embeddings"][videos], recorded["text_embeddings"][classes])

    return recorded, score


def test_bike_scores_of_six_views_are_the_official_ones():
    recorded = load("bike_multiview_scores")
    views = ViewOutputs(scores=recorded["view_logits"].unflatten(0, (2, 6)))
    torch.testing.assert_close(score_views(views, "bike"), recorded["final_scores"], atol=ATOL, rtol=0)


def test_text4vis_scores_of_six_views_are_the_official_ones():
    recorded = load("text4vis_multiview_scores")
    embeds = recorded["view_embeddings"].unflatten(0, (2, 6))
    views = ViewOutputs(video_embeds=embeds, class_embeds=recorded["class_embeddings"])
    torch.testing.assert_close(score_views(views, "text4vis"), recorded["final_scores"], atol=1e-5, rtol=0)


def test_activitynet_average_precision_is_the_official_one():
    recorded = load("bike_anet_map")
    # The official function softmaxes once more what the test script already did: that is the "bike" rule's last step.
    scores = recorded["probs"].softmax(dim=1)
    value = 100 * mean_average_precision(scores, recorded["labels"])
    assert value == pytest.approx(recorded["mAP_percent"].item(), abs=PERCENT_ATOL)
    top1 = 100 * topk_accuracy(scores, recorded["labels"])
    assert top1 == pytest.approx(recorded["top1_percent"].item(), abs=PERCENT_ATOL)


def test_charades_running_average_precision_is_the_official_one():
    recorded = load("bike_charades_map")
    scores = score_bike(recorded["view_logits"].flatten(0, 1)[:, None])
    targets = recorded["targets"].flatten(0, 1)
    value = 100 * running_mean_average_precision(scores, targets, batch_size=8)
    assert value == pytest.approx(recorded["reported_map_percent"].item(), abs=PERCENT_ATOL)
    after_each_batch = [mean_average_precision(scores[:end], targets[:end]) for end in (8, 16, 24)]
    assert after_each_batch == pytest.approx(recorded["cumulative_map_per_batch"].tolist(), abs=1e-6)


def test_half_class_splits_and_their_accuracies_are_the_official_ones(zero_shot):
    recorded, score = zero_shot
    assert torch.equal(torch.tensor(half_class_splits(11)), recorded["selected_classes"])
    splits = [evaluate_classes(score, recorded["labels"], half) for half in half_class_splits(11)]
    summary = summarize(splits)

    assert [split["videos"] for split in splits] == recorded["selected_counts"].tolist()
    top1 = [100 * split["top1"] for split in splits]
    top5 = [100 * split["top5"] for split in splits]
    assert top1 == pytest.approx(recorded["split_top1"].tolist(), abs=PERCENT_ATOL)
    assert top5 == pytest.approx(recorded["split_top5"].tolist(), abs=PERCENT_ATOL)
    spread1 = [100 * summary["top1"][value] for value in ("mean", "std")]
    spread5 = [100 * summary["top5"][value] for value in ("mean", "std")]
    assert spread1 == pytest.approx(recorded["split_mean_std_top1"].tolist(), abs=PERCENT_ATOL)
    assert spread5 == pytest.approx(recorded["split_mean_std_top5"].tolist(), abs=PERCENT_ATOL)


def test_full_class_accuracies_are_the_official_ones(zero_shot):
    recorded, score = zero_shot
    full = evaluate_classes(score, recorded["labels"], range(11))
    assert full["videos"] == 120
    assert 100 * full["top1"] == pytest.approx(recorded["full_top1"].item(), abs=PERCENT_ATOL)
    assert 100 * full["top5"] == pytest.approx(recorded["full_top5"].item(), abs=PERCENT_ATOL)
