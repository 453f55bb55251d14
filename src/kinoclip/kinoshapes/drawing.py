"""Draw anti-aliased shapes and muted backgrounds with numpy."""

import math

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 32, 36),
    "green": (34, 186, 52),
    "blue": (36, 62, 232),
    "yellow": (246, 224, 36),
    "purple": (184, 42, 208),
    "white": (246, 246, 246),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
BACKGROUNDS = ("plain", "gradient", "striped", "checkered", "noisy", "dotted")

_STAR_INNER = 0.42
_DOT_DISTANCE, _DOT_RADIUS = 0.68, 0.17


def coverage(
    shape: str, height: int, width: int, center: tuple[float, float], radius: float, angle: float = 0.0
) -> tuple[Plane, Plane]:
    """Compute the share of every pixel that a shape covers, and the share that its dot covers.

    Every shape carries one dark dot near its upper edge, so that rotation is visible on a circle too. The center is
    (x, y), with y growing downward, the radius that of the circle around the shape, all in pixels; the angle is
    clockwise, in radians, and 0 puts the dot on top. Returns two (H, W) planes in 0..1: the shape, and the dot inside
    it.
    """
    # Only the square around the shape is drawn; the rest of the picture stays uncovered.
    left, top = (max(0, math.floor(middle - radius - 2)) for middle in center)
    right = max(left, min(width, math.ceil(center[0] + radius + 2)))
    bottom = max(top, min(height, math.ceil(center[1] + radius + 2)))
    columns = (np.arange(left, right, dtype=np.float32) + 0.5 - center[0]) / radius
    rows = (np.arange(top, bottom, dtype=np.float32)[:, None] + 0.5 - center[1]) / radius
    across = columns * math.cos(angle) + rows * math.sin(angle)
    down = rows * math.cos(angle) - columns * math.sin(angle)
    planes = np.zeros((2, height, width), dtype=np.float32)
    # The distance to the edge, in pixels, is the coverage of a pixel that the edge crosses.
    body = np.clip(0.5 - _distance(shape, across, down) * radius, 0.0, 1.0)
    dot = np.clip(0.5 - (np.hypot(across, down + _DOT_DISTANCE) - _DOT_RADIUS) * radius, 0.0, 1.0)
    planes[0, top:bottom, left:right] = body
    planes[1, top:bottom, left:right] = dot * body
    return planes[0], planes[1]


def background(name: str, height: int, width: int, rng: np.random.Generator) -> Plane:
    """Draw one of `BACKGROUNDS`, (H, W, 3) in 0..255; `rng` chooses the two tones, the direction and the grain."""
    base = rng.uniform(70, 145) + rng.uniform(-14, 14, size=3)
    step = float(rng.choice([-1.0, 1.0]) * rng.uniform(22, 38))
    plane = _pattern(name, height, width, rng)
    return np.clip(base + step * plane[..., None], 0, 255).astype(np.float32)


def paint(picture: Plane, cover: Plane, color: NDArray[np.float32]) -> Plane:
    """Blend a color (3,) into a copy of a picture (H, W, 3), weighted by the coverage (H, W) in 0..1."""
    return (picture + cover[..., None] * (color - picture)).astype(np.float32)


def _distance(shape: str, across: Plane, down: Plane) -> Plane:
    """Compute how far each point lies outside a shape of radius 1 (negative inside)."""
    wide, tall = np.abs(across), np.abs(down)
    outside: NDArray[np.floating]
    if shape == "star":
        outside = _star_distance(across, down)
    elif shape == "circle":
        outside = np.hypot(across, down) - 0.92
    elif shape == "ring":
        outside = np.abs(np.hypot(across, down) - 0.7) - 0.24
    elif shape == "square":
        outside = np.maximum(wide, tall) - 0.78
    elif shape == "cross":
        outside = np.minimum(np.maximum(wide - 0.94, tall - 0.3), np.maximum(wide - 0.3, tall - 0.94))
    else:
        outside = np.maximum(wide * math.cos(math.pi / 6) - down * math.sin(math.pi / 6), down) - 0.53
    return np.asarray(outside, dtype=np.float32)


def _star_distance(across: Plane, down: Plane) -> Plane:
    """Fold the plane into one half of one of the five points, then measure to that point's edge."""
    sector = 2 * math.pi / 5
    turn = np.arctan2(across, -down)
    folded = np.abs(turn - sector * np.round(turn / sector))
    length = np.hypot(across, down)
    inner = (_STAR_INNER * math.cos(sector / 2), _STAR_INNER * math.sin(sector / 2))
    edge = math.hypot(1 - inner[0], inner[1])
    outside = (length * np.cos(folded) - 1) * inner[1] + length * np.sin(folded) * (1 - inner[0])
    return np.asarray(outside / edge, dtype=np.float32)


def _pattern(name: str, height: int, width: int, rng: np.random.Generator) -> Plane:
    """Compute the (H, W) pattern of a background, about -0.5..0.5."""
    columns = np.arange(width, dtype=np.float32)[None, :]
    rows = np.arange(height, dtype=np.float32)[:, None]
    period = min(height, width) * rng.uniform(0.14, 0.22)
    shift = rng.uniform(0, 1, size=2)
    turn = rng.uniform(0, math.pi)
    along = columns * math.cos(turn) + rows * math.sin(turn)
    plane: NDArray[np.floating] = np.zeros((height, width))
    if name == "gradient":
        plane = 1.6 * ((along - along.min()) / float(np.ptp(along)) - 0.5)
    elif name == "striped":
        plane = np.sign(np.sin(2 * math.pi * (along / period + shift[0]))) / 2
    elif name == "checkered":
        plane = ((columns / period + shift[0]) // 1 + (rows / period + shift[1]) // 1) % 2 - 0.5
    elif name == "noisy":
        coarse = rng.uniform(-0.8, 0.8, size=(math.ceil(height / 3), math.ceil(width / 3)))
        plane = np.kron(coarse, np.ones((3, 3)))[:height, :width]
    elif name == "dotted":
        away = np.hypot((columns / period + shift[0]) % 1 - 0.5, (rows / period + shift[1]) % 1 - 0.5)
        plane = np.where(away < 0.26, 0.7, -0.3)
    return np.asarray(plane, dtype=np.float32)
