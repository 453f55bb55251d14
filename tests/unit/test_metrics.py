import math

import pytest
import torch

from kinoclip.metrics import (
    average_precision,
    mean_average_precision,
    running_mean_average_precision,
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


def test_average_precision_is_the_mean_of_precisions_at_the_positives():
    # Class 0 ranks videos 0, 3, 1, 2. Positives 0 and 1 stand at ranks 1 and 3: (1/1 + 2/3) / 2 = 5/6.
    targets = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])

    assert average_precision(SCORES, targets)[0].item() == pytest.approx(5 / 6)


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
    with pytest.raises(ValueError, match="None of the 3 classes has a positive"):
        mean_average_precision(SCORES, torch.zeros(4, 3), "skip")


def test_a_running_average_weighs_each_intermediate_value_by_its_batch():
    # One class; scores 3, 2, 1 with targets 0, 1, 1.
    # After the batch of two: 1/2. After all three: (1/2 + 2/3) / 2 = 7/12. Weighted: (2 * 1/2 + 1 * 7/12) / 3 = 19/36.
    scores, targets = torch.tensor([[3.0], [2.0], [1.0]]), torch.tensor([[0], [1], [1]])

    assert running_mean_average_precision(scores, targets, batch_size=2) == pytest.approx(19 / 36)


def test_a_running_average_over_one_batch_is_the_plain_metric():
    labels = torch.tensor([0, 1, 2, 1])

    running = running_mean_average_precision(SCORES, labels, batch_size=4)

    assert running == pytest.approx(mean_average_precision(SCORES, labels))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: topk_accuracy(SCORES, torch.tensor([0])), "4 videos and labels for 1"),
        (lambda: topk_accuracy(torch.zeros(0, 3), torch.zeros(0)), "no videos"),
        (lambda: topk_accuracy(SCORES, torch.tensor([0, 1, 2, 1]), 0), "top_k is 0"),
        (lambda: topk_accuracy(SCORES / 0 * 0, torch.tensor([0, 1, 2, 1])), "4 of 4 videos are not numbers"),
        (lambda: topk_accuracy(torch.zeros(4), torch.zeros(4)), "one row per video"),
        (lambda: average_precision(SCORES, torch.zeros(4, 2)), r"targets \(4, 2\)"),
        (lambda: running_mean_average_precision(SCORES, torch.tensor([0, 1, 2, 1]), 0), "batch_size is 0"),
    ],
)
def test_what_cannot_be_measured_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
