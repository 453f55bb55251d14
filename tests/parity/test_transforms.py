"""Resizing, crops and augmentation against clips recorded from the authors' PIL pipeline (grey levels, 0 to 255)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from kinoclip.video import transforms

SCALE, CROP = 32, 28  # stand for 256 and 224

with safe_open(Path(__file__).parent / "recordings" / "transforms.safetensors", "pt") as recording:
    RECORDED = {name: recording.get_tensor(name) for name in recording.keys()}  # noqa: SIM118, it is no dict
    DRAWS, MEAN, STD = (json.loads(recording.metadata()[name]) for name in ("train_draws", "mean", "std"))

FRAMES = RECORDED["frames"].permute(0, 3, 1, 2)


class Replay:
    """Answer each draw with the recorded value, and refuse another question."""

    def __init__(self, draws: list[list[Any]]):
        self.draws = iter(draws)

    def random(self) -> float:
        return self.answer("random")

    def uniform(self, a: float, b: float) -> float:
        return self.answer("uniform", a, b)

    def integers(self, low: int, high: int, *, endpoint: bool) -> int:
        assert endpoint
        return self.answer("randint", low, high)

    def answer(self, *question: Any) -> Any:
        *recorded, value = next(self.draws)
        assert list(question) == recorded
        return value


def worst_grey_level(got: torch.Tensor, expected: torch.Tensor) -> int:
    return int((got.int() - expected.int()).abs().max())


@pytest.mark.parametrize(
    ("name", "num_crops", "step"),
    [("test.center_1", 1, 1), ("test.full_res_3", 3, 1), ("test.over_5", 5, 1), ("test.over_10", 10, 4)],
)
def test_test_views_are_the_official_ones(name, num_crops, step):
    frames = transforms.resize_frames(FRAMES, SCALE)
    views = torch.cat(transforms.view_crops(frames, (CROP, CROP), num_crops))[..., ::step, ::step]
    # PIL rounds between its two passes, torch does too but elsewhere: at most 1 grey level.
    assert worst_grey_level(views, RECORDED[name]) <= 1


def test_validation_resizes_to_the_crop_when_the_input_is_not_224():
    frames = transforms.resize_frames(FRAMES, CROP)
    got = transforms.center_crop(frames, CROP, CROP)
    assert worst_grey_level(got, RECORDED["val.get_augmentation_input28"]) <= 1


@pytest.mark.parametrize("seed", DRAWS)
def test_training_replays_the_official_draws(seed):
    frames = transforms.resize_frames(FRAMES, CROP)
    draws = Replay(DRAWS[seed])
    drawn = transforms.draw_augmentation(frames.shape[-2], frames.shape[-1], CROP, draws)
    got = transforms.augment_frames(frames, drawn, CROP)
    # Two resizes in a row: at most 1 + 1 grey levels.
    assert worst_grey_level(got, RECORDED[f"train.seed{seed}"]) <= 2
    assert next(draws.draws, None) is None


def test_normalizing_in_one_pass_gives_the_official_values():
    got = transforms.normalize_frames(RECORDED["test.center_1"], MEAN, STD)
    # fp32: two roundings instead of three on values of size 2.
    torch.testing.assert_close(got, RECORDED["normalized"], atol=1e-6, rtol=0)
