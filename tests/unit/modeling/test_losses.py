import math

import pytest
import torch
from torch.nn import functional

from kinoclip.modeling.losses import (
    binary_cross_entropy,
    cross_entropy,
    label_match,
    row_kl,
    soft_cross_entropy,
    symmetric_cross_entropy,
    symmetric_kl,
)


def test_a_repeated_label_matches_every_candidate_of_its_class():
    match = label_match(torch.tensor([2, 0]), torch.tensor([2, 0, 2]))
    assert match.tolist() == [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]


def test_a_label_without_a_candidate_matches_nothing():
    assert label_match(torch.tensor([7]), torch.tensor([2, 0])).tolist() == [[0.0, 0.0]]


def test_multi_hot_labels_come_back_as_floats():
    match = label_match(torch.tensor([[1, 0, 1]]), torch.arange(3))
    assert match.dtype == torch.float32
    assert match.tolist() == [[1.0, 0.0, 1.0]]


def test_multi_hot_labels_of_other_candidates_are_an_error():
    with pytest.raises(ValueError, match="4 candidates"):
        label_match(torch.zeros(2, 3), torch.arange(4))


def test_row_kl_is_zero_where_the_logits_are_the_sharpened_match():
    match = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    assert row_kl(10 * match, match).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_one_match_is_that_of_torch(smoothing):
    logits, labels = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]), torch.tensor([2, 0])
    found = cross_entropy(logits, label_match(labels, torch.arange(3)), label_smoothing=smoothing)
    torch.testing.assert_close(found, functional.cross_entropy(logits, labels, label_smoothing=smoothing))


def test_two_matches_share_the_target_of_cross_entropy():
    # log(3) for each of three equal logits, weighted 1/2 + 1/2
    loss = cross_entropy(torch.zeros(1, 3), torch.tensor([[1.0, 0.0, 1.0]]))
    assert loss.item() == pytest.approx(math.log(3), abs=1e-6)


def test_cross_entropy_of_a_label_that_is_no_candidate_is_not_a_number():
    assert cross_entropy(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]])).isnan()


def test_symmetric_cross_entropy_averages_both_directions():
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]])
    # rows: log 2 and log(4 / 3); columns the same, since the matrix is symmetric
    expected = (math.log(2) + math.log(4 / 3)) / 2
    assert symmetric_cross_entropy(logits, torch.eye(2)).item() == pytest.approx(expected, abs=1e-6)


def test_a_candidate_that_no_video_shows_has_no_part_in_the_column_term():
    logits = torch.tensor([[0.0, 0.0, math.log(2)], [0.0, math.log(3), 0.0]])
    # rows: log 4 and log(5 / 3); columns 0 and 1: log 2 and log(4 / 3); no video shows the third
    expected = (math.log(4) + math.log(5 / 3) + math.log(2) + math.log(4 / 3)) / 4
    assert symmetric_cross_entropy(logits, torch.eye(2, 3)).item() == pytest.approx(expected, abs=1e-6)


def test_soft_cross_entropy_mixes_two_classes():
    # prediction 1/4, 3/4; -(0.3 log 1/4 + 0.7 log 3/4) = 0.6173
    loss = soft_cross_entropy(torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.3, 0.7]]))
    assert loss.item() == pytest.approx(0.6173, abs=1e-4)


def test_binary_cross_entropy_of_undecided_logits_is_log_2():
    loss = binary_cross_entropy(torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("loss", [row_kl, symmetric_kl, cross_entropy, binary_cross_entropy])
def test_a_loss_of_half_precision_logits_is_taken_in_single_precision(loss):
    logits = torch.tensor([[3.0, 1.0], [0.0, 2.0]], dtype=torch.bfloat16)
    value = loss(logits, torch.eye(2))
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(logits.float(), torch.eye(2)), atol=0, rtol=0)
