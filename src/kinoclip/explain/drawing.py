"""Explanations as text and as pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from kinoclip.modeling.classification import Classification

_Color = tuple[int, int, int]
_BLOCKS = " ▁▂▃▄▅▆▇█"
_INK, _QUIET, _PAPER, _ACCENT, _PALE = (24, 24, 27), (100, 106, 120), (255, 255, 255), (37, 99, 235), (214, 222, 240)
# of attention, from the lowest to the highest
_COLD, _WARM, _HOT = (12, 18, 56), (214, 51, 108), (255, 226, 102)
ENTITY_COLORS = ((255, 140, 0), (30, 144, 255), (50, 190, 90), (190, 80, 220), (240, 215, 30))
_GAP, _BAR, _LINE, _MIN_WIDTH, _MAX_FRAMES = 6, 44, 22, 360, 16


def clock(seconds: float) -> str:
    """Format a time.

    >>> clock(0.25), clock(12.0), clock(75.04), clock(3723)
    ('0.25 s', '12 s', '1:15', '1:02:03')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def attention_heat(maps: Tensor) -> Tensor:
    """Scale attention maps (T, rows, columns), which sum to one per frame, to 0 for an equal share and 1 for the largest.

    Patches with less than an equal share get 0, and so does a map without a maximum.
    """
    above = maps - 1 / maps[0].numel()
    return (above / above.max().clamp_min(0.1 / maps[0].numel())).clamp_min(0)


def saliency_bar(weights: Sequence[float]) -> str:
    """Draw weights as a row of block characters, one per frame; the largest is a full block.

    >>> saliency_bar([0.0, 0.1, 0.2, 0.4])
    ' ▂▄█'
    """
    largest = max(weights, default=0.0)
    if largest <= 0:
        return " " * len(weights)
    return "".join(_BLOCKS[round(weight / largest * (len(_BLOCKS) - 1))] for weight in weights)


def draw_explanation(answer: Classification, *, height: int = 112) -> Image.Image:
    """Draw the sampled frames and the parts of the explanation that the answer has.

    Rows: the names of video and model; the frames (of the first crop); attention above an equal share, scaled to its maximum over the
    video; the entities, one color each; the attributes; for each label its probability and the saliency of each frame, scaled
    to its largest. Of more than 16 frames an even
    selection is drawn, each `height` pixels high. An answer that was made without `explain=True` is a `ValueError`.
    """
    if answer.frames is None:
        raise ValueError("The answer has no frames. Classify with explain=True.")
    count = len(answer.frames)
    shown = [i * count // min(count, _MAX_FRAMES) for i in range(min(count, _MAX_FRAMES))]
    tiles = [frame_tile(answer.frames[i], height) for i in shown]
    rows = list(_draw_rows(answer, shown, tiles, max(_GAP + sum(tile.width + _GAP for tile in tiles), _MIN_WIDTH)))
    picture = Image.new("RGB", (rows[0].width, sum(row.height for row in rows) + _GAP), _PAPER)
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    return picture


def _draw_rows(
    answer: Classification, shown: list[int], tiles: list[Image.Image], width: int
) -> Iterator[Image.Image]:
    gap = Image.new("RGB", (width, _GAP), _PAPER)
    times = [clock(answer.timestamps[i]) if answer.timestamps else f"#{answer.frame_indices[i]}" for i in shown]
    named = [answer.video and Path(answer.video).name, answer.model and f"model {answer.model}"]
    if any(named):
        yield _draw_line(", ".join(filter(None, named)), width)
    yield _draw_tiles(tiles, times, width)
    if answer.attention is not None:
        yield _draw_line("where it looked: patches with more than an equal share of the attention", width)
        heat = attention_heat(answer.attention)[shown]
        yield _draw_tiles([paint_attention(tile, map_) for tile, map_ in zip(tiles, heat, strict=True)], None, width)
    if answer.entity_map is not None and answer.entities:
        yield _draw_line("what it saw", width)
        maps = answer.entity_map[shown]
        yield _draw_tiles([paint_entities(tile, map_) for tile, map_ in zip(tiles, maps, strict=True)], None, width)
        yield _draw_legend(list(answer.entities), width)
    if answer.attributes:
        yield _draw_line(f"attributes: {', '.join(answer.attributes)}", width)
    if answer.agreement is not None:
        yield _draw_line(f"English and Chinese names agree by {answer.agreement:.0%}", width)
    yield gap
    for label, probability in answer:
        by_language = [f"{name.capitalize()} {votes[label]:.1%}" for name, votes in (answer.languages or {}).items()]
        yield _draw_label(label, probability, ", ".join(by_language), width)
        if answer.saliency:
            yield _draw_bars([answer.saliency[label][i] for i in shown], tiles, width, probability)
        yield gap
    if answer.saliency:
        yield _draw_line(
            "bars: weight of each frame for a label, scaled to its largest; pale where the label is improbable", width
        )


def _draw_tiles(tiles: list[Image.Image], captions: list[str] | None, width: int) -> Image.Image:
    row, draw = _blank(width, _GAP + tiles[0].height + (_LINE if captions else _GAP))
    left = _GAP
    for number, tile in enumerate(tiles):
        row.paste(tile, (left, _GAP))
        if captions:
            _write(draw, captions[number], left, _GAP + tile.height + 2, tile.width + _GAP)
        left += tile.width + _GAP
    return row


def _draw_line(text: str, width: int) -> Image.Image:
    row, draw = _blank(width, _LINE)
    _write(draw, text, _GAP, 4, width - 2 * _GAP, _QUIET)
    return row


def _draw_label(label: str, probability: float, votes: str, width: int) -> Image.Image:
    """Draw a label, its probability as a number and a bar, and the votes of the languages on the right."""
    row, draw = _blank(width, _LINE)
    left = width - _GAP - draw.textlength(votes, _font(12))
    number = f"   {probability:.1%}"
    name = _fit(draw, label, left - 2 * _GAP - draw.textlength(number, _font(14)), 14) + number
    draw.text((_GAP, 0), name, fill=_INK, font=_font(14))
    draw.text((left, 2), votes, fill=_QUIET, font=_font(12))
    draw.rectangle((_GAP, 18, _GAP + probability * (width - 2 * _GAP), 20), fill=_ACCENT)
    return row


def _draw_bars(weights: list[float], tiles: list[Image.Image], width: int, probability: float) -> Image.Image:
    """Draw a bar for each frame; that of the largest weight is full, and in full color for a probability of one."""
    row, draw = _blank(width, _BAR)
    largest, left = max(*weights, 1e-9), _GAP
    ink = tuple(
        round(pale + (full - pale) * (0.1 + 0.9 * probability)) for pale, full in zip(_PALE, _ACCENT, strict=True)
    )
    for weight, tile in zip(weights, tiles, strict=True):
        right = left + tile.width
        draw.rectangle((left, 0, right, _BAR - 4), fill=_PALE)
        draw.rectangle((left, (_BAR - 4) * (1 - weight / largest), right, _BAR - 4), fill=ink)
        left = right + _GAP
    return row


def _draw_legend(names: list[str], width: int) -> Image.Image:
    """Name the colors of entities, two in a line."""
    row, draw = _blank(width, (len(names) + 1) // 2 * _LINE)
    for number, (name, color) in enumerate(zip(names, ENTITY_COLORS, strict=False)):
        left, top = _GAP + number % 2 * width // 2, number // 2 * _LINE
        draw.rectangle((left, top + 4, left + 12, top + 16), fill=color)
        _write(draw, name, left + 18, top + 3, width // 2 - 30)
    return row


def paint_attention(tile: Image.Image, weights: Tensor) -> Image.Image:
    """Color a frame by weights (rows, columns) from 0 to 1."""
    pixels = Image.fromarray((255 * weights.float().numpy()).astype(np.uint8))
    pixels = pixels.resize(tile.size, Image.Resampling.BICUBIC)
    colors = ImageOps.colorize(pixels, black=_COLD, mid=_WARM, white=_HOT)
    mask = pixels.point(lambda value: 60 + value * 0.7)
    return Image.composite(colors, ImageOps.grayscale(tile).convert("RGB"), mask)


def paint_entities(tile: Image.Image, entities: Tensor) -> Image.Image:
    """Color the patches of a frame by their entity (rows, columns); patches with -1 stay gray."""
    ranks = entities.numpy()
    colors = np.array(ENTITY_COLORS, np.uint8)[ranks]
    masks = np.where(ranks < 0, 0, 150).astype(np.uint8)
    painted, mask = (Image.fromarray(a).resize(tile.size, Image.Resampling.NEAREST) for a in (colors, masks))
    return Image.composite(painted, ImageOps.grayscale(tile).convert("RGB"), mask)


def frame_tile(frame: Tensor, height: int) -> Image.Image:
    """Resize a frame (3, h, w) uint8 to a height; at most four times as wide as high."""
    image = Image.fromarray(frame.permute(1, 2, 0).cpu().numpy())
    width = min(max(1, round(image.width * height / image.height)), 4 * height)
    return image.resize((width, height))


def _blank(width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    row = Image.new("RGB", (width, height), _PAPER)
    return row, ImageDraw.Draw(row)


def _write(draw: ImageDraw.ImageDraw, text: str, left: float, top: float, width: float, ink: _Color = _INK) -> None:
    draw.text((left, top), _fit(draw, text, width, 12), fill=ink, font=_font(12))


def _fit(draw: ImageDraw.ImageDraw, text: str, width: float, size: int) -> str:
    """Shorten a text to a width; dots replace what is cut."""
    if draw.textlength(text, _font(size)) <= width:
        return text
    while text and draw.textlength(f"{text}...", _font(size)) > width:
        text = text[:-1]
    return f"{text}..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
