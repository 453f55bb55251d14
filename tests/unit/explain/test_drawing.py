"""Explanations as pictures."""

from dataclasses import replace

import pytest
import torch

from kinoclip import Classification, Prediction
from kinoclip.explain.drawing import attention_heat, draw_explanation, saliency_bar

PALE = 100  # red of the color between that of improbable labels (196) and of probable ones (55)


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
    # the frames take 78 pixels, a gap 6, the label 22
    count = lambda left, top: sum(picture.getpixel((left + 50, y))[0] < PALE for y in range(top, top + 40))  # noqa: E731
    assert count(6, 106) > 3 * count(112, 106) > 0
    # the bars of the improbable label, 44 + 6 + 22 pixels below, are full and pale
    assert [picture.getpixel((56, y))[0] < PALE for y in range(178, 218)] == [False] * 40


def test_attention_is_hot_above_an_equal_share_only():
    flat = torch.full((2, 2, 2), 0.25)
    assert attention_heat(flat).max() == 0
    assert attention_heat(torch.tensor([[[0.7, 0.1], [0.1, 0.1]]])).flatten().tolist() == pytest.approx([1, 0, 0, 0])
    # 1 % more than an equal share is noise, not a maximum
    almost = torch.tensor([[[0.2525, 0.2475], [0.25, 0.25]]])
    assert attention_heat(almost).max().item() == pytest.approx(0.1)


def test_each_kind_of_evidence_adds_a_row():
    plain = draw_explanation(make_answer(), height=50).height
    looked = draw_explanation(make_answer(attention=torch.full((4, 2, 2), 0.25)), height=50).height
    assert looked == plain + 22 + 6 + 50 + 6  # a title, and frames between gaps
    entities = {"water": [0.5] * 4, "bow": [0.1] * 4, "hand": [0.1] * 4}
    seen = draw_explanation(make_answer(entity_map=torch.zeros(4, 2, 2).long(), entities=entities), height=50).height
    assert seen == looked + 2 * 22  # and a legend of two lines
    assert draw_explanation(make_answer(attributes=["playing cards"]), height=50).height == plain + 22
    languages = {
        "english": {"red circle": 0.9, "blue square": 0.1},
        "chinese": {"red circle": 0.8, "blue square": 0.2},
    }
    assert draw_explanation(make_answer(languages=languages, agreement=0.9), height=50).height == plain + 22


def test_where_most_is_looked_at_is_brightest():
    attention = torch.tensor([[[0.7, 0.1], [0.1, 0.1]], *[[[0.25, 0.25], [0.25, 0.25]]] * 3])
    picture = draw_explanation(make_answer(attention=attention), height=50).convert("L")
    # the second row of frames begins at 78 + 22 + 6; its patches are 50 x 25 pixels
    at = lambda x, y: picture.getpixel((6 + x, 106 + y))  # noqa: E731
    assert at(10, 5) > 150 > at(90, 5)
    assert abs(at(106 + 10, 25) - at(106 + 90, 25)) <= 1


def test_patches_have_the_color_of_their_entity_and_others_none():
    entity_map = torch.tensor([[[1, -1]]] * 4)
    picture = draw_explanation(make_answer(entity_map=entity_map, entities={"a": [0], "b": [1]}), height=50)
    red, green, blue = picture.getpixel((6 + 25, 131))
    assert blue > green > red  # the second color is a blue, over a black frame
    assert picture.getpixel((6 + 75, 131)) == (0, 0, 0)


def test_texts_that_are_too_long_end_in_dots_inside_the_picture():
    label = "pretending to pour something out of something, but something is empty " * 3
    answer = Classification(
        (Prediction(label, 1.0),),
        frame_indices=[0],
        frames=torch.zeros(1, 3, 20, 20, dtype=torch.uint8),
        attributes=[label],
        entities={label: [0.0]},
        entity_map=torch.zeros(1, 1, 1).long(),
    )
    picture = draw_explanation(answer)
    assert picture.width == 360
    edge = picture.crop((355, 0, 360, picture.height))
    assert edge.getcolors() == [(5 * picture.height, (255, 255, 255))]


def test_a_frame_of_one_pixel_can_be_drawn():
    assert draw_explanation(replace(make_answer(), frames=torch.zeros(4, 3, 1, 1, dtype=torch.uint8))).height > 0
