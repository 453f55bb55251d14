"""Show why: which frames counted, where the model looked, what it saw there; as text and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from .classify import Classification

_BLOCKS = " ▁▂▃▄▅▆▇█"
INK, QUIET, PAPER, ACCENT, PALE = (24, 24, 27), (100, 106, 120), (255, 255, 255), (37, 99, 235), (214, 222, 240)
# from where nothing is looked at to where most is
_COLD, _WARM, _HOT = (12, 18, 56), (214, 51, 108), (255, 226, 102)
ENTITY_COLORS = ((255, 140, 0), (30, 144, 255), (50, 190, 90), (190, 80, 220), (240, 215, 30))
_GAP, _BAR, _LINE, _MIN_WIDTH = 6, 44, 22, 360


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
    """Draw the frames that were looked at and, as far as the answer has it, why it was given.

    Row by row: the frames; where the model looked, brightest where most in the whole video; the entities of its corpus that
    it saw, each in a color; the attributes of the video; and for each label how much each frame counted. Of several
    crops the first is shown.

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
    tiles = [frame_tile(answer.frames[i], height) for i in shown]
    rows = list(_draw_rows(answer, shown, tiles, max(_GAP + sum(tile.width + _GAP for tile in tiles), _MIN_WIDTH)))
    picture = Image.new("RGB", (rows[0].width, sum(row.height for row in rows) + _GAP), PAPER)
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    return picture


def _draw_rows(
    answer: Classification, shown: list[int], tiles: list[Image.Image], width: int
) -> Iterator[Image.Image]:
    """Draw the rows of the picture, each as wide as it."""
    times = [f"{answer.timestamps[i]:.1f} s" if answer.timestamps else f"#{answer.frame_indices[i]}" for i in shown]
    yield _draw_tiles(tiles, times, width)
    if answer.attention is not None:
        yield _draw_line("where it looked", width, QUIET)
        heat = answer.attention[shown] / answer.attention[shown].max()
        yield _draw_tiles([paint_attention(tile, map_) for tile, map_ in zip(tiles, heat, strict=True)], None, width)
    if answer.entity_map is not None and answer.entities:
        yield _draw_line("what it saw", width, QUIET)
        maps = answer.entity_map[shown]
        yield _draw_tiles([paint_entities(tile, map_) for tile, map_ in zip(tiles, maps, strict=True)], None, width)
        yield _draw_legend(list(answer.entities), width)
    if answer.attributes:
        yield _draw_line(f"attributes: {', '.join(answer.attributes)}", width, QUIET)
    if answer.agreement is not None:
        yield _draw_line(f"English and Chinese names agree by {answer.agreement:.0%}", width, QUIET)
    yield Image.new("RGB", (width, _GAP), PAPER)
    for label, probability in answer:
        by_language = [f"{name.capitalize()} {votes[label]:.1%}" for name, votes in (answer.languages or {}).items()]
        yield _draw_label(label, probability, ", ".join(by_language), width)
        if answer.saliency:
            yield _draw_bars([answer.saliency[label][i] for i in shown], tiles, width)
        yield Image.new("RGB", (width, _GAP), PAPER)


def _draw_tiles(tiles: list[Image.Image], captions: list[str] | None, width: int) -> Image.Image:
    """Place tiles side by side, with a caption below each."""
    row = Image.new("RGB", (width, _GAP + tiles[0].height + (_LINE if captions else _GAP)), PAPER)
    draw = ImageDraw.Draw(row)
    left = _GAP
    for number, tile in enumerate(tiles):
        row.paste(tile, (left, _GAP))
        if captions:
            caption = fit_text(draw, captions[number], tile.width + _GAP, 12)
            draw.text((left, _GAP + tile.height + 2), caption, fill=INK, font=font_of(12))
        left += tile.width + _GAP
    return row


def _draw_line(text: str, width: int, ink: tuple[int, int, int]) -> Image.Image:
    row = Image.new("RGB", (width, _LINE), PAPER)
    draw = ImageDraw.Draw(row)
    draw.text((_GAP, 4), fit_text(draw, text, width - 2 * _GAP, 12), fill=ink, font=font_of(12))
    return row


def _draw_label(label: str, probability: float, votes: str, width: int) -> Image.Image:
    """Draw a label with its probability, as a number and as a line, and what each language votes at the right."""
    row = Image.new("RGB", (width, _LINE), PAPER)
    draw = ImageDraw.Draw(row)
    left = width - _GAP - draw.textlength(votes, font_of(12))
    name = f"   {probability:.1%}"
    name = fit_text(draw, label, left - 2 * _GAP - draw.textlength(name, font_of(14)), 14) + name
    draw.text((_GAP, 0), name, fill=INK, font=font_of(14))
    draw.text((left, 2), votes, fill=QUIET, font=font_of(12))
    draw.rectangle((_GAP, 18, _GAP + probability * (width - 2 * _GAP), 20), fill=ACCENT)
    return row


def _draw_bars(weights: list[float], tiles: list[Image.Image], width: int) -> Image.Image:
    """Draw a bar for each frame, full at the largest weight."""
    row = Image.new("RGB", (width, _BAR), PAPER)
    draw = ImageDraw.Draw(row)
    largest, left = max(*weights, 1e-9), _GAP
    for weight, tile in zip(weights, tiles, strict=True):
        right = left + tile.width
        draw.rectangle((left, 0, right, _BAR - 4), fill=PALE)
        draw.rectangle((left, (_BAR - 4) * (1 - weight / largest), right, _BAR - 4), fill=ACCENT)
        left = right + _GAP
    return row


def _draw_legend(names: list[str], width: int) -> Image.Image:
    """Name the colors of entities, two in a line."""
    row = Image.new("RGB", (width, (len(names) + 1) // 2 * _LINE), PAPER)
    draw = ImageDraw.Draw(row)
    for number, (name, color) in enumerate(zip(names, ENTITY_COLORS, strict=False)):
        left, top = _GAP + number % 2 * width // 2, number // 2 * _LINE
        draw.rectangle((left, top + 4, left + 12, top + 16), fill=color)
        draw.text((left + 18, top + 3), fit_text(draw, name, width // 2 - 30, 12), fill=INK, font=font_of(12))
    return row


def paint_attention(tile: Image.Image, weights: Tensor) -> Image.Image:
    """Color a frame by weights (rows, columns) from 0 to 1, the more the higher they are."""
    pixels = Image.fromarray((255 * weights.float().numpy()).astype(np.uint8))
    pixels = pixels.resize(tile.size, Image.Resampling.BICUBIC)
    colors = ImageOps.colorize(pixels, black=_COLD, mid=_WARM, white=_HOT)
    return Image.composite(
        colors, ImageOps.grayscale(tile).convert("RGB"), pixels.point(lambda value: 60 + value * 0.7)
    )


def paint_entities(tile: Image.Image, entities: Tensor) -> Image.Image:
    """Color the patches of a frame by the entity (rows, columns) that each shows; those of no named one stay gray."""
    ranks = entities.numpy()
    colors = np.array(ENTITY_COLORS, np.uint8)[ranks]
    masks = np.where(ranks < 0, 0, 150).astype(np.uint8)
    painted, mask = (Image.fromarray(a).resize(tile.size, Image.Resampling.NEAREST) for a in (colors, masks))
    return Image.composite(painted, ImageOps.grayscale(tile).convert("RGB"), mask)


def frame_tile(frame: Tensor, height: int) -> Image.Image:
    """Give a frame (3, h, w) uint8 as a picture of this height."""
    image = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
    # a frame of one pixel's height must not become a picture of a mile's width
    width = min(max(1, round(image.width * height / image.height)), 4 * height)
    return image.resize((width, height))


def _evenly(count: int, limit: int) -> list[int]:
    if count <= limit:
        return list(range(count))
    return [i * count // limit for i in range(limit)]


def fit_text(draw: ImageDraw.ImageDraw, text: str, width: float, size: int) -> str:
    """Shorten a text to a width, with dots where something is missing."""
    if draw.textlength(text, font_of(size)) <= width:
        return text
    while text and draw.textlength(f"{text}...", font_of(size)) > width:
        text = text[:-1]
    return f"{text}..."


def font_of(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Give the font of all pictures."""
    return ImageFont.load_default(size)
