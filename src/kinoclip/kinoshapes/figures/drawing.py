"""Draw bodies, things and places: capsules and faces in perspective, painted from far to near into a picture of ids.

One picture of ids carries both the colors and the ground truth, so masks and frames agree by construction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kinoclip.kinoshapes.figures.skeleton import JOINTS, Array, Body

Color = tuple[int, int, int]
Shade = Sequence[float] | Array

COLORS: dict[str, Color] = {
    "red": (200, 40, 40),
    "blue": (45, 80, 200),
    "green": (50, 150, 70),
    "yellow": (235, 205, 60),
    "white": (236, 236, 232),
    "black": (42, 42, 48),
    "purple": (135, 60, 170),
    "brown": (125, 85, 50),
    "orange": (240, 135, 40),
    "pink": (240, 140, 175),
    "gray": (140, 142, 148),
}
SKINS: tuple[Color, ...] = ((247, 214, 186), (229, 185, 145), (198, 146, 105), (150, 100, 68), (104, 68, 46))
HAIRS: tuple[Color, ...] = ((40, 30, 26), (92, 58, 34), (196, 156, 84), (150, 70, 40), (130, 130, 130))
PARTS = (
    *("head", "torso", "left arm", "right arm", "left hand", "right hand"),
    *("left leg", "right leg", "left foot", "right foot"),
)
THINGS = ("ball", "box", "cup", "spoon", "bowl", "rope", "chair", "barbell", "bystander", "occluder")
_SUPERSAMPLING = 2


def part_id(name: str, person: int = 0) -> int:
    """Return the id of a part of the first (0) or second (1) person, or of a thing, in `parts` of a clip."""
    return 1 + len(PARTS) * person + PARTS.index(name) if name in PARTS else 1 + 2 * len(PARTS) + THINGS.index(name)


@dataclass(frozen=True)
class Look:
    """Colors of a person, by name where captions mention them."""

    shirt: str = "red"
    trousers: str = "blue"
    skin: int = 0
    hair: int = 0
    shoes: str = "black"
    short_sleeves: bool = False
    shorts: bool = False
    striped: bool = False
    long_hair: bool = False


@dataclass(frozen=True)
class Camera:
    """A camera for each frame: where it looks, from where, and the center and magnification of the picture."""

    target: Array  # (T, 3) meters
    yaw: float  # degrees from straight in front of a person that looks along z, to their left
    pitch: float  # degrees downward
    distance: float  # meters
    center: Array  # (T, 2) in sides of the picture, relative to its middle
    zoom: Array  # (T,)

    def project(self, points: Array, height: int, width: int) -> Array:
        """Project points (T, N, 3) to columns, rows and pixels per meter: (T, N, 3)."""
        yaw, pitch = math.radians(self.yaw), math.radians(self.pitch)
        back = np.array([math.sin(yaw) * math.cos(pitch), math.sin(pitch), math.cos(yaw) * math.cos(pitch)])
        right = np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
        away = points - self.target[:, None]
        depth = np.maximum(self.distance - away @ back, 0.3)
        scale = 1.5 * min(height, width) * self.zoom[:, None] / depth
        middle = np.array([width, height]) / 2 + self.center * min(height, width)
        flat = np.stack([away @ right, -(away @ np.cross(back, right))], axis=-1) * scale[..., None]
        return np.concatenate([flat + middle[:, None], scale[..., None]], axis=-1)


@dataclass
class Item:
    """A capsule between two points, or a face of more, with its ids in the palette: inside, and outline (0: none)."""

    points: tuple[int, ...]
    radii: tuple[float, float]
    color: int
    outline: int
    facing: tuple[int, int] | None = None  # drawn only where the second of two points is nearer than the first


@dataclass
class Stage:
    """All that is drawn: points over time, palette, and groups of items that are painted from far to near."""

    num_frames: int
    points: list[Array] = field(default_factory=list)  # each (T, 3)
    palette: list[tuple[Color, int]] = field(default_factory=lambda: [((0, 0, 0), 0)])  # color and part
    groups: list[tuple[tuple[int, ...], list[Item], float]] = field(default_factory=list)  # depth points, items, bias
    shadows: list[tuple[int, int, float]] = field(default_factory=list)

    def point(self, place: Array) -> int:
        """Add a point, and return its index."""
        self.points.append(np.broadcast_to(place, (self.num_frames, 3)))
        return len(self.points) - 1

    def color(self, rgb: Shade, part: int) -> int:
        """Add a color of a part to the palette, and return its id."""
        shade = tuple(int(np.clip(value, 0, 255)) for value in rgb)
        self.palette.append(((shade[0], shade[1], shade[2]), part))
        return len(self.palette) - 1

    def tones(self, rgb: Shade, part: int) -> tuple[int, int]:
        """Return the ids of a color and of its outline."""
        return self.color(rgb, part), self.color(np.array(rgb) * 0.5, part)

    def person(self, joints: Array, body: Body, look: Look, ids: Sequence[int]) -> None:
        """Add a person with joints (T, 18, 3); `ids` are those of `PARTS`."""
        at = {name: self.point(joints[:, index]) for index, name in enumerate(JOINTS)}
        part, size, girth = dict(zip(PARTS, ids, strict=True)), body.height, body.height * body.girth
        skin, shirt = np.array(SKINS[look.skin]), np.array(COLORS[look.shirt])
        trousers, shoes = np.array(COLORS[look.trousers]), np.array(COLORS[look.shoes])

        def limb(part_name: str, first: str, last: str, color: Array, start: float, end: float) -> Item:
            return Item((at[first], at[last]), (start * girth, end * girth), *self.tones(color, part[part_name]))

        for side in ("left", "right"):
            # far limbs are darker, as in a drawing
            sleeve, leg = (skin if look.short_sleeves else shirt * 0.92), (skin if look.shorts else trousers * 0.92)
            tip = joints[:, JOINTS.index(f"{side} hand")]
            elbow = joints[:, JOINTS.index(f"{side} elbow")]
            at[f"{side} palm"] = self.point(tip + 0.12 * (tip - elbow))
            arm = [
                limb(f"{side} arm", f"{side} shoulder", f"{side} elbow", shirt * 0.96, 0.034, 0.03),
                limb(f"{side} arm", f"{side} elbow", f"{side} hand", sleeve, 0.03, 0.024),
                limb(f"{side} hand", f"{side} hand", f"{side} palm", skin * 0.97, 0.031, 0.029),
            ]
            self.groups.append(((at[f"{side} elbow"], at[f"{side} hand"]), arm, 0.0))
            legs = [
                limb(f"{side} foot", f"{side} ankle", f"{side} toe", shoes, 0.03, 0.027),
                limb(f"{side} leg", f"{side} hip", f"{side} knee", trousers * 0.96, 0.052, 0.042),
                limb(f"{side} leg", f"{side} knee", f"{side} ankle", leg, 0.04, 0.03),
            ]
            self.groups.append(((at[f"{side} hip"], at[f"{side} knee"]), legs, 0.0))
            for first, last, radius in (("shoulder", "hand", 0.03), ("hip", "knee", 0.05), ("knee", "ankle", 0.04)):
                self.shadows.append((at[f"{side} {first}"], at[f"{side} {last}"], radius * girth))
        self.shadows.append((at["neck"], at["pelvis"], 0.11 * girth))
        self.shadows.append((at["head"], at["head"], 0.075 * size))
        self._torso(at, joints, look, shirt, trousers, part["torso"], girth)
        self._head(at, joints, look, skin, part["head"], size)

    def _torso(
        self, at: dict[str, int], joints: Array, look: Look, shirt: Array, trousers: Array, part: int, girth: float
    ) -> None:
        color, edge = self.tones(shirt, part)
        corners = [at[name] for name in ("left shoulder", "right shoulder", "right hip", "left hip")]
        upper, lower = 0.042 * girth, 0.055 * girth
        items = [Item((corners[2], corners[3]), (lower, lower), *self.tones(trousers * 0.96, part))]
        for first, last in ((0, 1), (1, 2), (0, 3)):
            radii = (upper, lower if last != 1 else upper)
            items.append(Item((corners[first], corners[last]), radii, color, edge))
        items.append(Item(tuple(corners), (0, 0), color, 0))
        if look.striped:
            stripe = self.color(shirt * 0.55 + 90, part)
            for share in (0.3, 0.62):
                ends = []
                for side in ("left", "right"):
                    a, b = (joints[:, JOINTS.index(f"{side} {name}")] for name in ("shoulder", "hip"))
                    ends.append(self.point(a + share * (b - a)))
                items.append(Item((ends[0], ends[1]), (0.022 * girth, 0.022 * girth), stripe, 0))
        self.groups.append(((at["neck"], at["pelvis"]), items, 0.0))

    def _head(self, at: dict[str, int], joints: Array, look: Look, skin: Array, part: int, size: float) -> None:
        head, neck, nose = (joints[:, JOINTS.index(name)] for name in ("head", "neck", "nose"))
        radius = 0.078 * size
        ahead = (nose - head) / np.linalg.norm(nose - head, axis=-1, keepdims=True)
        up = (head - neck) / np.linalg.norm(head - neck, axis=-1, keepdims=True)
        left = np.cross(up, ahead)
        hair, edge = self.tones(HAIRS[look.hair], part)
        face, dark = self.color(skin, part), self.color((40, 25, 25), part)
        front, middle = self.point(head + 0.4 * radius * ahead - 0.12 * radius * up), at["head"]
        tip = self.point(head + 1.02 * radius * ahead - 0.2 * radius * up)
        items = [Item((at["neck"], middle), (0.034 * size, 0.034 * size), *self.tones(skin * 0.9, part))]
        if look.long_hair:
            tail = self.point(neck - 0.75 * radius * ahead + 0.1 * radius * up)
            items.append(Item((middle, tail), (0.85 * radius, 0.55 * radius), hair, edge))
        items.append(Item((middle, middle), (radius, radius), hair, edge))
        items.append(Item((front, front), (0.82 * radius, 0.82 * radius), face, 0, (middle, front)))
        items.append(
            Item((tip, tip), (0.17 * radius, 0.17 * radius), self.color(skin * 0.78, part), 0, (middle, front))
        )
        for sign in (-1, 1):
            eye = self.point(head + radius * (0.8 * ahead + sign * 0.36 * left + 0.12 * up))
            items.append(Item((eye, eye), (0.16 * radius, 0.16 * radius), dark, 0, (middle, eye)))
        mouth = [self.point(head + radius * (0.84 * ahead + sign * 0.22 * left - 0.5 * up)) for sign in (-1, 1)]
        items.append(Item((mouth[0], mouth[1]), (0.08 * radius, 0.08 * radius), dark, 0, (middle, mouth[0])))
        self.groups.append(((middle, at["neck"]), items, -0.02))

    def capsules(
        self, ends: Sequence[tuple[Array, Array]], radius: float, rgb: Shade, part: int, bias: float = 0.0
    ) -> None:
        """Add capsules of one color as one group; it counts as nearer by `bias` meters."""
        tones = self.tones(rgb, part)
        items = [Item((self.point(a), self.point(b)), (radius, radius), *tones) for a, b in ends]
        self.groups.append((tuple(index for item in items for index in item.points), items, -bias))

    def cuboid(self, middle: Array, sides: Sequence[float], rgb: Shade, part: int, bias: float = 0.0) -> None:
        """Add a box with edges along the axes."""
        half = np.array(sides) / 2
        corners = {
            (x, y, z): self.point(middle + half * np.array([x, y, z]))
            for x in (-1, 1)
            for y in (-1, 1)
            for z in (-1, 1)
        }
        items = []
        outline = self.color(np.array(rgb) * 0.45, part)
        for axis in range(3):
            for sign in (-1, 1):
                around = [(-1, -1), (-1, 1), (1, 1), (1, -1)]
                keys = [(*pair[:axis], sign, *pair[axis:]) for pair in around]
                if (sign > 0) == (axis == 1):  # counterclockwise as seen from outside
                    keys.reverse()
                shade = np.array(rgb) * (0.75, 1.1, 0.9)[axis]
                items.append(
                    Item(tuple(corners[key] for key in keys), (1, 0), self.color(shade, part), outline)  # type: ignore[index]
                )
        self.groups.append((tuple(corners.values()), items, -bias))


def paint(
    stage: Stage, camera: Camera, backdrop: Image.Image, light: tuple[float, float], height: int, width: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw all frames: uint8 (T, H, W, 3), and the part of each pixel (T, H, W).

    Args:
        stage: what is drawn.
        camera: see `Camera`.
        backdrop: picture of the place, twice the shorter side wider and higher than needed; it is at the wall.
        light: where shadows fall, in meters per meter of height.
        height: pixels.
        width: pixels.
    """
    points = np.stack(stage.points, axis=1)
    flat = camera.project(points, height, width)
    fine = flat * _SUPERSAMPLING
    shadow = points.copy()
    shadow[..., 0] += light[0] * np.maximum(points[..., 1], 0)
    shadow[..., 2] += light[1] * np.maximum(points[..., 1], 0)
    shadow[..., 1] = 0.0
    ground = camera.project(shadow, height, width)
    depth = 1.0 / flat[..., 2]
    farness = [
        depth[:, list(at)].mean(1) * (1.5 * min(height, width)) * camera.zoom + bias for at, _, bias in stage.groups
    ]
    order = np.argsort(-np.stack(farness, axis=1), axis=1, kind="stable")
    colors = np.zeros((256, 3), np.uint8)
    colors[: len(stage.palette)] = [rgb for rgb, _ in stage.palette]
    part_of = np.zeros(256, np.uint8)
    part_of[: len(stage.palette)] = [part for _, part in stage.palette]
    line = max(0.5, 0.006 * _SUPERSAMPLING * min(height, width))
    opaque = [0, *[255] * 255]
    dim = [int(0.62 * value) for value in range(256)] * 3
    frames = np.empty((stage.num_frames, height, width, 3), np.uint8)
    parts = np.empty((stage.num_frames, height, width), np.uint8)
    for t in range(stage.num_frames):
        ids = Image.new("P", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
        draw = ImageDraw.Draw(ids)
        places, rows = fine[t].tolist(), ground[t].tolist()
        for index in order[t].tolist():
            _draw_group(draw, stage.groups[index][1], places, line)
        dark = Image.new("L", (width, height))
        pen = ImageDraw.Draw(dark)
        for first, last, radius in stage.shadows:
            _capsule(pen, rows[first], rows[last], radius * rows[first][2], radius * rows[last][2], 255)
        picture = _place_backdrop(backdrop, camera, t, height, width)
        picture.paste(picture.point(dim), (0, 0), dark)
        covered = np.asarray(ids)
        parts[t] = part_of[covered[::_SUPERSAMPLING, ::_SUPERSAMPLING]]
        ids.putpalette(colors.tobytes())
        share = np.asarray(ids.point(opaque, "L").reduce(_SUPERSAMPLING), np.uint16)[..., None]
        figures = np.asarray(ids.convert("RGB").reduce(_SUPERSAMPLING), np.uint16)
        frames[t] = np.minimum(figures + np.asarray(picture, np.uint16) * (255 - share) // 255, 255)
    return frames, parts


def _draw_group(draw: ImageDraw.ImageDraw, items: Sequence[Item], places: list[list[float]], line: float) -> None:
    shown = [item for item in items if item.facing is None or places[item.facing[0]][2] < places[item.facing[1]][2]]
    for item in shown:
        if item.outline and len(item.points) == 2:
            first, last = (places[index] for index in item.points)
            _capsule(draw, first, last, item.radii[0] * first[2] + line, item.radii[1] * last[2] + line, item.outline)
    for item in shown:
        if len(item.points) == 2:
            first, last = (places[index] for index in item.points)
            _capsule(draw, first, last, item.radii[0] * first[2], item.radii[1] * last[2], item.color)
            continue
        corners = [tuple(places[index][:2]) for index in item.points]
        area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, [*corners[1:], corners[0]], strict=True))
        if not item.radii[0] or area > 0:
            draw.polygon(corners, item.color, item.outline or None)


def _capsule(
    draw: ImageDraw.ImageDraw, first: list[float], last: list[float], start: float, end: float, color: int
) -> None:
    (x0, y0, _), (x1, y1, _) = first, last
    length = math.hypot(x1 - x0, y1 - y0)
    draw.ellipse((x0 - start, y0 - start, x0 + start, y0 + start), color)
    if length > 0.3:
        across, down = (y1 - y0) / length, (x0 - x1) / length
        draw.ellipse((x1 - end, y1 - end, x1 + end, y1 + end), color)
        corners = (x0 + across * start, y0 + down * start, x1 + across * end, y1 + down * end)
        draw.polygon((*corners, x1 - across * end, y1 - down * end, x0 - across * start, y0 - down * start), color)


def _place_backdrop(backdrop: Image.Image, camera: Camera, t: int, height: int, width: int) -> Image.Image:
    """Cut the part of the backdrop that a frame sees."""
    side, yaw = min(height, width), math.radians(camera.yaw)
    moved = camera.target[t] - camera.target.mean(0)
    way = moved @ np.array([math.cos(yaw), 0.0, -math.sin(yaw)])
    zoom = float(camera.zoom[t])
    shift = camera.center[t] - camera.center.mean(0) - [1.5 * way / (camera.distance + 2.0), 0.0]
    left = backdrop.width / 2 - (width / 2 + shift[0] * side) / zoom
    top = backdrop.height / 2 - (height / 2 + shift[1] * side) / zoom
    return backdrop.transform(
        (width, height), Image.Transform.AFFINE, (1 / zoom, 0, left, 0, 1 / zoom, top), Image.Resampling.BILINEAR
    )
