"""Say what happens in a clip of KinoShapes, and render it to frames and masks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .drawing import BACKGROUNDS, COLORS, SHAPES, Plane, background, coverage, paint

Split = Literal["train", "validation", "test"]
LabelKind = Literal["object", "verb", "color", "shape", "background"]

SPLITS: tuple[Split, ...] = get_args(Split)
VERBS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "growing",
    "shrinking",
    "spinning",
    "bouncing",
    "circling",
    "blinking",
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
    """Give the class names of one kind of label, in the order of their ids."""
    if kind not in _NAMES:
        raise ValueError(f"{kind!r} is no kind of label. Choose one of {list(_NAMES)}.")
    return _NAMES[kind]


@dataclass(frozen=True)
class Segment:
    """One object that does one thing from frame `start` up to, and without, frame `end`."""

    color: str
    shape: str
    verb: str
    start: int
    end: int

    def __post_init__(self) -> None:
        for kind, value in (("color", self.color), ("shape", self.shape), ("verb", self.verb)):
            names = label_names(kind)  # type: ignore[arg-type]
            if value not in names:
                raise ValueError(f"{value!r} is no {kind}. Choose one of {list(names)}.")
        if not 0 <= self.start < self.end:
            raise ValueError(f"A segment from frame {self.start} to {self.end} is empty. `end` must be after `start`.")

    @property
    def label(self) -> str:
        """The object in two words, e.g. "red circle"."""
        return f"{self.color} {self.shape}"


@dataclass(frozen=True)
class ClipSpec:
    """All that `render` needs: what happens when, and the seed of every position, size and tone."""

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
            raise ValueError(f"{self.background!r} is no background. Choose one of {list(BACKGROUNDS)}.")
        if not self.segments or self.segments[-1].end > self.num_frames:
            raise ValueError(f"{self.segments} do not fit into {self.num_frames} frames; at least one must be given.")
        if any(later.start < earlier.end for earlier, later in pairwise(self.segments)):
            raise ValueError(f"{self.segments} overlap. Give them one after the other.")
        if min(self.height, self.width) < 32:
            raise ValueError(f"{self.width}x{self.height} is too small to draw in. Both sides need 32 pixels.")


@dataclass(frozen=True)
class Span:
    """When one object is there: frames `start_frame` up to, and without, `end_frame`, and the same in seconds."""

    label: str
    verb: str
    caption: str
    start_frame: int
    end_frame: int
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class KinoClip:
    """A rendered clip: `frames` uint8 (T, H, W, 3) and `masks` bool (T, H, W), true on the object."""

    spec: ClipSpec
    frames: NDArray[np.uint8]
    masks: NDArray[np.bool_]

    @property
    def color(self) -> str:
        """The color of the first object."""
        return self.spec.segments[0].color

    @property
    def shape(self) -> str:
        """The shape of the first object."""
        return self.spec.segments[0].shape

    @property
    def verb(self) -> str:
        """What the first object does."""
        return self.spec.segments[0].verb

    @property
    def background(self) -> str:
        """The kind of background."""
        return self.spec.background

    @property
    def label(self) -> str:
        """The first object in two words, e.g. "red circle"."""
        return self.spec.segments[0].label

    @property
    def caption(self) -> str:
        """A sentence, e.g. "a red circle moving left on a striped background"."""
        acts = " then ".join(f"a {segment.label} {segment.verb}" for segment in self.spec.segments)
        return f"{acts} on a {self.background} background"

    @property
    def spans(self) -> tuple[Span, ...]:
        """When each object is there, in order."""
        return tuple(
            Span(
                segment.label,
                segment.verb,
                f"a {segment.label} {segment.verb} on a {self.background} background",
                segment.start,
                segment.end,
                segment.start / self.spec.fps,
                segment.end / self.spec.fps,
            )
            for segment in self.spec.segments
        )


def clip_generator(seed: int, split: Split, index: int) -> np.random.Generator:
    """Give the random numbers of one clip; no two (seed, split, index) share a stream, so splits never overlap."""
    if split not in SPLITS:
        raise ValueError(f"{split!r} is no split. Choose one of {list(SPLITS)}.")
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
    """Draw a clip at random; whatever is given stays as given.

    Args:
        rng: source of every choice.
        label: what the first object is: "red circle", or only "red", or only "circle"; None draws one.
        labels: objects to choose from. Those of one clip differ.
        verb: what the first object does; None draws one.
        background: None draws one.
        num_segments: how many objects come one after the other.
        untrimmed: leave the clip empty before the first, after the last and between objects.
        distractors: how many small gray shapes drift about, never named in a caption.
        num_frames: of the clip.
        fps: frames per second.
        height: in pixels.
        width: in pixels. Objects stay inside the central square, so a center crop keeps them.
    """
    firsts = [name for name in labels if label is None or label in (name, *name.split())]
    if not firsts or not 1 <= num_segments <= min(len(set(labels)), num_frames // 4):
        raise ValueError(
            f"label={label!r}, num_segments={num_segments}: `labels` holds {len(firsts)} that fit the label and "
            f"{len(set(labels))} in all, and {num_frames} frames hold {num_frames // 4} objects of 4 frames each."
        )
    first = str(rng.choice(firsts))
    others = rng.permutation([name for name in labels if name != first])[: num_segments - 1]
    chosen = [str(name).split() for name in (first, *others)]
    verbs = [str(rng.choice(VERBS)) for _ in chosen]
    verbs[0] = verb or verbs[0]
    borders = _sample_borders(rng, num_segments, num_frames, untrimmed)
    segments = tuple(
        Segment(color, shape, act, start, end)
        for (color, shape), act, (start, end) in zip(chosen, verbs, borders, strict=True)
    )
    ground = background or str(rng.choice(BACKGROUNDS))
    seed = int(rng.integers(2**31))
    return ClipSpec(segments, ground, distractors, num_frames, fps, height, width, seed)


def render(spec: ClipSpec) -> KinoClip:
    """Draw every frame of a clip; the same spec gives the same bytes."""
    rng = np.random.default_rng(spec.seed)
    ground = background(spec.background, spec.height, spec.width, rng)
    still = [_Distractor(spec, rng) for _ in range(spec.distractors)]
    pictures = [ground for _ in range(spec.num_frames)]
    for frame in range(spec.num_frames):
        for distractor in still:
            pictures[frame] = distractor.draw(pictures[frame], frame)
    masks = np.zeros((spec.num_frames, spec.height, spec.width), dtype=np.bool_)
    for segment in spec.segments:
        tone = (np.array(COLORS[segment.color]) + rng.uniform(-10, 10, size=3)).astype(np.float32)
        for frame, pose in zip(range(segment.start, segment.end), _poses(segment, spec, rng), strict=True):
            if pose is None:
                continue
            body, dot = coverage(segment.shape, spec.height, spec.width, *pose)
            pictures[frame] = paint(paint(pictures[frame], body, tone), dot, 0.4 * tone)
            masks[frame] = body > 0.5
    frames = np.clip(np.rint(np.stack(pictures)), 0, 255).astype(np.uint8)
    return KinoClip(spec, frames, masks)


Pose = tuple[tuple[float, float], float, float]


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


def _sample_borders(rng: np.random.Generator, count: int, num_frames: int, untrimmed: bool) -> list[tuple[int, int]]:
    """Cut a clip into `count` spans: edge to edge, or with empty frames around each."""
    cuts = np.linspace(0, num_frames, count + 1).astype(int)
    borders = []
    for low, high in pairwise(cuts):
        room = int(high - low)
        length = int(rng.integers(math.ceil(0.35 * room), math.floor(0.6 * room) + 1)) if untrimmed else room
        start = int(low + rng.integers(0, room - length + 1))
        borders.append((start, start + length))
    return borders


def _poses(segment: Segment, spec: ClipSpec, rng: np.random.Generator) -> list[Pose | None]:
    """Give center, radius and angle of an object in each frame of its segment; None where it is dark."""
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
        progress = i / max(count - 1, 1)
        center, size, turn = _move(segment.verb, progress, home, radius, jitter)
        x, y = corner + center * side
        dark = segment.verb == "blinking" and (i // half_blink) % 2 == 1
        poses.append(None if dark else ((float(x), float(y)), size * side, angle + turn))
    return poses


def _move(
    verb: str, progress: float, home: NDArray[np.float64], radius: float, jitter: NDArray[np.float64]
) -> tuple[NDArray[np.float64], float, float]:
    """Give center, radius and turn at `progress` 0..1 through a verb; lengths in sides of the central square."""
    low, high = radius + 0.02, 0.98 - radius
    center = home.copy()
    if verb.startswith("moving"):
        axis = 0 if verb in ("moving left", "moving right") else 1
        first, last = low + 0.08 * jitter[0], high - 0.08 * jitter[1]
        backward = verb in ("moving left", "moving up")
        center[axis] = last + (first - last) * progress if backward else first + (last - first) * progress
        return center, radius, 0.0
    if verb in ("growing", "shrinking"):
        small, large = 0.14 + 0.03 * jitter[0], 0.31 + 0.05 * jitter[1]
        share = progress if verb == "growing" else 1 - progress
        return 0.5 + (home - 0.5) * 0.4, small + (large - small) * share, 0.0
    if verb == "spinning":
        direction = 1 if jitter[2] < 0.5 else -1
        return center, radius, direction * 2 * math.pi * (0.75 + 0.5 * jitter[0]) * progress
    if verb == "bouncing":
        height = (high - low) * (0.8 + 0.2 * jitter[0])
        center[1] = high - height * abs(math.cos(2 * math.pi * progress))
    elif verb == "circling":
        around = 2 * math.pi * (progress + jitter[0])
        reach = 0.45 - radius
        center = 0.5 + reach * np.array([math.cos(around), math.sin(around)])
    return center, radius, 0.0
