"""Put the things that an action uses where its people have them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kinoclip.kinoshapes.figures.acting import AWAY
from kinoclip.kinoshapes.figures.actions import Prop
from kinoclip.kinoshapes.figures.drawing import COLORS, Stage, part_id
from kinoclip.kinoshapes.figures.skeleton import JOINTS, Array, Body


def add_prop(
    stage: Stage, prop: Prop, side: str, phases: Array, inside: NDArray[np.bool_], people: Sequence[Array], body: Body,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Add a prop where its holder is, or where it lies before or flies after; `side` is that of the "right" hand and foot."""
    joints, number = people[0], part_id(prop.kind)
    other = "left" if side == "right" else "right"
    left, right = joints[:, JOINTS.index(f"{other} hand")], joints[:, JOINTS.index(f"{side} hand")]
    elbow = joints[:, JOINTS.index(f"{side} elbow")]
    places = {
        "right hand": right + 0.2 * (right - elbow) / np.linalg.norm(right - elbow, axis=-1, keepdims=True),
        "hands": (left + right) / 2,
        "right foot": joints[:, JOINTS.index(f"{side} toe")],
        "seat": joints[:, JOINTS.index("pelvis")],
        "front": np.tile([0.0, 1.12 * body.leg, 0.27 * body.height], (len(joints), 1)),
    }
    place = places[prop.holder]
    nearest = int(np.abs(phases - max(prop.taken, 0.0)).argmin())
    lying = (
        place[nearest]
        if prop.holder != "right foot"
        else np.array([0.0, 0.11, 0.35]) + [1, 0, 1] * (place[nearest] - place[nearest])
    )
    color = rng.choice([COLORS[name] for name in ("red", "orange", "yellow", "blue", "green", "white")])
    place = np.where((phases < prop.taken)[:, None], lying, place)
    gone = phases >= prop.passed
    if gone.any() and prop.flight is not None:
        leaves = place[int(np.abs(phases - prop.passed).argmin())]
        time = (phases - prop.passed)[:, None]
        place = np.where(gone[:, None], leaves + time * np.array(prop.flight) - [0.0, 3.0, 0.0] * time**2, place)
    elif gone.any() and len(people) > 1:
        hands = [people[1][:, JOINTS.index(f"{side} hand")] for side in ("left", "right")]
        place = np.where(gone[:, None], (hands[0] + hands[1]) / 2, place)
    place = np.where(inside[:, None], place, AWAY)
    up, along = np.array([0.0, 1.0, 0.0]), (left - right)
    match prop.kind:
        case "ball":
            stage.capsules([(place, place)], 0.115, color, number)
        case "box":
            stage.cuboid(place - [0, 0.02, 0], (0.36, 0.3, 0.3), (186, 140, 86), number)
        case "cup":
            stage.capsules([(place + 0.01 * up, place + 0.1 * up)], 0.05, color, number, 0.1)
        case "spoon":
            stage.capsules([(right + 0.1 * up, right - 0.24 * up)], 0.022, (210, 210, 216), number, 0.2)
        case "bowl":
            wide = np.array([0.13, 0.0, 0.0])
            stage.cuboid(place - 0.13 * up, (0.8, 0.05, 0.42), (150, 104, 66), number, 0.02)
            legs = [place + np.array([x, -0.14, z]) for x in (-0.36, 0.36) for z in (-0.18, 0.18)]
            stage.capsules([(leg, leg * [1, 0, 1]) for leg in legs], 0.025, (120, 80, 48), number, 0.0)
            stage.capsules([(place - wide, place + wide)], 0.1, color, number, 0.05)
            stage.capsules(
                [(place - wide + 0.08 * up, place + wide + 0.08 * up)], 0.04, np.array(color) * 0.45, number, 0.06
            )
        case "rope":
            turn = 2 * np.pi * (phases + 0.5)
            sag = 1.12 * body.height * 0.5
            swing = np.stack([0 * turn, -np.cos(turn) * sag, np.sin(turn) * 0.8 * sag], axis=-1)
            shares = np.linspace(0, 1, 11)
            middle = joints[:, JOINTS.index("pelvis")] + [0.0, 0.04, 0.05]
            base = np.where(inside[:, None], 0.0, AWAY)
            line = [right + share * along + (middle - (left + right) / 2) * np.sin(np.pi * share)
                    + np.sin(np.pi * share) ** 0.7 * swing + base for share in shares]  # fmt: skip
            for a, b in pairwise(line):
                stage.capsules([(a, b)], 0.017, (250, 240, 120), number)
        case "barbell":
            direction = along / np.linalg.norm(along, axis=-1, keepdims=True)
            ends = [place + sign * 0.75 * direction for sign in (-1, 1)]
            stage.capsules([(ends[0], ends[1])], 0.02, (150, 150, 158), number, 0.1)
            for end, sign in zip(ends, (-1, 1), strict=True):
                stage.capsules([(end - sign * 0.06 * direction, end)], 0.17, (60, 60, 66), number)
        case "chair":
            seat = (places["seat"][int(np.abs(phases - 1.0).argmin())] * [1, 0, 1]) + np.where(
                inside[:, None], 0.0, AWAY
            )
            top = 0.47 * body.leg
            wood = (150, 100, 60)
            stage.cuboid(seat + (top - 0.03) * up, (0.46, 0.06, 0.44), wood, number, -0.25)
            stage.cuboid(seat + np.array([0, top + 0.26, -0.24]), (0.46, 0.5, 0.05), wood, number, -0.1)
            feet = [np.array([x, 0.0, z]) for x in (-0.2, 0.2) for z in (-0.22, 0.2)]
            for foot in feet:
                stage.capsules([(seat + foot, seat + foot + (top - 0.06) * up)], 0.025, (110, 72, 44), number, -0.2)
