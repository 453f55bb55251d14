"""Show why: how much each frame counted for each label, as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .classify import Classification

_BLOCKS = " ▁▂▃▄▅▆▇█"
_INK, _PAPER, _ACCENT, _PALE = (24, 24, 27), (255, 255, 255), (37, 99, 235), (214, 222, 240)
_GAP, _BAR, _LINE = 6, 44, 22


def saliency_bar(weights: Sequence[float]) -> str:
    """Draw weights as a row of blocks, one per frame, the largest full.

    >>> saliency_bar([0.0, 0.1, 0.2, 0.4])
    ' ▂▄█'
    """
    largest = max(weights, default=0.0)
    if largest <= 0:
        return " " * len(weights)
    return "".join(_BLOCKS[round(weight / largest * (len(_BLOCKS) - 1))] for weight in weights)


def draw_explanation(answer: Classification, *, height: int = 112, max_frames: int = 16) -> Image.Image:
    """Draw the frames that were looked at and, for each label, how much each of them counted.

    Args:
        answer: made with `explain=True`.
        height: of a frame in the picture, in pixels.
        max_frames: frames beyond that are left out evenly.

    Raises:
        ValueError: the answer was made without an explanation.
    """
    if answer.frames is None:
        raise ValueError("This answer holds no frames. Classify with explain=True.")
    shown = _evenly(len(answer.frames), max_frames)
    tiles = [_tile(answer.frames[i], height) for i in shown]
    width = max(_GAP + sum(tile.width + _GAP for tile in tiles), 360)
    rows = len(answer.predictions) * (_LINE + (_BAR if answer.saliency else 0) + _GAP)
    picture = Image.new("RGB", (width, _GAP + height + _LINE + rows + _GAP), _PAPER)
    draw = ImageDraw.Draw(picture)
    columns = _draw_frames(picture, draw, tiles, answer, shown)
    top = _GAP + height + _LINE
    for label, probability in answer:
        draw.text((_GAP, top), f"{label}   {probability:.1%}", fill=_INK, font=_font(14))
        draw.rectangle((_GAP, top + 18, _GAP + probability * (width - 2 * _GAP), top + 20), fill=_ACCENT)
        top += _LINE
        if answer.saliency:
            weights = [answer.saliency[label][i] for i in shown]
            _draw_bars(draw, columns, weights, top)
            top += _BAR
        top += _GAP
    return picture


def _draw_frames(
    picture: Image.Image, draw: ImageDraw.ImageDraw, tiles: list[Image.Image], answer: Classification, shown: list[int]
) -> list[tuple[int, int]]:
    """Place the frames with their times, and give the left and right end of each."""
    columns, left = [], _GAP
    for tile, i in zip(tiles, shown, strict=True):
        picture.paste(tile, (left, _GAP))
        time = f"{answer.timestamps[i]:.1f} s" if answer.timestamps else f"#{answer.frame_indices[i]}"
        draw.text((left, _GAP + tile.height + 2), time, fill=_INK, font=_font(12))
        columns.append((left, left + tile.width))
        left += tile.width + _GAP
    return columns


def _draw_bars(draw: ImageDraw.ImageDraw, columns: list[tuple[int, int]], weights: list[float], top: int) -> None:
    largest = max(max(weights), 1e-9)
    for (left, right), weight in zip(columns, weights, strict=True):
        draw.rectangle((left, top, right, top + _BAR - 4), fill=_PALE)
        draw.rectangle((left, top + (_BAR - 4) * (1 - weight / largest), right, top + _BAR - 4), fill=_ACCENT)


def _tile(frame: Tensor, height: int) -> Image.Image:
    image = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
    # a frame of one pixel's height must not become a picture of a mile's width
    width = min(max(1, round(image.width * height / image.height)), 4 * height)
    return image.resize((width, height))


def _evenly(count: int, limit: int) -> list[int]:
    if count <= limit:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
