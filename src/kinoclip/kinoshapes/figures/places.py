"""Places where people act: a wall with its pattern, and a floor."""

import numpy as np
from PIL import Image, ImageDraw

from kinoclip.kinoshapes.figures.skeleton import Array

Color = tuple[int, int, int]

# wall, floor and pattern of each place
PLACES: dict[str, tuple[Color, Color, str]] = {
    "brick wall": ((158, 94, 78), (150, 146, 140), "bricks"),
    "wooden room": ((176, 134, 92), (140, 100, 66), "planks"),
    "meadow": ((160, 200, 232), (104, 160, 82), "trees"),
    "beach": ((140, 196, 220), (224, 204, 150), "sea"),
    "street": ((172, 178, 188), (112, 114, 120), "houses"),
    "gym": ((206, 210, 206), (190, 128, 78), "bars"),
    "kitchen": ((222, 222, 210), (176, 176, 184), "tiles"),
    "snow": ((186, 200, 220), (236, 240, 246), "mountains"),
}


def draw_place(name: str, horizon: float, height: int, width: int, rng: np.random.Generator) -> Image.Image:
    """Draw a place twice the shorter side wider and higher than a frame; `horizon` is the row where its wall meets the floor, in rows of a frame."""
    side = min(height, width)
    wall, floor, pattern = PLACES[name]
    tint = rng.uniform(-16, 16, size=3) + rng.uniform(-14, 14)
    shades = [np.clip(np.array(color) + tint + rng.uniform(-8, 8, 3), 0, 255) for color in (wall, floor)]
    size = (width + 2 * side, height + 2 * side)
    line = round(horizon) + side
    picture = Image.new("RGB", size, _rgb(shades[0]))
    draw = ImageDraw.Draw(picture)
    _decorate(draw, pattern, shades[0], size[0], line, side, rng)
    for _ in range(
        int(rng.integers(0, 5)) if pattern not in ("sea", "mountains") else 0
    ):  # pictures, windows, posters
        x, y, w, h = rng.uniform(
            [0, line - 1.3 * side, 0.1 * side, 0.1 * side], [size[0], line - 0.35 * side, 0.32 * side, 0.3 * side]
        )
        draw.rectangle((x, y, x + w, y + h), _rgb(rng.uniform(50, 230, 3)), _rgb(shades[0] * 0.5))
    draw.rectangle((0, line, *size), _rgb(shades[1]))
    for row in range(1, 12):  # joints of the floor come nearer to each other with distance
        y = line + side * 0.028 * row * (1 + 0.32 * row)
        draw.line((0, y, size[0], y), _rgb(shades[1] * 0.92), max(1, side // 90))
    vanishing = line - 0.25 * side
    for column in range(-14, 15) if pattern in ("planks", "tiles", "bars", "houses") else ():
        x = size[0] / 2 + column * 0.2 * side
        y = line + 1.2 * side
        foot = size[0] / 2 + (x - size[0] / 2) * (y - vanishing) / (line - vanishing)
        draw.line((x, line, foot, y), _rgb(shades[1] * 0.9), max(1, side // 90))
    for _ in range(int(rng.integers(0, 4))):  # things that stand at the wall
        x, w, h = rng.uniform([0, 0.06 * side, 0.08 * side], [size[0], 0.25 * side, 0.4 * side])
        color, foot = rng.uniform(40, 220, 3), line + rng.uniform(0, 0.05) * side
        draw.rectangle((x, foot - h, x + w, foot), _rgb(color), _rgb(color * 0.6))
        draw.rectangle((x + 0.2 * w, foot - 0.8 * h, x + 0.8 * w, foot - 0.5 * h), _rgb(color * 0.8))
    return picture


def _decorate(
    draw: ImageDraw.ImageDraw, pattern: str, wall: Array, width: int, line: int, side: int, rng: np.random.Generator
) -> None:
    """Draw what distinguishes a wall, above `line`."""
    joint, stroke = _rgb(wall * 0.84), max(1, side // 90)
    step = side * rng.uniform(0.09, 0.13)
    rows = [line - step * k for k in range(1, int(line / step) + 1)]
    columns = [step * k for k in range(int(width / step) + 1)]
    if pattern in ("bricks", "tiles"):
        for k, y in enumerate(rows):
            draw.line((0, y, width, y), joint, stroke)
            for x in columns[:: 2 if pattern == "bricks" else 1]:
                x += step * (k % 2) * (pattern == "bricks")
                draw.line((x, y, x, y + step), joint, stroke)
    elif pattern in ("planks", "bars"):
        for x in columns[:: 1 if pattern == "planks" else 3]:
            draw.line((x, 0, x, line), joint, stroke)
        for y in rows[: 6 if pattern == "bars" else 1]:
            draw.line((0, y - 2 * step, width, y - 2 * step), _rgb(wall * (0.6, 0.4, 0.3)), 2 * stroke)
    elif pattern == "trees":
        for x in rng.uniform(0, width, 9):
            h = side * rng.uniform(0.35, 0.8)
            draw.rectangle((x - 0.02 * side, line - h, x + 0.02 * side, line), (96, 66, 40))
            green = _rgb(np.array([50, 110, 50]) + rng.uniform(-20, 30, 3))
            draw.ellipse((x - 0.16 * side, line - h - 0.2 * side, x + 0.16 * side, line - 0.35 * h), green)
    elif pattern == "sea":
        draw.rectangle((0, line - 0.22 * side, width, line), (46, 110, 170))
        for y in np.linspace(line - 0.2 * side, line, 5):
            draw.line((0, y, width, y), (150, 200, 226), stroke)
        draw.ellipse((width * 0.45, line - side, width * 0.45 + 0.2 * side, line - 0.8 * side), (250, 236, 150))
    elif pattern == "houses":
        left = 0.0
        while left < width:
            w, h = side * rng.uniform(0.3, 0.6), side * rng.uniform(0.6, 1.5)
            color = rng.uniform(90, 200) + rng.uniform(-25, 25, 3)
            draw.rectangle((left, line - h, left + w, line), _rgb(color))
            for y in np.arange(line - h + 0.06 * side, line - 0.1 * side, 0.15 * side):
                for x in np.arange(left + 0.05 * side, left + w - 0.08 * side, 0.13 * side):
                    draw.rectangle((x, y, x + 0.06 * side, y + 0.08 * side), _rgb(color * 0.55))
            left += w
    elif pattern == "mountains":
        for x in rng.uniform(0, width, 7):
            w, h = side * rng.uniform(0.4, 0.8), side * rng.uniform(0.3, 0.8)
            draw.polygon(
                (x - w, line, x, line - h, x + w, line), _rgb(np.array([120, 130, 150]) + rng.uniform(-20, 20))
            )
            draw.polygon((x - 0.3 * w, line - 0.7 * h, x, line - h, x + 0.3 * w, line - 0.7 * h), (240, 244, 250))


def _rgb(color: Array) -> Color:
    red, green, blue = (int(np.clip(value, 0, 255)) for value in color)
    return red, green, blue
