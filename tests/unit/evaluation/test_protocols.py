import pytest
import torch

from kinoclip.evaluation.protocols import evaluate_classes, evaluate_splits, half_class_splits

# Six videos of four classes; rows are videos, columns classes.
LABELS = torch.tensor([0, 1, 1, 2, 3, 3])
SCORES = torch.tensor(
    [
        [0.9, 0.0, 0.0, 0.1],
        [0.6, 0.4, 0.0, 0.0],
        [0.0, 0.8, 0.2, 0.0],
        [0.0, 0.0, 0.3, 0.7],
        [0.0, 0.6, 0.0, 0.4],
        [0.1, 0.0, 0.2, 0.7],
    ]
)


def score(videos: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    return SCORES[videos][:, classes]


def test_half_class_splits_are_those_of_the_legacy_generator():
    # The first three entries of RandomState(0).permutation(6) = [5 2 1 3 0 4] and of seed 1, [2 1 4 0 3 5].
    assert half_class_splits(6, num_splits=2) == [(1, 2, 5), (1, 2, 4)]


@pytest.mark.parametrize(("num_classes", "kept"), [(2, 1), (51, 25), (101, 50)])
def test_half_of_an_odd_number_of_classes_is_rounded_down(num_classes, kept):
    splits = half_class_splits(num_classes)

    assert [len(split) for split in splits] == [kept] * 10


def test_one_class_cannot_be_halved():
    with pytest.raises(ValueError, match="num_classes is 1"):
        half_class_splits(1)


def test_only_videos_of_the_kept_classes_count_and_only_these_classes_can_be_chosen():
    # Classes 1 and 3: videos 1, 2, 4, 5. Video 1 now has 0.4 against 0.0 and is right; video 4 stays wrong: 3/4.
    result = evaluate_classes(score, LABELS, [3, 1])

    assert result.classes == (1, 3)
    assert result.num_videos == 4
    assert result.top1 == 0.75
    assert result.top5 == 1.0


def test_all_classes_give_the_full_class_accuracy():
    # Right: videos 0, 2 and 5 of six.
    assert evaluate_classes(score, LABELS, range(4)).top1 == 0.5


def test_the_spread_over_splits_is_the_population_standard_deviation():
    # Classes 1, 3 give 3/4 as above; classes 0, 2 (videos 0 and 3) give 1. Mean 7/8, both 1/8 away.
    summary = evaluate_splits(score, LABELS, [(1, 3), (0, 2)])

    assert [split.top1 for split in summary.splits] == [0.75, 1.0]
    assert summary.top1_mean == 0.875
    assert summary.top1_std == 0.125
    assert (summary.top5_mean, summary.top5_std) == (1.0, 0.0)


def test_classes_without_videos_are_an_error():
    with pytest.raises(ValueError, match=r"None of the 6 videos has one of the classes \[8, 9\]"):
        evaluate_classes(score, LABELS, [9, 8])


def test_no_splits_are_an_error():
    with pytest.raises(ValueError, match="no splits"):
        evaluate_splits(score, LABELS, [])
