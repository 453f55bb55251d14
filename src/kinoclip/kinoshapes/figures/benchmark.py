"""KinoFigures as a benchmark: fixed tasks and splits, drawn from seeds, the same for everyone.

In "actions" most clips of a class show one place, in all splits; "shifted" has the same classes, never in that place: a model that has
learned the place instead of the action fails there. The classes of the group "reversed" come in pairs whose frames are the
same in the opposite order, in the same place, so that a mean of frames gets at most 50 % of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from kinoclip.kinoshapes.clips import Split, clip_generator, sample_borders
from kinoclip.kinoshapes.figures.acting import FigureSegment, FigureSpec
from kinoclip.kinoshapes.figures.actions import ACTIONS, DETAILS, UNSEEN, Action
from kinoclip.kinoshapes.figures.drawing import COLORS, PARTS, THINGS
from kinoclip.kinoshapes.figures.naming import POSES
from kinoclip.kinoshapes.figures.places import PLACES
from kinoclip.kinoshapes.figures.scenes import FigureClip, render_figures
from kinoclip.kinoshapes.files import build_task
from kinoclip.text.entities import BODY_PARTS, Entity

if TYPE_CHECKING:
    from datasets import Dataset

FigureTask = Literal["actions", "views", "shifted", "unseen", "details", "several", "untrimmed"]

FIGURE_TASKS: tuple[FigureTask, ...] = get_args(FigureTask)
_FIRST_SEED = 20270  # each task has its own
_BIAS = 0.8  # share of the clips of a class in the place of this class
_LENGTHS = {"several": 24, "untrimmed": 64}  # frames

_ZH_PARTS = dict(
    zip(PARTS, ("头", "躯干", "左臂", "右臂", "左手", "右手", "左腿", "右腿", "左脚", "右脚"), strict=True)
)
_ZH_THINGS = dict(
    zip(THINGS, ("球", "箱子", "杯子", "勺子", "碗", "绳子", "椅子", "杠铃", "旁观者", "遮挡物"), strict=True)
)
_ZH_PLACES = dict(zip(PLACES, ("砖墙", "木屋", "草地", "海滩", "街道", "健身房", "厨房", "雪地"), strict=True))
_ZH_COLORS = dict(
    zip(COLORS, ("红色", "蓝色", "绿色", "黄色", "白色", "黑色", "紫色", "棕色", "橙色", "粉色", "灰色"), strict=True)
)
_THINGS = {
    "ball": "a round thing that is thrown and kicked",
    "box": "a container of cardboard with flat sides",
    "cup": "a small vessel to drink from",
    "spoon": "a tool with a handle, to stir and to eat",
    "bowl": "a round open vessel on a table",
    "rope": "a long flexible line that is held in both hands",
    "chair": "a seat with a back and four legs",
    "barbell": "a metal bar with a weight at each end",
}


def figure_classes(task: str = "actions") -> tuple[Action, ...]:
    """Return the classes of a task, in the order of their ids.

    "actions", "views" (people and viewpoints that training does not have) and "shifted" (other places) have the same classes.
    "unseen" has other actions; "details" has classes that differ in one limb, in speed or in number only. "several" and "untrimmed"
    have actions of one person without things, three in each clip.
    """
    if task not in FIGURE_TASKS:
        raise ValueError(f"The task of KinoFigures must be one of {', '.join(FIGURE_TASKS)}, got {task!r}.")
    match task:
        case "unseen":
            return UNSEEN
        case "details":
            return DETAILS
        case "several" | "untrimmed":
            return tuple(action for action in ACTIONS if action.partner is None and not action.props)
    return ACTIONS


def figures_dataset(task: str = "actions", split: Split = "train", *, clips_per_class: int | None = None) -> Dataset:
    """Build a task of KinoFigures as a `datasets.Dataset` in memory, with the columns of `benchmark_dataset`."""
    names = [action.label for action in figure_classes(task)]
    rows = (_describe(clip, name, names, task) for clip, name in figure_clips(task, split, clips_per_class or 0))
    return build_task(names, task in _LENGTHS, split, rows, clips_per_class)


def figure_clips(task: str, split: Split, clips_per_class: int = 0) -> Iterator[tuple[FigureClip, str]]:
    """Render the clips of a task with their names, the classes in turn; endlessly by default."""
    classes = figure_classes(task)
    index = 0
    while not clips_per_class or index < clips_per_class * len(classes):
        rng = clip_generator(_FIRST_SEED + FIGURE_TASKS.index(task), split, index)
        yield (
            render_figures(sample_figures(rng, task, classes[index % len(classes)])),
            f"{task}/{split}/{index:05d}.mp4",
        )
        index += 1


def sample_figures(
    rng: np.random.Generator, task: str, action: Action, *, num_frames: int = 16, height: int = 96, width: int = 128
) -> FigureSpec:
    """Sample a clip of a class of a task, in pixels; clips of several actions have a length of their own."""
    seed, place = int(rng.integers(2**31)), _sample_place(rng, task, action)
    if task in _LENGTHS:
        others = [other.label for other in figure_classes(task) if other.label != action.label]
        labels = rng.permutation([action.label, *rng.choice(others, 2, replace=False)])
        borders = sample_borders(rng, 3, _LENGTHS[task], task == "untrimmed")
        segments = tuple(FigureSegment(str(label), *span) for label, span in zip(labels, borders, strict=True))
        return FigureSpec(segments, place, task == "untrimmed", False, _LENGTHS[task], 8, height, width, seed)
    early, late = rng.integers(0, num_frames // 8 + 1, size=2)
    steady = action.cycles is not None and action.cycles[0] != action.cycles[1]
    segment = FigureSegment(action.label, 0 if steady else int(early), num_frames - (0 if steady else int(late)))
    return FigureSpec((segment,), place, False, task == "views", num_frames, 8, height, width, seed)


def _sample_place(rng: np.random.Generator, task: str, action: Action) -> str:
    places = list(PLACES)
    if task not in ("actions", "views", "shifted"):
        return str(rng.choice(places))
    own = places[
        (ACTIONS.index(action) - action.reverse) % len(places)
    ]  # a reversed action has the place of the other one
    if task != "shifted" and rng.random() < _BIAS:
        return own
    return str(rng.choice([place for place in places if place != own]))


def _describe(clip: FigureClip, name: str, names: list[str], task: str) -> tuple[FigureClip, dict[str, Any]]:
    labels = sorted(names.index(segment.label) for segment in clip.spec.segments)
    row = {"label": labels if task in _LENGTHS else labels[0], "name": name, "caption": clip.caption}
    return clip, row | {"spans": [asdict(span) for span in clip.spans]}


def figure_chinese() -> dict[str, str]:
    """Return the Chinese name of every action."""
    return {action.label: action.chinese for action in (*ACTIONS, *UNSEEN, *DETAILS)}


def chinese_dictionary() -> dict[str, tuple[str, ...]]:
    """Return the Chinese names of actions, body parts, things, places and colors, the usual one first."""
    actions = {action.label: (action.chinese, *action.chinese_synonyms) for action in (*ACTIONS, *UNSEEN, *DETAILS)}
    words = _ZH_PARTS | _ZH_THINGS | _ZH_PLACES | _ZH_COLORS
    return actions | {word: (chinese,) for word, chinese in words.items()}


def figure_words() -> Iterator[str]:
    """Yield the texts of the benchmark whose words the embedded recognizer knows."""
    for action in (*ACTIONS, *UNSEEN):
        yield from (action.label, *action.synonyms, action.description)
    yield from (*POSES, *THINGS, *PLACES, *COLORS)
    yield "a person in a shirt, trousers and shorts, large and small, seen from the front, left, right, back, middle, two people"


def figure_entities(size: str = "kinofigures") -> list[Entity]:
    """Return the entities of the videos for ALT: body parts, things, motions and places.

    Args:
        size: "kinofigures", or "kinofigures/parts" for body parts and things alone.
    """
    labels = tuple(action.label for action in ACTIONS)
    parts = [
        *(Entity(unit, text, "body", "kinofigures") for unit, text in BODY_PARTS.items() if unit in _VISIBLE),
        *(Entity(unit, text, "object", "kinofigures", _users(unit)) for unit, text in _THINGS.items()),
    ]
    if size == "kinofigures/parts":
        return parts
    motions = [Entity(a.label, a.description, "motion", "kinofigures", (a.label,)) for a in (*ACTIONS, *UNSEEN)]
    return [*parts, *motions, *(Entity(place, f"a {place}", "scene", "kinofigures", labels) for place in PLACES)]


_VISIBLE = ("head", "face", "hair", "neck", "arms", "elbows", "hands", "chest", "hips", "legs", "knees", "feet")


def _users(thing: str) -> tuple[str, ...]:
    """List the actions that use a thing."""
    return tuple(a.label for a in (*ACTIONS, *UNSEEN) if any(prop.kind == thing for prop in a.props))
