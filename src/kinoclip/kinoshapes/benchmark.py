"""KinoShapes as a benchmark: fixed tasks and splits, drawn from seeds, the same for everyone.

The task "actions" measures four abilities at once. Its classes of motion and of order come in pairs that are each other's time
reversal, frame by frame: a model that averages frames can find the pair but not the member, so it scores at most 50 % there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from kinoclip.kinoshapes.clips import (
    OBJECTS,
    VERBS,
    ClipSpec,
    KinoClip,
    Segment,
    Split,
    clip_generator,
    render,
    sample_spec,
)
from kinoclip.kinoshapes.drawing import BACKGROUNDS, COLORS, SHAPES
from kinoclip.kinoshapes.files import build_task
from kinoclip.text.entities import Category, Entity

if TYPE_CHECKING:
    from datasets import Dataset

Task = Literal["actions", "motions", "unseen", "several", "untrimmed"]
Group = Literal["appearance", "motion", "order", "needle"]

TASKS: tuple[Task, ...] = get_args(Task)
# no two tasks and splits share a stream of random numbers
_SEEDS: dict[str, int] = {"actions": 20261, "unseen": 20262, "several": 20263, "untrimmed": 20264, "motions": 20265}

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
# paraphrases in words that the embedded CLIP's tokenizer knows
EN_VERBS = {
    "moving left": "to the left",
    "moving right": "to the right",
    "moving up": "up",
    "moving down": "down",
    "growing": "big",
    "shrinking": "small",
    "spinning": "turning",
    "bouncing": "jumping",
    "circling": "moving in a ring",
    "blinking": "closing and opening",
}
# of other captions of the embedded CLIP, and words without a meaning of their own
_OTHER_WORDS = """nothing empty background wall scene shape object moving still video photo human action
a an the another any no other some something this and or of on in with without is to about"""
BENCHMARK_CORPORA = ("kinoshapes", "kinoshapes/small", "kinoshapes/large")
_FRAMES = 16


@dataclass(frozen=True)
class ActionClass:
    """One class of the benchmark: its names, the ability it measures, and how to sample a clip of it."""

    label: str
    chinese: str
    paraphrase: str  # a second English name
    group: Group
    draw: Callable[[np.random.Generator], ClipSpec]


def action_classes(task: Task = "actions") -> tuple[ActionClass, ...]:
    """Return the classes of a task, in the order of their ids.

    "actions": nine objects (appearance), six motions, four orders of two objects, and three objects that are visible for two
    frames of sixteen (needle). "motions": the six motions alone, in other clips. "unseen": six objects and four motions that
    "actions" does not have. "several" and "untrimmed": the nine objects, three of them in each clip, one after another.
    """
    if task not in TASKS:
        raise ValueError(f"The task of KinoShapes must be one of {', '.join(TASKS)}, got {task!r}.")
    colors = ("yellow", "purple") if task == "unseen" else ("red", "green", "blue")
    objects = [_object(color, shape) for color in colors for shape in ("circle", "square", "star")]
    motions = [_motion(verb) for verb in (VERBS[6:] if task == "unseen" else VERBS[:6])]
    match task:
        case "unseen":
            return (*objects, *motions)
        case "motions":
            return tuple(motions)
        case "actions":
            orders = [
                *(_order(("yellow", "ring"), ("purple", "ring"), reverse) for reverse in (False, True)),
                *(_order(("yellow", "cross"), ("yellow", "triangle"), reverse) for reverse in (False, True)),
            ]
            return (*objects, *motions, *orders, *(_needle(color) for color in colors))
    return tuple(objects)


def known_words() -> Iterator[str]:
    """Yield the texts of the benchmark whose words the embedded CLIP knows."""
    yield from (*COLORS, *SHAPES, *BACKGROUNDS, *VERBS, _OTHER_WORDS)
    for task in TASKS:
        for action in action_classes(task):
            yield f"{action.label} {action.paraphrase}"


def benchmark_dataset(
    task: Task = "actions", split: Split = "train", *, clips_per_class: int | None = None
) -> Dataset:
    """Build a task of the benchmark as a `datasets.Dataset` in memory.

    Columns: `video` (mp4 bytes, not decoded), `label` (class id; a list of them for "several" and "untrimmed"), `name`,
    `caption` and `spans`.

    Args:
        task: one of `TASKS`.
        split: "train", "validation" or "test"; "unseen" is meant for testing.
        clips_per_class: `CLIPS_PER_CLASS` of the split by default; more of them begin with the same clips.
    """
    names = [known.label for known in action_classes(task)]
    return build_task(names, task in ("several", "untrimmed"), split, _draw(task, split), clips_per_class)


def chinese_names(task: Task = "actions") -> dict[str, str]:
    """Return the Chinese name of each class of a task."""
    return {known.label: known.chinese for known in action_classes(task)}


def english_paraphrases(task: Task = "actions") -> dict[str, str]:
    """Return the second English name of each class of a task."""
    return {known.label: known.paraphrase for known in action_classes(task)}


def benchmark_entities(size: str = "kinoshapes") -> list[Entity]:
    """Return the entities of the benchmark's videos for ALT: objects, motions and backgrounds.

    Args:
        size: of `BENCHMARK_CORPORA`: "kinoshapes"; "kinoshapes/small", with shapes in place of objects, which have a color
            too; or "kinoshapes/large", which also has each motion of each object.
    """
    moving = [f"{name} {verb}" for name in OBJECTS for verb in VERBS] if size == "kinoshapes/large" else []
    return [
        *(_entity(name, "object") for name in (SHAPES if size == "kinoshapes/small" else OBJECTS)),
        *(Entity(name, f"a shape {name}", "motion", "kinoshapes") for name in VERBS),
        *(_entity(name, "motion") for name in moving),
        *(_entity(f"{name} background", "scene") for name in BACKGROUNDS),
    ]


def _entity(name: str, category: Category) -> Entity:
    return Entity(name, f"a {name}", category, "kinoshapes")


def _draw(task: Task, split: Split) -> Iterator[tuple[KinoClip, dict[str, Any]]]:
    classes = action_classes(task)
    names = [known.label for known in classes]
    for index in itertools.count():
        rng = clip_generator(_SEEDS[task], split, index)
        label: int | list[int] = index % len(classes)
        if task in ("several", "untrimmed"):  # three different objects: adjacent, or with empty stretches between them
            length = {"several": 24, "untrimmed": 64}[task]
            spec = sample_spec(rng, labels=names, num_segments=3, untrimmed=task == "untrimmed", num_frames=length)
            label = sorted(names.index(segment.label) for segment in spec.segments)
        else:
            spec = classes[index % len(classes)].draw(rng)
        clip = render(spec)
        row = {"label": label, "name": f"{task}/{split}/{index:05d}.mp4", "caption": clip.caption}
        yield clip, row | {"spans": [asdict(span) for span in clip.spans]}


def _object(color: str, shape: str) -> ActionClass:
    names = _object_names(color, shape)
    return ActionClass(*names, "appearance", lambda rng: sample_spec(rng, label=names[0]))


def _object_names(color: str, shape: str) -> tuple[str, str, str]:
    return f"{color} {shape}", ZH_COLORS[color] + ZH_SHAPES[shape], f"a {shape} in {color}"


def _motion(verb: str) -> ActionClass:
    whites = [f"white {shape}" for shape in SHAPES]
    names = (verb, ZH_VERBS[verb], EN_VERBS[verb])
    return ActionClass(*names, "motion", lambda rng: sample_spec(rng, labels=whites, verb=verb))


def _order(first: tuple[str, str], second: tuple[str, str], reverse: bool) -> ActionClass:
    pair = (second, first) if reverse else (first, second)
    part = 0 if first[0] != second[0] else 1  # the two differ in color or in shape
    english, chinese = [obj[part] for obj in pair], [(ZH_COLORS, ZH_SHAPES)[part][obj[part]] for obj in pair]
    half = _FRAMES // 2

    def draw(rng: np.random.Generator) -> ClipSpec:
        # both have the same motion, so that only the order distinguishes the classes
        verb = str(rng.choice(["spinning", "bouncing"]))
        return _clip(rng, Segment(*pair[0], verb, 0, half), Segment(*pair[1], verb, half, _FRAMES))

    names = (
        f"{english[0]} then {english[1]}",
        f"先{chinese[0]}后{chinese[1]}",
        f"first {english[0]} and next {english[1]}",
    )
    return ActionClass(*names, "order", draw)


def _needle(color: str) -> ActionClass:
    def draw(rng: np.random.Generator) -> ClipSpec:
        start = int(rng.integers(2, _FRAMES - 4))
        around = ("white", "ring", "spinning")
        needle = Segment(color, "triangle", "spinning", start, start + 2)
        return _clip(rng, Segment(*around, 0, start), needle, Segment(*around, start + 2, _FRAMES))

    return ActionClass(*_object_names(color, "triangle"), "needle", draw)


def _clip(rng: np.random.Generator, *segments: Segment) -> ClipSpec:
    return ClipSpec(segments, str(rng.choice(BACKGROUNDS)), num_frames=_FRAMES, seed=int(rng.integers(2**31)))
