import pytest
import torch

from kinoclip import Classification, Prediction
from kinoclip.inference.explain import draw_explanation, saliency_bar


def make_answer(num_frames=4, **fields):
    return Classification(
        (Prediction("red circle", 0.9), Prediction("blue square", 0.1)),
        frame_indices=list(range(num_frames)),
        timestamps=[i / 4 for i in range(num_frames)],
        saliency={"red circle": [0.7, 0.1, 0.1, 0.1], "blue square": [0.25] * 4},
        frames=torch.zeros(num_frames, 3, 20, 40, dtype=torch.uint8),
        **fields,
    )


@pytest.mark.parametrize(
    ("weights", "bar"),
    [([0.5, 0.5], "██"), ([1.0, 0.0], "█ "), ([0.0, 0.0], "  "), ([], ""), ([0.8, 0.4], "█▄")],
)
def test_a_bar_is_full_at_the_largest_weight(weights, bar):
    assert saliency_bar(weights) == bar


def test_a_picture_shows_frames_in_their_shape():
    picture = draw_explanation(make_answer(), height=50)
    # frames are 40 x 20, so 100 x 50 in the picture, with gaps of 6 pixels: 6 + 4 * 106
    assert picture.width == 430


def test_the_bar_of_the_salient_frame_is_higher():
    picture = draw_explanation(make_answer(), height=50)
    accent = (37, 99, 235)
    count = lambda left: sum(picture.getpixel((left + 50, y)) == accent for y in range(100, 140))  # noqa: E731
    assert count(6) > 3 * count(112) > 0


def test_an_answer_without_frames_cannot_be_drawn():
    answer = Classification((Prediction("a", 1.0),))
    with pytest.raises(ValueError, match="explain=True"):
        draw_explanation(answer)


def test_a_video_of_one_pixel_can_be_drawn():
    answer = Classification(
        (Prediction("a", 1.0),), frame_indices=[0], frames=torch.zeros(1, 3, 1, 1, dtype=torch.uint8)
    )
    assert draw_explanation(answer).height > 0
