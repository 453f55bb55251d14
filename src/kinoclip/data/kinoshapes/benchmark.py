"""KinoShapes as a benchmark: fixed tasks and splits, drawn from seeds, the same for everyone.

The task "actions" asks for four abilities at once. Its classes of motion and of order come in pairs that are each other's time
reversed, frame for frame: whoever averages frames finds the pair and guesses which of the two, so 50 % is the most there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from kinoclip.text.entities import Entity

from .clips import OBJECTS, SPLITS, VERBS, ClipSpec, Segment, Split, clip_generator, render, sample_spec
from .drawing import BACKGROUNDS, SHAPES
from .files import encode_video

if TYPE_CHECKING:
    from datasets import Dataset

Task = Literal["actions", "motions", "unseen", "several", "untrimmed"]
Group = Literal["appearance", "motion", "order", "needle"]

TASKS: tuple[Task, ...] = get_args(Task)
# no two tasks and splits share a stream of random numbers
_SEEDS: dict[Task, int] = {
    "actions": 20261,
    "unseen": 20262,
    "several": 20263,
    "untrimmed": 20264,
    "motions": 20265,
}
CLIPS_PER_CLASS: dict[Split, int] = {"train": 64, "validation": 8, "test": 20}

ZH_COLORS = {"red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色", "purple": "紫色", "white": "白色"}
ZH_SHAPES = {
    "circle": "圆形",
    "square": "方形",
    "triangle": "三角形",
    "star": "星形",
    "cross": "十字形",
    "ring": "圆环",
}
ZH_VERBS = {
    "moving left": "向左移动",
    "moving right": "向右移动",
    "moving up": "向上移动",
    "moving down": "向下移动",
    "growing": "变大",
    "shrinking": "变小",
    "spinning": "旋转",
    "bouncing": "弹跳",
    "circling": "绕圈",
    "blinking": "闪烁",
}
_FRAMES = 16


@dataclass(frozen=True)
class ActionClass:
    """One class of the benchmark.

    Attributes:
        label: its English name.
        chinese: its Chinese name.
        group: which ability it asks for.
        draw: draws a clip of it.
    """

    label: str
    chinese: str
    group: Group
    draw: Callable[[np.random.Generator], ClipSpec]


def action_classes(task: Task = "actions") -> tuple[ActionClass, ...]:
    """Give the classes of a task, in the order of their ids.

    "actions": nine objects (appearance), six motions, four orders of two objects, and three objects that are there for two
    frames of sixteen (needle). "motions": the six motions alone, in other clips. "unseen": six objects and four motions that
    "actions" does not have. "several" and "untrimmed": the nine objects, of which three come one after the other.
    """
    if task not in TASKS:
        raise ValueError(f"KinoShapes has no task {task!r}. Use one of {', '.join(TASKS)}.")
    if task == "unseen":
        objects = [_object(color, shape) for color in ("yellow", "purple") for shape in ("circle", "square", "star")]
        return (*objects, *(_motion(verb) for verb in VERBS[6:]))
    motions = [_motion(verb) for verb in VERBS[:6]]
    if task == "motions":
        return tuple(motions)
    objects = [_object(color, shape) for color in ("red", "green", "blue") for shape in ("circle", "square", "star")]
    if task != "actions":
        return tuple(objects)
    orders = [
        *(_order(("yellow", "ring"), ("purple", "ring"), turned) for turned in (False, True)),
        *(_order(("yellow", "cross"), ("yellow", "triangle"), turned) for turned in (False, True)),
    ]
    return (*objects, *motions, *orders, *(_needle(color) for color in ("red", "green", "blue")))


def benchmark_dataset(
    task: Task = "actions", split: Split = "train", *, clips_per_class: int | None = None
) -> Dataset:
    """Give a task of the benchmark as a `datasets.Dataset` held in memory.

    Columns: `video` (mp4 bytes, not decoded), `label` (class id; a list of them for "several" and "untrimmed"), `name`,
    `caption` and `spans`.

    Args:
        task: one of `TASKS`.
        split: "train", "validation" or "test"; "unseen" is there to be tested.
        clips_per_class: `CLIPS_PER_CLASS` of the split when left out; more of them begin with the same clips.
    """
    from datasets import ClassLabel, Dataset, Features, List, Value, Video

    classes = action_classes(task)
    if split not in SPLITS:
        raise ValueError(f"{split!r} is no split. Choose one of {', '.join(SPLITS)}.")
    several = task in ("several", "untrimmed")
    names = [known.label for known in classes]
    rows = []
    for index in range(len(classes) * (clips_per_class or CLIPS_PER_CLASS[split])):
        rng = clip_generator(_SEEDS[task], split, index)
        spec = _sequence(rng, names, task == "untrimmed") if several else classes[index % len(classes)].draw(rng)
        clip = render(spec)
        found = sorted(names.index(segment.label) for segment in spec.segments) if several else index % len(classes)
        row: dict[str, Any] = {"video": {"bytes": encode_video(clip.frames, spec.fps), "path": None}, "label": found}
        row |= {"name": f"{task}/{split}/{index:05d}.mp4", "caption": clip.caption}
        rows.append(row | {"spans": [asdict(span) for span in clip.spans]})
    label = ClassLabel(names=names)
    span = {name: Value("string") for name in ("label", "verb", "caption")}
    span |= {name: Value("int32") for name in ("start_frame", "end_frame")}
    span |= {name: Value("float32") for name in ("start_seconds", "end_seconds")}
    features = {
        "video": Video(decode=False),
        "label": List(label) if several else label,
        "name": Value("string"),
        "caption": Value("string"),
        "spans": [span],
    }
    return Dataset.from_list(rows, features=Features(features))


def chinese_names(task: Task = "actions") -> dict[str, str]:
    """Give the Chinese name of each class of a task."""
    return {known.label: known.chinese for known in action_classes(task)}


def benchmark_entities() -> list[Entity]:
    """Return the entities of the benchmark's videos for ALT: objects, motions and backgrounds."""
    return [
        *(Entity(name, f"a {name}", "object", "kinoshapes") for name in OBJECTS),
        *(Entity(name, f"a shape {name}", "motion", "kinoshapes") for name in VERBS),
        *(Entity(f"{name} background", f"a {name} background", "scene", "kinoshapes") for name in BACKGROUNDS),
    ]


def _object(color: str, shape: str) -> ActionClass:
    label = f"{color} {shape}"
    return ActionClass(
        label, ZH_COLORS[color] + ZH_SHAPES[shape], "appearance", lambda rng: sample_spec(rng, label=label)
    )


def _motion(verb: str) -> ActionClass:
    whites = [f"white {shape}" for shape in SHAPES]
    return ActionClass(verb, ZH_VERBS[verb], "motion", lambda rng: sample_spec(rng, labels=whites, verb=verb))


def _order(first: tuple[str, str], second: tuple[str, str], turned: bool) -> ActionClass:
    pair = (second, first) if turned else (first, second)
    part = 0 if first[0] != second[0] else 1  # what the two differ in
    english, chinese = [obj[part] for obj in pair], [(ZH_COLORS, ZH_SHAPES)[part][obj[part]] for obj in pair]

    def draw(rng: np.random.Generator) -> ClipSpec:
        half = _FRAMES // 2
        # one thing that both do, so that nothing but the order tells the classes apart
        verb = str(rng.choice(["spinning", "bouncing"]))
        segments = tuple(
            Segment(color, shape, verb, start, start + half)
            for (color, shape), start in zip(pair, (0, half), strict=True)
        )
        return _clip(rng, segments)

    return ActionClass(f"{english[0]} then {english[1]}", f"先{chinese[0]}后{chinese[1]}", "order", draw)


def _needle(color: str) -> ActionClass:
    def draw(rng: np.random.Generator) -> ClipSpec:
        start = int(rng.integers(2, _FRAMES - 4))
        around = ("white", "ring", "spinning")
        segments = (
            Segment(*around, 0, start),
            Segment(color, "triangle", "spinning", start, start + 2),
            Segment(*around, start + 2, _FRAMES),
        )
        return _clip(rng, segments)

    return ActionClass(f"{color} triangle", ZH_COLORS[color] + ZH_SHAPES["triangle"], "needle", draw)


def _clip(rng: np.random.Generator, segments: tuple[Segment, ...]) -> ClipSpec:
    return ClipSpec(segments, str(rng.choice(BACKGROUNDS)), num_frames=_FRAMES, seed=int(rng.integers(2**31)))


def _sequence(rng: np.random.Generator, names: list[str], untrimmed: bool) -> ClipSpec:
    """Draw a clip of three different objects: edge to edge, or with empty stretches between them."""
    frames = 64 if untrimmed else 24
    return sample_spec(rng, labels=names, num_segments=3, untrimmed=untrimmed, num_frames=frames)
