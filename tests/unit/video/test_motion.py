"""Motion curves and what is taken along them; the arithmetic is compared with the authors' in `parity/test_mgsampler.py`."""

import numpy as np
import pytest
import torch

from kinoclip import RecognizerVideoProcessor, VideoReader
from kinoclip.video.motion import (
    cumulative_motion,
    feature_distance,
    measure_motion,
    motion_curve,
    pixel_distance,
    sample_by_motion,
    ssim_distance,
)
from kinoclip.video.sampling import sample_indices


def _gray(level: int) -> torch.Tensor:
    return torch.full((3, 8, 8), level, dtype=torch.uint8)


@pytest.fixture
def frames():
    """Twenty frames (T, H, W, 3): the first ten are alike, then each is brighter by 10."""
    return np.stack([np.full((40, 60, 3), 10 * max(0, i - 9), np.uint8) for i in range(20)])


@pytest.fixture
def processor():
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return RecognizerVideoProcessor(num_frames=4, sampling="motion", **sizes)


def test_motion_is_the_difference_of_neighbors():
    curve = motion_curve([_gray(10), _gray(13), _gray(11)])
    assert curve.tolist() == [3 * 192, 2 * 192]  # 3 x 8 x 8 values each


@pytest.mark.parametrize("num_frames", [0, 1])
def test_fewer_than_two_frames_have_no_motion(num_frames):
    assert motion_curve([_gray(10)] * num_frames).tolist() == []


def test_equal_frames_have_structural_distance_zero():
    noise = torch.randint(0, 256, (3, 20, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert ssim_distance(noise, noise).item() == pytest.approx(0, abs=1e-12)


def test_structural_distance_of_two_plain_frames_is_that_of_their_means():
    # one minus (2 * 50 * 100 + 2.55^2) / (50^2 + 100^2 + 2.55^2); the variances are zero
    expected = 1 - (10000 + 2.55**2) / (12500 + 2.55**2)
    assert ssim_distance(_gray(50), _gray(100)).item() == pytest.approx(expected, abs=1e-9)


def test_structural_distance_of_one_window_is_the_formula_with_sample_covariance():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, 256, (7, 7), generator=generator, dtype=torch.uint8) for _ in range(2))
    pair = torch.stack([x.flatten(), y.flatten()]).double()
    (variance_x, covariance), (_, variance_y) = torch.cov(pair).tolist()
    mean_x, mean_y = pair.mean(1).tolist()
    luminance = (2 * mean_x * mean_y + 6.5025) / (mean_x**2 + mean_y**2 + 6.5025)
    expected = 1 - luminance * (2 * covariance + 58.5225) / (variance_x + variance_y + 58.5225)
    found = ssim_distance(x.expand(3, 7, 7), y.expand(3, 7, 7)).item()
    assert found == pytest.approx(expected, abs=1e-9)


def test_feature_distance_is_the_length_of_the_difference_at_each_pixel():
    # two output channels that copy red and green: (3, 4) has length 5, at 64 pixels
    weight = torch.zeros(2, 3, 1, 1)
    weight[0, 0], weight[1, 1] = 1, 1
    other = _gray(10)
    other[0] += 3
    other[1] += 4
    # 1e-6 is added to each difference
    assert feature_distance(weight)(_gray(10), other).item() == pytest.approx(5 * 64, abs=1e-3)


def test_frames_are_taken_where_it_moves():
    # cumulative: 0, 0, 0.5, 1; heights 1/4 and 3/4 are equally near to two points each, and the first wins
    assert cumulative_motion([0, 0, 9, 9]).tolist() == [0, 0, 0.5, 1]
    assert sample_by_motion([0, 0, 9, 9], 2) == [0, 2]


def test_a_low_exponent_smooths_the_curve():
    # 1, 9 of 10 against 1, 3 of 4 with the default exponent 1/2, against halves with 0
    assert cumulative_motion([1, 9], exponent=1).tolist() == [0.1, 1]
    assert cumulative_motion([1, 9]).tolist() == [0.25, 1]
    assert cumulative_motion([1, 9], exponent=0).tolist() == [0.5, 1]


@pytest.mark.parametrize(
    ("motion", "indices"),
    [([0.0] * 7, [0, 2, 4, 6]), ([], [0, 0, 0, 0]), ([0.0], [0, 0, 1, 1]), ([2.0], [0, 0, 0, 0])],
)
def test_without_motion_the_segment_centers_are_taken(motion, indices):
    assert sample_by_motion(motion, 4) == indices


@pytest.mark.parametrize("exponent", [0.5, 1, 4])
@pytest.mark.parametrize("motion", [[1e308, 1e308, 1e308], [1e-320, 1e-320], [1e-200, 1e200]])
def test_extreme_motion_gives_a_climb_to_one(motion, exponent):
    climb = cumulative_motion(motion, exponent)
    assert np.isfinite(climb).all()
    assert climb[-1] == pytest.approx(1)


@pytest.mark.parametrize("motion", [[1, float("nan")], [1, float("inf")], [1, -1], [[1, 2]]])
def test_motion_that_cannot_be_is_refused(motion):
    with pytest.raises(ValueError, match="finite numbers of at least 0"):
        sample_by_motion(motion, 4)


@pytest.mark.parametrize("exponent", [-0.5, float("nan"), float("inf")])
def test_an_exponent_that_cannot_be_is_refused(exponent):
    with pytest.raises(ValueError, match=f"exponent is {exponent}"):
        sample_by_motion([1, 2], 4, exponent=exponent)


def test_training_draws_one_height_from_each_part():
    asked = []
    sample_by_motion([1.0] * 8, 4, uniform=lambda low, high: asked.append((low, high)) or low)
    assert asked == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]


def test_the_rule_draws_from_a_generator():
    motion = np.ones(299)
    draw = [
        sample_indices("motion", 300, 8, motion=motion, training=True, rng=np.random.default_rng(s)) for s in (5, 5, 6)
    ]
    assert draw[0] == draw[1] != draw[2]
    assert draw[0] == sorted(draw[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"motion": None}, ValueError, "motion curve of the 10 frames, 9 numbers, and got none"),
        ({"motion": [1.0] * 10}, ValueError, "9 numbers, and got 10 numbers"),
        ({"num_clips": 2}, ValueError, "Rule 'motion' knows one clip per video, not 2"),
        ({"training": True}, ValueError, "pass rng="),
        ({"training": True, "rng": lambda low, high: low}, TypeError, "'motion' draws fractions"),
    ],
)
def test_what_the_rule_cannot_do_is_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        sample_indices(**{"rule": "motion", "num_frames": 10, "num_samples": 4, "motion": [1.0] * 9, **arguments})


def test_a_video_is_measured_on_small_frames():
    large = np.zeros((3, 128, 192, 3), np.uint8)
    large[1] = 8
    with VideoReader(large) as reader:
        assert measure_motion(reader).tolist() == [8 * 64 * 96 * 3, 8 * 64 * 96 * 3]


def test_a_small_video_is_measured_as_it_is(frames):
    with VideoReader(frames) as reader:
        assert measure_motion(reader, pixel_distance).tolist() == [0] * 9 + [10 * 40 * 60 * 3] * 10


def test_a_measured_file_has_one_number_for_each_frame_but_the_last(video_path):
    with VideoReader(video_path) as reader:
        motion = measure_motion(reader)
    assert motion.shape == (15,)
    assert (motion > 0).any()


def test_the_processor_looks_where_it_moves(processor, frames):
    sample = processor.sample(frames)
    # ten equal steps from pair 9 on; heights 1/8, 3/8, 5/8, 7/8 lie between two points of the climb, and the last bit decides
    assert sample.indices == sample_by_motion([0.0] * 9 + [1.0] * 10, 4)
    assert min(sample.indices) >= 9
    assert sample.frames[:, 0, 0, 0].tolist() == [10 * (index - 9) for index in sample.indices]


def test_the_processor_takes_files_and_folders(processor, video_path, tmp_path):
    from PIL import Image

    with VideoReader(video_path) as reader:
        expected = sample_indices("motion", 16, 4, motion=measure_motion(reader))
        for number, frame in enumerate(reader.iterate()):
            Image.fromarray(frame.permute(1, 2, 0).numpy()).save(tmp_path / f"{number:03}.png")
    assert processor.sample(video_path).indices == expected
    assert processor.sample(tmp_path).indices == expected


def test_the_processor_refuses_several_clips(processor, frames):
    with pytest.raises(ValueError, match="Rule 'motion' knows one clip per video, not 3"):
        processor.sample(frames, num_clips=3)


def test_another_rule_can_be_asked_for_and_measures_nothing(processor, frames, monkeypatch):
    monkeypatch.setattr("kinoclip.video_processing.measure_motion", None)
    assert processor.sample(frames, sampling="segment_start").indices == [0, 5, 10, 15]


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_a_video_of_few_frames_gives_as_many_as_asked_for(processor, frames, num_frames):
    sample = processor.sample(frames[-num_frames:])
    assert len(sample.indices) == 4
    assert sample.pixel_values.isfinite().all()


def test_the_rule_travels_with_a_saved_processor(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert RecognizerVideoProcessor.from_pretrained(tmp_path).sampling == "motion"
