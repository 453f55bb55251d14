import math

import pytest
import torch
from sklearn.metrics import average_precision_score

from kinoclip.evaluation.metrics import (
    average_precision,
    load_metric,
    mean_average_precision,
    topk_accuracy,
)

SCORES = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.4, 0.3], [0.1, 0.3, 0.6], [0.5, 0.3, 0.2]])


@pytest.mark.parametrize(
    ("top_k", "expected"),
    [
        (1, 2 / 4),  # right: videos 0 and 2
        (2, 3 / 4),  # and video 3, whose class 1 is second
        (3, 1.0),
        (5, 1.0),
    ],
)
def test_topk_accuracy_counts_videos_whose_class_is_among_the_best(top_k, expected):
    scores = torch.tensor([[0.7, 0.2, 0.1], [0.35, 0.45, 0.2], [0.1, 0.3, 0.6], [0.5, 0.3, 0.2]])
    assert topk_accuracy(scores, torch.tensor([0, 2, 2, 1]), top_k) == expected


def test_a_class_without_positives_has_no_average_precision():
    assert math.isnan(average_precision(SCORES, torch.zeros(4, 3))[1].item())


@pytest.mark.parametrize(("empty_classes", "expected"), [("zero", 5 / 18), ("skip", 5 / 6)])
def test_a_class_without_positives_counts_as_zero_or_is_left_out(empty_classes, expected):
    # Class 0 has 5/6 as above; the other two have no positives: (5/6 + 0 + 0) / 3 = 5/18.
    targets = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert mean_average_precision(SCORES, targets, empty_classes) == pytest.approx(expected)


def test_class_ids_give_the_same_mean_average_precision_as_their_multi_hot_form():
    labels = torch.tensor([0, 1, 2, 1])
    multi_hot = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0]])
    assert mean_average_precision(SCORES, labels) == mean_average_precision(SCORES, multi_hot)


def test_leaving_every_class_out_is_an_error():
    with pytest.raises(ValueError, match="At least one of the 3 classes"):
        mean_average_precision(SCORES, torch.zeros(4, 3), "skip")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: topk_accuracy(SCORES, torch.tensor([0])), "got 1 labels for 4 videos"),
        (lambda: topk_accuracy(torch.zeros(0, 3), torch.zeros(0)), "at least one video"),
        (lambda: topk_accuracy(SCORES, torch.tensor([0, 1, 2, 1]), 0), "top_k must be at least 1"),
        (lambda: topk_accuracy(SCORES / 0 * 0, torch.tensor([0, 1, 2, 1])), "4 of 4 videos are NaN"),
        (lambda: topk_accuracy(torch.zeros(4), torch.zeros(4)), "one row per video"),
        (lambda: average_precision(SCORES, torch.zeros(4, 2)), r"got \(4, 3\) and \(4, 2\)"),
    ],
)
def test_what_cannot_be_measured_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path)
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)


def test_top_k_accuracy_takes_batches(own_cache):
    metric = load_metric("topk_accuracy")
    metric.add_batch(predictions=[[0.1, 0.7, 0.2]], references=[1])
    metric.add_batch(predictions=[[0.5, 0.3, 0.2]], references=[2])
    assert metric.compute(k=(1, 3)) == {"top1": 0.5, "top3": 1.0}


def test_mean_average_precision_is_scikit_learns(own_cache):
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(30, 4, generator=generator)
    targets = (torch.rand(30, 4, generator=generator) > 0.5).long()
    found = load_metric("mean_average_precision").compute(predictions=scores, references=targets)
    assert found["map"] == pytest.approx(average_precision_score(targets, scores, average="macro"), abs=1e-6)


def test_mean_class_accuracy_weighs_classes_alike(own_cache):
    found = load_metric("mean_class_accuracy").compute(
        predictions=[[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], references=[0, 0, 1]
    )
    assert found == {"mean_class_accuracy": 0.5}


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"must be one of topk_accuracy, .*, got 'f1'"):
        load_metric("f1")
