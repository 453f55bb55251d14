"""Motion curves and what is taken along them; the arithmetic is compared with the authors' in `parity/test_mgsampler.py`."""

import math

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from kinoclip import RecognizerVideoProcessor, VideoReader
from kinoclip.kinoshapes import write_video
from kinoclip.video.errors import VideoDecodeError
from kinoclip.video.motion import (
    encoder_curve,
    feature_distance,
    load_curve,
    measure_motion,
    motion_curve,
    pixel_distance,
    ssim_distance,
)
from kinoclip.video.sampling import cumulative_motion, sample_by_motion, sample_indices


def _gray(level: int) -> torch.Tensor:
    return torch.full((3, 8, 8), level, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))


@pytest.fixture
def frames():
    """Twenty frames (T, H, W, 3): the first ten are alike, then each is brighter by 10."""
    return np.stack([np.full((40, 60, 3), 10 * max(0, i - 9), np.uint8) for i in range(20)])


@pytest.fixture
def processor():
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return RecognizerVideoProcessor(num_frames=4, sampling="motion", **sizes)


@pytest.mark.parametrize("num_frames", [0, 1])
def test_fewer_than_two_frames_have_no_motion(num_frames):
    assert motion_curve([_gray(10)] * num_frames).tolist() == []


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
    with pytest.raises(ValueError, match="finite values of at least 0"):
        sample_by_motion(motion, 4)


@pytest.mark.parametrize("exponent", [-0.5, float("nan"), float("inf")])
def test_an_exponent_that_cannot_be_is_refused(exponent):
    with pytest.raises(ValueError, match="exponent must be at least 0"):
        sample_by_motion([1, 2], 4, exponent=exponent)


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
        ({"motion": None}, ValueError, "motion curve of 9 values for 10 frames, got none"),
        ({"motion": [1.0] * 10}, ValueError, "9 values for 10 frames, got 10 values"),
        ({"num_clips": 2}, ValueError, "num_clips must be 1 for rule 'motion', got 2"),
        ({"training": True}, ValueError, "pass rng="),
        ({"training": True, "rng": lambda low, high: low}, TypeError, "'motion' needs a numpy generator"),
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
    with pytest.raises(ValueError, match="num_clips must be 1 for rule 'motion', got 3"):
        processor.sample(frames, num_clips=3)


def test_another_rule_can_be_asked_for_and_measures_nothing(processor, frames, monkeypatch):
    monkeypatch.setattr("kinoclip.modeling.video_processing.load_curve", None)
    assert processor.sample(frames, sampling="segment_start").indices == [0, 5, 10, 15]


@pytest.fixture
def still_then_moving(tmp_path):
    """A file of 48 frames, in which a textured square moves from frame 24 on."""
    rng = np.random.default_rng(0)
    square, video = rng.integers(0, 255, (24, 24, 3), np.uint8), np.full((48, 64, 96, 3), 90, np.uint8)
    for number, frame in enumerate(video):
        left = 2 * max(0, number - 23)
        frame[20:44, left : left + 24] = square
    return write_video(tmp_path / "moving.mp4", video)


@pytest.mark.parametrize("motion", ["pixels", "ssim", "packets", "vectors"])
def test_every_curve_finds_the_half_that_moves(still_then_moving, motion):
    with VideoReader(still_then_moving) as reader:
        curve = load_curve(still_then_moving, reader, motion)
    assert curve.shape == (47,)
    assert np.median(curve[24:]) > 3 * np.median(curve[:23])


def test_a_curve_of_an_encoder_compares_pictures_of_one_type():
    cues = [("I", 900.0), ("B", 10.0), ("P", 100.0), ("B", 30.0), ("P", 100.0), ("I", 900.0), ("P", math.nan)]
    # B by its median 20, P by 100; the second I, and what has no vectors, take the last known value
    assert encoder_curve(cues).tolist() == [0.5, 1.0, 1.5, 1.0, 1.0, 1.0]
    assert encoder_curve([("I", 5.0)] * 3).tolist() == [0, 0]


def test_a_curve_is_measured_once_for_the_content_of_a_file(processor, still_then_moving, tmp_path, monkeypatch):
    first = processor.sample(still_then_moving).indices
    assert min(first) >= 23
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(still_then_moving.read_bytes())
    monkeypatch.setattr("kinoclip.video.motion.motion_curve", None)
    assert processor.sample(copy).indices == processor.sample(copy.read_bytes()).indices == first
    other = RecognizerVideoProcessor(**{**processor.to_dict(), "motion": "ssim"})
    with pytest.raises(TypeError):
        other.sample(copy)


def test_a_curve_that_cannot_be_kept_is_measured_again(still_then_moving, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "file"))
    with VideoReader(still_then_moving) as reader:
        assert len(load_curve(still_then_moving, reader, "pixels")) == 47
    assert "is not kept" in caplog.text


@pytest.mark.parametrize("motion", ["packets", "vectors"])
def test_what_no_codec_wrote_has_no_cues(processor, frames, motion):
    processor.motion = motion
    with pytest.raises(
        VideoDecodeError, match=r'no codec wrote its frames. Measure its motion in pixels, with motion="pixels"'
    ):
        processor.sample(frames)


def test_features_are_those_of_the_saved_filter(processor, frames, tmp_path):
    weight = torch.ones(1, 3, 1, 1)
    options = {**processor.to_dict(), "motion": "features", "motion_filter": weight.tolist()}
    RecognizerVideoProcessor(**options).save_pretrained(tmp_path)
    loaded = RecognizerVideoProcessor.from_pretrained(tmp_path)
    expected = motion_curve(torch.from_numpy(frames).permute(0, 3, 1, 2), feature_distance(weight))
    assert loaded.sample(frames).indices == sample_by_motion(expected, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"motion": "magic"}, "motion must be one of pixels, ssim, packets, vectors, features, got 'magic'"),
        ({"motion": "features"}, "needs motion_filter"),
        ({"motion": "features", "motion_filter": [[[[1.0, 1.0]]] * 3]}, r"shape \(1, 3, 1, 2\)"),
        ({"motion_filter": [[[[1.0]]] * 3]}, "others need none"),
        ({"motion_exponent": -1}, "exponent must be at least 0"),
    ],
)
def test_settings_of_motion_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RecognizerVideoProcessor(**settings)


def test_the_exponent_of_the_processor_decides_how_much_motion_counts(processor, frames):
    processor.motion_exponent = 0.0
    assert processor.sample(frames).indices == sample_by_motion([1.0] * 19, 4)


@pytest.mark.parametrize("num_frames", [1, 2, 3])
def test_a_video_of_few_frames_gives_as_many_as_asked_for(processor, frames, num_frames):
    sample = processor.sample(frames[-num_frames:])
    assert len(sample.indices) == 4
    assert sample.pixel_values.isfinite().all()
