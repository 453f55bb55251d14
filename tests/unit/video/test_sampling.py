"""The rules by name; their arithmetic is compared with the authors' in `tests/parity/test_sampling.py`."""

from typing import get_args

import numpy as np
import pytest

from kinoclip.video.sampling import SamplingRule, sample_indices, sample_uniform, split_kept_frames

# these look at the video; "motion" in `test_motion.py`
RULES = [rule for rule in get_args(SamplingRule) if rule not in ("motion", "cheapest")]


@pytest.mark.parametrize(
    ("rule", "indices"),
    [
        ("segment_start", [0, 25, 50, 75]),
        ("segment_start_closed", [0, 25, 50, 75]),
        ("segment_center", [12, 37, 62, 87]),  # 25 i + 12
        ("segment_center_but_last", [11, 36, 61, 86]),  # int(24.75 i + 11.875)
        ("segment_shared_offset", [12, 37, 62, 87]),
        ("dense", [0, 32, 64, 96]),  # 128 / 4 apart
        ("consecutive", [0, 2, 4, 6]),
        ("uniform", [0, 33, 66, 99]),
    ],
)
def test_a_rule_takes_these_frames_of_100(rule, indices):
    assert sample_indices(rule, 100, 4) == indices


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("num_frames", [1, 2, 7, 8, 9, 300])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_gives_as_many_frames_as_asked_for_and_none_outside(rule, num_frames, training):
    rng = np.random.default_rng(0)
    indices = sample_indices(rule, num_frames, 8, rng=rng, training=training)
    assert len(indices) == 8
    assert set(indices) <= set(range(num_frames))


@pytest.mark.parametrize(
    "rule", ["segment_start", "segment_start_closed", "segment_shared_offset", "dense", "consecutive"]
)
def test_clips_come_one_after_the_other(rule):
    indices = sample_indices(rule, 300, 8, num_clips=3)
    assert len(indices) == 24
    assert len({tuple(indices[:8]), tuple(indices[8:16]), tuple(indices[16:])}) == 3


@pytest.mark.parametrize("rule", RULES)
def test_the_same_seed_draws_the_same_frames_and_another_seed_others(rule):
    first, again, other = (
        sample_indices(rule, 300, 8, rng=np.random.default_rng(seed), training=True) for seed in (5, 5, 6)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "linear"}, "rule must be one of segment_start, .*, got 'linear'"),
        ({"num_frames": 0}, "num_frames must be at least 1, got 0"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_clips": 0}, "num_clips must be at least 1, got 0"),
        ({"training": True}, "pass rng="),
        ({"training": True, "rng": np.random.default_rng(0), "num_clips": 2}, "num_clips must be 1 in training"),
        ({"rule": "segment_center", "num_clips": 2}, "num_clips must be 1 for rule"),
        ({"rule": "dense", "num_samples": 129}, "at most 128"),
    ],
)
def test_what_cannot_be_sampled_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_indices(**{"rule": "segment_start", "num_frames": 10, "num_samples": 4, **arguments})


@pytest.mark.parametrize(
    ("num_frames", "num_samples", "indices"),
    [(10, 1, [5]), (10, 2, [0, 9]), (5, 5, [0, 1, 2, 3, 4]), (3, 5, [0, 1, 1, 2, 2]), (1, 3, [0, 0, 0])],
)
def test_uniform_frames_include_both_ends(num_frames, num_samples, indices):
    assert sample_uniform(num_frames, num_samples) == indices


@pytest.mark.parametrize(
    ("costs", "indices"),
    [
        ([1, 2, 3, 4, 1, 2, 3, 4], [0, 4]),  # a key frame opens each segment
        ([1, 2, 3, 1, 2, 3, 4, 5], [0, 4]),  # of two key frames the nearer to the middle, and the first that follows
        ([1] * 8, [1, 5]),  # 1 and 2 are as near to 1.5
        (
            [1, 5, 2, 3, 9, 8, 4, 7],
            [2, 6],
        ),  # leading B-frames; the last one needs four frames, with which two more are decoded
        ([1, 2, 3, 4, 5, 6, 7, 8], [1, 4]),  # what is decoded anyway
        ([1, 2, 3, 1, 5, 5, 5, 1], [0, 7]),  # not in a group that another segment decodes less of
        ([1], [0, 0]),
    ],
)
def test_the_cheapest_frame_of_each_segment_is_decoded(costs, indices):
    assert sample_indices("cheapest", len(costs), 2, costs=costs) == indices


@pytest.mark.parametrize("options", [{}, {"costs": [1] * 9}, {"costs": [1] * 10, "num_clips": 2}])
def test_the_cheapest_frames_need_a_cost_for_each(options):
    with pytest.raises(ValueError, match=r"Rule 'cheapest' needs 10 costs .* and num_clips=1, got"):
        sample_indices("cheapest", 10, 4, **options)


def test_the_cheapest_frames_are_random_in_training():
    expected = sample_indices("segment_start", 300, 8, rng=np.random.default_rng(5), training=True)
    assert sample_indices("cheapest", 300, 8, rng=np.random.default_rng(5), training=True) == expected


def test_one_frame_is_kept_and_none_restored_where_the_rate_exceeds_the_frames():
    assert split_kept_frames(3, 4) == ([0], [], [1, 2])
