"""An answer as a short film: the frames in their order, where the model looked, and how much each counts."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
from PIL import Image, ImageDraw

from .classification import Classification
from .explain import ACCENT, INK, PALE, PAPER, QUIET, fit_text, font_of, frame_tile, paint_attention

_HEIGHT, _BAR, _GAP, _LINE = 240, 48, 8, 22
# what a person can follow
_FRAMES_PER_SECOND = 4


def draw_film(answer: Classification) -> list[Image.Image]:
    """Draw one picture for each frame that was looked at, all of one even size.

    The frame; beside it, where there is attention, where the model looked; the answer; and below it how much each frame counted, with
    the one that is shown in full color.

    Raises:
        ValueError: the answer was made without an explanation.
    """
    if answer.frames is None:
        raise ValueError("This answer holds no frames. Classify with explain=True.")
    return [_draw(answer, i) for i in range(len(answer.frames))]


def _draw(answer: Classification, number: int) -> Image.Image:
    assert answer.frames is not None
    tile = frame_tile(answer.frames[number], _HEIGHT)
    tiles = [tile]
    if answer.attention is not None:
        tiles.append(paint_attention(tile, answer.attention[number] / answer.attention.max()))
    weights = None if answer.saliency is None else answer.saliency[answer.label]
    width = _GAP + sum(t.width + _GAP for t in tiles)
    height = _GAP + _HEIGHT + 2 * _LINE + (_BAR if weights else 0) + _GAP
    picture = Image.new("RGB", (width + width % 2, height + height % 2), PAPER)
    left = _GAP
    for t in tiles:
        picture.paste(t, (left, _GAP))
        left += t.width + _GAP
    draw = ImageDraw.Draw(picture)
    top = 2 * _GAP + _HEIGHT
    label, share = answer[0]
    time = f"{answer.timestamps[number]:.1f} s" if answer.timestamps else f"#{answer.frame_indices[number]}"
    share_text = f"   {share:.1%}"
    room = width - 2 * _GAP - draw.textlength(share_text, font_of(15))
    draw.text((_GAP, top), fit_text(draw, label, room, 15) + share_text, fill=INK, font=font_of(15))
    draw.text((_GAP, top + _LINE), time, fill=QUIET, font=font_of(12))
    if weights:
        _draw_weights(draw, weights, number, (_GAP, top + 2 * _LINE), (width - 2 * _GAP, _BAR - _GAP))
    return picture


def _draw_weights(
    draw: ImageDraw.ImageDraw, weights: list[float], number: int, corner: tuple[int, int], size: tuple[int, int]
) -> None:
    (left, top), (width, height) = corner, size
    largest = max(*weights, 1e-9)
    step = width / len(weights)
    for i, weight in enumerate(weights):
        sides = left + i * step, left + (i + 1) * step - 2
        draw.rectangle((sides[0], top, sides[1], top + height), fill=PALE)
        color = ACCENT if i == number else tuple((a + b) // 2 for a, b in zip(ACCENT, PALE, strict=True))
        draw.rectangle((sides[0], top + height * (1 - weight / largest), sides[1], top + height), fill=color)


def encode_gif(pictures: list[Image.Image]) -> bytes:
    """Encode pictures as a GIF that starts over at its end."""
    buffer = io.BytesIO()
    pause = 1000 // _FRAMES_PER_SECOND
    pictures[0].save(buffer, "GIF", save_all=True, append_images=pictures[1:], duration=pause, loop=0)
    return buffer.getvalue()


def encode_mp4(pictures: list[Image.Image]) -> bytes:
    """Encode pictures, of one even size, as H.264 that browsers play."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(_FRAMES_PER_SECOND), options={"crf": "20"})
        stream.width, stream.height = pictures[0].size
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()
