"""Cast a clip: who acts, when, and where all joints are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kinoclip.kinoshapes.clips import check_frames, check_segments
from kinoclip.kinoshapes.figures.actions import ACTIONS, DETAILS, UNSEEN, Action
from kinoclip.kinoshapes.figures.drawing import HAIRS, SKINS, Look
from kinoclip.kinoshapes.figures.places import PLACES
from kinoclip.kinoshapes.figures.skeleton import NUMBERS, REST, Array, Body, interpolate, mirror, pose_joints, rotation

BY_LABEL: dict[str, Action] = {action.label: action for action in (*ACTIONS, *UNSEEN, *DETAILS)}
_USUAL = ("red", "blue", "green", "yellow", "white", "black", "purple", "brown")
_UNUSUAL = ("orange", "pink", "gray")
AWAY = np.array([0.0, -1000.0, 0.0])  # where things are that are not visible


@dataclass(frozen=True)
class FigureSegment:
    """One action, from frame `start` up to, but not including, frame `end`."""

    label: str
    start: int
    end: int

    def __post_init__(self) -> None:
        if self.label not in BY_LABEL:
            raise ValueError(f"The action must be one of {', '.join(BY_LABEL)}, got {self.label!r}.")
        check_frames(self.start, self.end)


@dataclass(frozen=True)
class FigureSpec:
    """Everything that `render_figures` needs; the seed decides person, viewpoint, speed and all other variation."""

    segments: tuple[FigureSegment, ...]
    place: str = "gym"
    idle: bool = False  # stands still before, between and after actions; False: holds the first and last pose
    unusual: bool = False  # people and viewpoints that other clips do not have
    num_frames: int = 16
    fps: int = 8
    height: int = 96
    width: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise ValueError(f"The place must be one of {', '.join(PLACES)}, got {self.place!r}.")
        check_segments(self.segments, self.num_frames)


@dataclass(frozen=True)
class Cast:
    """Who acts in a clip, and how.

    Attributes:
        bodies: proportions of the person who acts and of the second one.
        looks: their colors.
        timing: for each segment the phase at each frame, and the frames that belong to it.
        mirrored: for each segment, whether left and right are exchanged.
        joints: of each person that acts, (T, 18, 3) in meters.
    """

    bodies: tuple[Body, Body]
    looks: tuple[Look, Look]
    timing: tuple[tuple[Array, NDArray[np.bool_]], ...]
    mirrored: tuple[bool, ...]
    joints: tuple[Array, ...]


def cast(spec: FigureSpec, rng: np.random.Generator) -> Cast:
    """Sample the people of a clip, their variant of the actions and its speed, and compute their joints."""
    actions = [BY_LABEL[segment.label] for segment in spec.segments]
    body, look = sample_person(rng, spec.unusual)
    other, other_look = sample_person(rng, spec.unusual, look.shirt)
    other = replace(other, height=body.height * rng.uniform(0.96, 1.04))
    timing = tuple(_phases(*pair, spec, rng) for pair in zip(spec.segments, actions, strict=True))
    flipped = bool(rng.random() < 0.5)
    mirrored = tuple(flipped if action.mirrored is None else action.mirrored for action in actions)
    style, theirs = _style(rng), _style(rng)
    poses = np.tile(np.array(list(REST.values())), (2, spec.num_frames, 1))
    facing, place = np.zeros(spec.num_frames), np.zeros((2, spec.num_frames, 3))
    place[1] = AWAY
    for (phases, inside), action, swap in zip(timing, actions, mirrored, strict=True):
        tracks = [interpolate(action.keys[int(rng.integers(len(action.keys)))], _wrap(phases, action))]
        if action.cycles and action.group == "motion" and not action.travel:
            middle = tracks[0].mean(0)
            tracks[0] = middle + rng.uniform(0.85, 1.0) * (tracks[0] - middle)
        if action.partner:
            late = phases + (0.37 if action.away else 0.0)  # two runners are not in step
            tracks.append(interpolate(action.partner, _wrap(late, action)))
            half = action.distance * body.height / 1.7 / 2
            place[:, inside] = np.array([[0, 0, -half], [0, 0, half]])[:, None]
            facing[inside] = 0.0 if action.away else 180.0
        for number, track in enumerate(tracks):
            track[:, NUMBERS.index("go")] += action.travel * (phases - phases[inside].mean())
            poses[number, inside] = (mirror(track) if swap else track)[inside]
    for segment in spec.segments if spec.idle else ():  # one frame between standing and acting
        for frame, inner in ((segment.start - 1, segment.start), (segment.end, segment.end - 1)):
            if 0 <= frame < spec.num_frames:
                poses[0, frame] = (poses[0, frame] + poses[0, inner]) / 2
    turn = rotation(facing, 0 * facing, 0 * facing)
    joints = [
        pose_joints(poses[0] + style, body),
        np.einsum("tij,tkj->tki", turn, pose_joints(poses[1] + theirs, other)),
    ]
    count = 1 + any(action.partner is not None for action in actions)
    people = tuple(joints[number] + place[number][:, None] for number in range(count))
    return Cast((body, other), (look, other_look), timing, mirrored, people)


def sample_person(rng: np.random.Generator, unusual: bool = False, worn: str = "") -> tuple[Body, Look]:
    """Sample proportions and colors; the shirt does not have the color `worn`."""
    colors = _UNUSUAL if unusual else _USUAL
    shirt = str(rng.choice([name for name in colors if name != worn]))
    trousers = str(rng.choice([name for name in colors if name != shirt]))
    spread = rng.uniform(-1, 1, size=4)
    if unusual:  # outside of the usual range
        spread = np.sign(spread) * (1.0 + 0.6 * np.abs(spread))
    body = Body(
        height=1.7 + 0.14 * spread[0],
        legs=1 + 0.05 * spread[1],
        arms=1 + 0.06 * spread[2],
        shoulders=1 + 0.1 * spread[3],
        girth=float(rng.uniform(1.3, 1.45) if unusual else rng.uniform(0.95, 1.25)),
    )
    flags = [bool(flag) for flag in rng.random(4) < [0.4, 0.3, 0.35, 0.4]]
    shoes = str(rng.choice(["black", "white", "brown"]))
    look = Look(shirt, trousers, int(rng.integers(len(SKINS))), int(rng.integers(len(HAIRS))), shoes, *flags)
    return body, look


def _phases(
    segment: FigureSegment, action: Action, spec: FigureSpec, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]]:
    """Return the phase of an action at each frame, and the frames that belong to it."""
    frames = np.arange(spec.num_frames)
    early, late = rng.uniform(0, 0.9, size=2)[:: -1 if action.reverse else 1]  # of a frame, beyond its span
    first_frame, last_frame = segment.start - early, segment.end - 1 + late
    share = np.clip((frames - first_frame) / max(last_frame - first_frame, 1), 0, 1)
    inside = (frames >= segment.start) & (frames < segment.end) if spec.idle or len(spec.segments) > 1 else frames >= 0
    first, cycles = float(rng.uniform()), float(rng.uniform(*(action.cycles or (1.0, 1.0))))
    if action.cycles is None or action.cycles[0] == action.cycles[1]:
        first = 0.0
    elif action.group != "speed":
        cycles *= (segment.end - segment.start) / spec.fps / 2
    share = 1 - share if action.reverse else share
    return first + cycles * share, inside


def _wrap(phases: Array, action: Action) -> Array:
    """Bring phases into one cycle; the end of the last cycle is 1, not 0."""
    if action.cycles is None:
        return phases
    return np.where(phases >= phases.max(), phases - np.ceil(phases) + 1, phases % 1.0)


def _style(rng: np.random.Generator) -> Array:
    """Sample small deviations of all angles of a person."""
    spread = {"left_e": 5, "right_e": 5, "left_a": 5, "right_a": 5, "lean": 3, "bend": 2, "nod": 6, "look": 8}
    return np.array([rng.uniform(-1, 1) * spread.get(name, 0.0) for name in NUMBERS])
