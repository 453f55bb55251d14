"""Specify the clips of KinoShapes and render them to frames and masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from kinoclip.kinoshapes.drawing import BACKGROUNDS, COLORS, SHAPES, Plane, background, coverage, paint

Split = Literal["train", "validation", "test"]
LabelKind = Literal["object", "verb", "color", "shape", "background"]
Pose = tuple[tuple[float, float], float, float]  # center in pixels, radius in pixels, clockwise angle in radians

SPLITS: tuple[Split, ...] = get_args(Split)
VERBS = (
    *("moving left", "moving right", "moving up", "moving down", "growing", "shrinking"),
    *("spinning", "bouncing", "circling", "blinking"),
)
OBJECTS = tuple(f"{color} {shape}" for color in COLORS for shape in SHAPES)

_NAMES: dict[LabelKind, tuple[str, ...]] = {
    "object": OBJECTS,
    "verb": VERBS,
    "color": tuple(COLORS),
    "shape": SHAPES,
    "background": BACKGROUNDS,
}


def label_names(kind: LabelKind = "object") -> tuple[str, ...]:
    """Return the class names of one kind of label, in the order of their ids."""
    if kind not in _NAMES:
        raise ValueError(f"The kind of label must be one of {', '.join(_NAMES)}, got {kind!r}.")
    return _NAMES[kind]


def check_frames(start: int, end: int) -> None:
    """Raise a `ValueError` if a segment from frame `start` up to, but not including, frame `end` is empty."""
    if not 0 <= start < end:
        raise ValueError(f"A segment from frame {start} to {end} is empty. `end` must be after `start`.")


def check_segments(segments: Sequence[Any], num_frames: int) -> None:
    """Raise a `ValueError` if the segments of a clip are missing, overlap, or end after its last frame."""
    if not segments or segments[-1].end > num_frames:
        raise ValueError(f"Segments must be given and end within {num_frames} frames, got {segments}.")
    if any(later.start < earlier.end for earlier, later in pairwise(segments)):
        raise ValueError(f"Segments must not overlap and must be in order, got {segments}.")


@dataclass(frozen=True)
class Segment:
    """One object with one motion, from frame `start` up to, but not including, frame `end`."""

    color: str
    shape: str
    verb: str
    start: int
    end: int

    def __post_init__(self) -> None:
        kinds: tuple[LabelKind, ...] = ("color", "shape", "verb")
        for kind in kinds:
            value, names = getattr(self, kind), _NAMES[kind]
            if value not in names:
                raise ValueError(f"The {kind} must be one of {', '.join(names)}, got {value!r}.")
        check_frames(self.start, self.end)

    @property
    def label(self) -> str:
        """Color and shape, such as "red circle"."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class ClipSpec:
    """Everything that `render` needs: the segments in time, and the seed of every position, size and tone."""

    segments: tuple[Segment, ...]
    background: str = "plain"
    distractors: int = 0
    num_frames: int = 16
    fps: int = 8
    height: int = 96
    width: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.background not in BACKGROUNDS:
            raise ValueError(f"The background must be one of {', '.join(BACKGROUNDS)}, got {self.background!r}.")
        check_segments(self.segments, self.num_frames)
        if min(self.height, self.width) < 32:
            raise ValueError(f"Both sides must have at least 32 pixels, got {self.width}x{self.height}.")


@dataclass(frozen=True)
class Span:
    """When one object is visible: frames `start_frame` up to, but not including, `end_frame`, and in seconds."""

    label: str
    verb: str
    caption: str
    start_frame: int
    end_frame: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class KinoClip:
    """A rendered clip: `frames` uint8 (T, H, W, 3) and `masks` bool (T, H, W), true on the object.

    Its color, shape, verb and label are those of its first segment.
    """

    spec: ClipSpec
    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]

    @property
    def color(self) -> str:
        """Color of the first object."""
        return self.spec.segments[0].color

    @property
    def shape(self) -> str:
        """Shape of the first object."""
        return self.spec.segments[0].shape

    @property
    def verb(self) -> str:
        """Motion of the first object."""
        return self.spec.segments[0].verb

    @property
    def background(self) -> str:
        """Kind of background."""
        return self.spec.background

    @property
    def label(self) -> str:
        """Color and shape of the first object."""
        return self.spec.segments[0].label

    @property
    def caption(self) -> str:
        """A sentence such as "a red circle moving left on a striped background"."""
        return _caption(self.spec.segments, self.background)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The ground truth in time, in order."""
        fps = self.spec.fps
        return tuple(
            Span(s.label, s.verb, _caption([s], self.background), s.start, s.end, s.start / fps, s.end / fps)
            for s in self.spec.segments
        )


def clip_generator(seed: int, split: Split, index: int) -> np.random.Generator:
    """Return the generator of one clip; each (seed, split, index) has a stream of its own, so splits never overlap."""
    if split not in SPLITS:
        raise ValueError(f"The split must be one of {', '.join(SPLITS)}, got {split!r}.")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), index)))


def sample_spec(
    rng: np.random.Generator,
    *,
    label: str | None = None,
    labels: Sequence[str] = OBJECTS,
    verb: str | None = None,
    background: str | None = None,
    num_segments: int = 1,
    untrimmed: bool = False,
    distractors: int = 0,
    num_frames: int = 16,
    fps: int = 8,
    height: int = 96,
    width: int = 128,
) -> ClipSpec:
    """Sample a clip at random, except for what is given.

    `num_segments` different objects of `labels` follow one another; the first can be determined by its `label` ("red
    circle", only a color or only a shape) and `verb`. An `untrimmed` clip is empty before the first, after the last
    and between objects. A number of `distractors`, small gray shapes, drift; captions never mention them. Objects stay
    inside the central square of the `height` x `width` pixels, so that a center crop keeps them.
    """
    firsts = [name for name in labels if label is None or label in (name, *name.split())]
    if not firsts or not 1 <= num_segments <= min(len(set(labels)), num_frames // 4):
        raise ValueError(
            f"Cannot sample label={label!r} with num_segments={num_segments}: {len(firsts)} of {len(set(labels))} `labels` "
            f"match, and {num_frames} frames hold {num_frames // 4} objects of 4 frames each."
        )
    first = str(rng.choice(firsts))
    others = rng.permutation([name for name in labels if name != first])[: num_segments - 1]
    objects = [str(name).split() for name in (first, *others)]
    verbs = [str(rng.choice(VERBS)) for _ in objects]
    verbs[0] = verb or verbs[0]
    borders = sample_borders(rng, num_segments, num_frames, untrimmed)
    segments = tuple(
        Segment(color, shape, motion, start, end)
        for (color, shape), motion, (start, end) in zip(objects, verbs, borders, strict=True)
    )
    background = background or str(rng.choice(BACKGROUNDS))
    return ClipSpec(segments, background, distractors, num_frames, fps, height, width, int(rng.integers(2**31)))


def render(spec: ClipSpec) -> KinoClip:
    """Draw every frame of a clip; the same spec gives the same bytes."""
    rng = np.random.default_rng(spec.seed)
    empty = background(spec.background, spec.height, spec.width, rng)
    distractors = [_Distractor(spec, rng) for _ in range(spec.distractors)]
    pictures = [empty for _ in range(spec.num_frames)]
    for frame in range(spec.num_frames):
        for distractor in distractors:
            pictures[frame] = distractor.draw(pictures[frame], frame)
    masks = np.zeros((spec.num_frames, spec.height, spec.width), dtype=np.bool_)
    for segment in spec.segments:
        tone = (np.array(COLORS[segment.color]) + rng.uniform(-10, 10, size=3)).astype(np.float32)
        for frame, pose in zip(range(segment.start, segment.end), _poses(segment, spec, rng), strict=True):
            if pose is not None:
                body, dot = coverage(segment.shape, spec.height, spec.width, *pose)
                pictures[frame] = paint(paint(pictures[frame], body, tone), dot, 0.4 * tone)
                masks[frame] = body > 0.5
    return KinoClip(spec, np.clip(np.rint(np.stack(pictures)), 0, 255).astype(np.uint8), masks)


class _Distractor:
    """A small gray shape that drifts along a straight line."""

    def __init__(self, spec: ClipSpec, rng: np.random.Generator) -> None:
        side = min(spec.height, spec.width)
        self.shape = str(rng.choice(SHAPES))
        self.radius = float(rng.uniform(0.05, 0.08) * side)
        self.angle = float(rng.uniform(0, 2 * math.pi))
        self.path = rng.uniform(0, 1, size=(2, 2)) * [spec.width, spec.height]
        self.tone = np.full(3, rng.choice([35.0, 190.0]), dtype=np.float32)
        self.steps = max(spec.num_frames - 1, 1)

    def draw(self, picture: Plane, frame: int) -> Plane:
        x, y = self.path[0] + (self.path[1] - self.path[0]) * frame / self.steps
        body, _ = coverage(self.shape, picture.shape[0], picture.shape[1], (x, y), self.radius, self.angle)
        return paint(picture, body, self.tone)


def _caption(segments: Sequence[Segment], background: str) -> str:
    return f"{' then '.join(f'a {s.label} {s.verb}' for s in segments)} on a {background} background"


def sample_borders(rng: np.random.Generator, count: int, num_frames: int, untrimmed: bool) -> list[tuple[int, int]]:
    """Divide a clip into `count` spans: adjacent, or with empty frames around each."""
    borders = []
    for low, high in pairwise(np.linspace(0, num_frames, count + 1).astype(int)):
        room = int(high - low)
        length = int(rng.integers(math.ceil(0.35 * room), math.floor(0.6 * room) + 1)) if untrimmed else room
        start = int(low + rng.integers(0, room - length + 1))
        borders.append((start, start + length))
    return borders


def _poses(segment: Segment, spec: ClipSpec, rng: np.random.Generator) -> list[Pose | None]:
    """Compute the pose of an object in each frame of its segment; None where it is not visible."""
    side = min(spec.height, spec.width)
    corner = np.array([(spec.width - side) / 2, (spec.height - side) / 2])
    radius = float(rng.uniform(0.2, 0.26))
    angle = float(rng.uniform(-0.25, 0.25))
    home = rng.uniform(radius + 0.02, 0.98 - radius, size=2)
    jitter = rng.uniform(0, 1, size=3)
    count = segment.end - segment.start
    half_blink = max(1, round(spec.fps / 4))
    poses: list[Pose | None] = []
    for i in range(count):
        center, size, turn = _move(segment.verb, i / max(count - 1, 1), home, radius, jitter)
        x, y = corner + center * side
        hidden = segment.verb == "blinking" and (i // half_blink) % 2 == 1
        poses.append(None if hidden else ((float(x), float(y)), size * side, angle + turn))
    return poses


def _move(
    verb: str, progress: float, home: NDArray[np.float64], radius: float, jitter: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float]:
    """Compute center, radius and turn at `progress` 0..1 of a motion, in sides of the central square."""
    low, high = radius + 0.02, 0.98 - radius
    center = home.copy()
    if verb.startswith("moving"):
        axis = 0 if verb in ("moving left", "moving right") else 1
        first, last = low + 0.08 * jitter[0], high - 0.08 * jitter[1]
        backward = verb in ("moving left", "moving up")
        center[axis] = last + (first - last) * progress if backward else first + (last - first) * progress
    elif verb in ("growing", "shrinking"):
        small, large = 0.14 + 0.03 * jitter[0], 0.31 + 0.05 * jitter[1]
        share = progress if verb == "growing" else 1 - progress
        return 0.5 + (home - 0.5) * 0.4, small + (large - small) * share, 0.0
    elif verb == "spinning":
        direction = 1 if jitter[2] < 0.5 else -1
        return center, radius, direction * 2 * math.pi * (0.75 + 0.5 * jitter[0]) * progress
    elif verb == "bouncing":
        height = (high - low) * (0.8 + 0.2 * jitter[0])
        center[1] = high - height * abs(math.cos(2 * math.pi * progress))
    elif verb == "circling":
        around = 2 * math.pi * (progress + jitter[0])
        center = 0.5 + (0.45 - radius) * np.array([math.cos(around), math.sin(around)])
    return center, radius, 0.0
