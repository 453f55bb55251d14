"""Resizing, crops and augmentation; their pixels are compared with the authors' in `tests/parity/test_transforms.py`."""

import numpy as np
import pytest
import torch
from PIL import Image

from kinoclip.video.transforms import (
    Augmentation,
    augment_frames,
    center_crop,
    draw_augmentation,
    draw_multi_scale_crop,
    normalize_frames,
    resize_frames,
    short_side_size,
    to_grayscale,
    view_crops,
)


@pytest.fixture
def photo():
    """A frame (3, 144, 256) with fine structure and noise."""
    y, x = np.mgrid[:144, :256]
    waves = 127 + 80 * np.sin(x * y / 900) + np.random.default_rng(0).normal(0, 20, (3, 144, 256))
    return torch.from_numpy(waves.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("short_side", [224, 100, 32])
def test_resizing_is_within_two_grey_levels_of_pil(photo, short_side):
    image = Image.fromarray(photo.permute(1, 2, 0).numpy())
    height, width = short_side_size(144, 256, short_side)
    expected = torch.from_numpy(np.array(image.resize((width, height), Image.Resampling.BICUBIC))).permute(2, 0, 1)
    assert (resize_frames(photo[None], short_side)[0].int() - expected.int()).abs().max() <= 2


@pytest.mark.parametrize(
    ("arguments", "resized"),
    [
        ((1080, 1920, 256), (256, 455)),  # 256 * 1920 / 1080 = 455.1
        ((1920, 1080, 256), (455, 256)),
        ((256, 340, 256), (256, 340)),
        ((1, 5000, 256), (256, 1280000)),
        ((3, 2, 1), (1, 1)),
    ],
)
def test_the_long_side_is_rounded_down(arguments, resized):
    assert short_side_size(*arguments) == resized


def test_a_frame_of_the_right_size_is_not_touched(photo):
    assert resize_frames(photo[None], 144).data_ptr() == photo.data_ptr()


# (455 - 224) / 2 = 115.5; the floor would be 115
@pytest.mark.parametrize(("width", "left"), [(225, 0), (227, 2), (229, 2), (226, 1), (455, 116)])
def test_the_center_crop_rounds_half_pixels_to_the_even_neighbor(width, left):
    frames = torch.arange(width).expand(1, 3, 224, width)
    assert center_crop(frames, 224, 224)[0, 0, 0, 0] == left


@pytest.mark.parametrize(
    ("num_crops", "corners"),
    [
        (1, [(16, 42)]),
        (3, [(16, 0), (16, 84), (16, 42)]),  # (308 - 224) // 4 = 21, (256 - 224) // 4 = 8
        (5, [(0, 0), (0, 84), (32, 0), (32, 84), (16, 42)]),
    ],
)
def test_views_lie_at_these_corners(num_crops, corners):
    frames = torch.stack([torch.arange(256)[:, None].expand(256, 308), torch.arange(308).expand(256, 308)] * 2)[
        None, :3
    ]
    assert [(int(v[0, 0, 0, 0]), int(v[0, 1, 0, 0])) for v in view_crops(frames, (224, 224), num_crops)] == corners


@pytest.mark.parametrize(
    ("height", "width", "corners"),
    [(224, 398, [(0, 0), (0, 174), (0, 87)]), (301, 224, [(0, 0), (76, 0), (38, 0)]), (224, 224, [(0, 0)] * 3)],
)
def test_three_views_along_the_long_side_are_its_ends_and_its_middle(height, width, corners):
    rows, columns = torch.arange(height)[:, None].expand(height, width), torch.arange(width).expand(height, width)
    views = view_crops(torch.stack([rows, columns, rows])[None], (224, 224), 3, along_long_side=True)
    assert [(int(v[0, 0, 0, 0]), int(v[0, 1, 0, 0])) for v in views] == corners


def test_ten_views_are_five_each_followed_by_its_mirror(photo):
    views = view_crops(photo[None], (100, 100), 10)
    assert torch.equal(torch.stack(views[1::2]), torch.stack(views[::2]).flip(-1))


def test_another_number_of_views_is_an_error(photo):
    with pytest.raises(ValueError, match="must be 1, 3, 5 or 10"):
        view_crops(photo[None], (100, 100), 4)


@pytest.mark.parametrize("num_crops", [1, 3])
def test_a_crop_larger_than_the_frame_is_an_error(photo, num_crops):
    with pytest.raises(ValueError, match="as large as the crop of 145 x 100, got 144 x 256"):
        view_crops(photo[None], (145, 100), num_crops)


@pytest.mark.parametrize("draw", [draw_augmentation, draw_multi_scale_crop])
@pytest.mark.parametrize("size", [(144, 256), (256, 144), (100, 100), (100, 900)])
def test_a_drawn_crop_lies_inside_the_frame(draw, size):
    frames = torch.zeros(1, 3, *size, dtype=torch.uint8)
    for seed in range(20):
        drawn = draw(*size, 96, np.random.default_rng(seed))
        assert augment_frames(frames, drawn, 96).shape == (1, 3, 96, 96)
        box = drawn.box
        assert box is None or (box[0] + box[2] <= size[0] and box[1] + box[3] <= size[1])


class NeverFits:
    """Draws whose crop is always wider than a tall frame."""

    def uniform(self, a: float, b: float) -> float:
        return b

    def random(self) -> float:
        return 0.9

    def integers(self, low: int, high: int, endpoint: bool) -> int:
        return high


def test_ten_crops_that_do_not_fit_give_a_resize_and_a_random_crop():
    drawn = draw_augmentation(200, 50, 40, NeverFits())
    # The short side goes to 40 and the long one to 160; the last position is 120.
    assert drawn == Augmentation(None, (120, 0), flip=False, grayscale=False)
    assert augment_frames(torch.zeros(2, 3, 200, 50, dtype=torch.uint8), drawn, 40).shape == (2, 3, 40, 40)


def test_probabilities_of_zero_and_one_are_certain():
    rng = np.random.default_rng(0)
    drawn = [draw_augmentation(144, 256, 96, rng, flip_probability=0, grayscale_probability=1) for _ in range(50)]
    assert {(d.flip, d.grayscale) for d in drawn} == {(False, True)}


def test_a_multi_scale_crop_has_neighboring_scales_only():
    rng = np.random.default_rng(0)
    boxes = {draw_multi_scale_crop(256, 256, 224, rng).box[2:] for _ in range(400)}
    # int(256 * scale) = 256, 224, 192, 168
    assert boxes == {(a, b) for a, b in ((256, 256), (256, 224), (224, 256), (224, 224), (224, 192), (192, 224), (192, 192), (192, 168), (168, 192), (168, 168))}  # fmt: skip


def test_grayscale_equals_pil(photo):
    expected = np.array(Image.fromarray(photo.permute(1, 2, 0).numpy()).convert("L"))
    assert np.array_equal(to_grayscale(photo[None])[0, 1].numpy(), expected)


def test_normalizing_gives_contiguous_float32(photo):
    out = normalize_frames(resize_frames(photo[None], 64), [0.5, 0.5, 0.5], [0.25, 0.5, 1.0])
    assert out.dtype == torch.float32
    assert out.is_contiguous()
