"""MGSampler against curves, indices and feature differences recorded from the official code, which counts frames from 1."""

import json
import random
from pathlib import Path

import pytest
import torch

from kinoclip.video.motion import feature_distance, motion_curve, pixel_distance
from kinoclip.video.sampling import cumulative_motion, sample_by_motion

ROWS = json.loads((Path(__file__).parent / "recordings" / "mgsampler_curves.json").read_text())["rows"]
DERIVED = [(row, name) for row in ROWS for name in row["derived"]]


@pytest.fixture(params=ROWS, ids=lambda row: row["name"])
def row(request):
    return request.param


def _from_one(indices: list[int]) -> list[int]:
    return [index + 1 for index in indices]


def test_the_curve_is_the_official_one_to_the_last_bit_and_so_are_sixteen_frames(row):
    assert cumulative_motion(row["diff"]).tolist() == row["cumulative"]
    assert _from_one(sample_by_motion(row["diff"], 16)) == row["test_16"]
    drawn = {
        seed: _from_one(sample_by_motion(row["diff"], 16, uniform=random.Random(int(seed)).uniform))
        for seed in row["train_16"]
    }
    assert drawn == row["train_16"]


@pytest.mark.parametrize(
    ("row", "name"), DERIVED, ids=lambda value: value if isinstance(value, str) else value["name"]
)
def test_other_numbers_of_frames_and_exponents_follow_the_same_arithmetic(row, name):
    count, _, exponent = name.removeprefix("T").partition("_mu")
    options = {"num_samples": int(count), "exponent": float(exponent)}
    expected = row["derived"][name]
    assert _from_one(sample_by_motion(row["diff"], **options)) == expected["test"]
    drawn = {
        seed: _from_one(sample_by_motion(row["diff"], **options, uniform=random.Random(int(seed)).uniform))
        for seed in expected["train"]
    }
    assert drawn == expected["train"]


def test_pixel_differences_are_the_recorded_ones(load_golden):
    golden = load_golden("mgsampler")
    found = torch.from_numpy(motion_curve(golden.inputs["frames"], pixel_distance))
    # sums of 1440 differences of up to 255, recorded in single precision
    torch.testing.assert_close(found, golden.outputs["image_l1"].double(), atol=0, rtol=1e-6)


def test_feature_differences_are_the_official_ones(load_golden):
    golden = load_golden("mgsampler")
    distance = feature_distance(golden.inputs["pa_weight"], golden.inputs["pa_bias"])
    found = torch.from_numpy(motion_curve(golden.inputs["frames"], distance))
    # sums of 480 norms of 160 each, from convolutions in single precision
    torch.testing.assert_close(found, golden.outputs["feature_motion"], atol=0, rtol=1e-6)
