"""Articulated bodies: proportions, poses as a few named numbers, and the joints that follow from them.

A person looks along z, with x to their left and y up. Hands and feet are placed, and elbows and knees follow by inverse kinematics:
so feet stay on the floor and hands meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Key = tuple[float, Mapping[str, float]]  # phase 0..1, and the numbers that differ from `REST`

JOINTS = (
    *("head", "neck", "pelvis"),
    *("left shoulder", "left elbow", "left hand", "right shoulder", "right elbow", "right hand"),
    *("left hip", "left knee", "left ankle", "right hip", "right knee", "right ankle"),
    *("nose", "left toe", "right toe"),  # the directions of head and feet
)
# Numbers of a pose. Whole body: heading, pitch and roll about the floor in degrees; lift, way forward and to the left in legs.
# Pelvis: height, shift forward and to the left in legs. Torso: pitch, roll, twist. Head: pitch, turn. Hands: angle from hanging
# down, angle from forward outward, distance from the shoulder in arms. Feet: outward, up, forward in legs.
REST: dict[str, float] = {
    **dict.fromkeys(("yaw", "tilt", "roll", "up", "go", "side"), 0.0),
    **{"hip": 0.985, "hip_z": 0.0, "hip_x": 0.0, "lean": 0.0, "bend": 0.0, "twist": 0.0, "nod": 0.0, "look": 0.0},
    **{"left_e": 8.0, "left_a": 80.0, "left_r": 0.96, "right_e": 8.0, "right_a": 80.0, "right_r": 0.96},
    **{"left_x": 0.03, "left_y": 0.0, "left_z": 0.0, "right_x": 0.03, "right_y": 0.0, "right_z": 0.0},
}
NUMBERS = tuple(REST)
# numbers that change their sign in a mirror, apart from the exchange of left and right
_MIRRORED = ("yaw", "roll", "side", "hip_x", "bend", "twist", "look")


@dataclass(frozen=True)
class Body:
    """Proportions of a person: height in meters, and factors of the usual lengths."""

    height: float = 1.7
    legs: float = 1.0
    arms: float = 1.0
    shoulders: float = 1.0
    girth: float = 1.0

    @property
    def leg(self) -> float:
        """From hip to ankle, in meters."""
        return 0.48 * self.height * self.legs

    @property
    def arm(self) -> float:
        """From shoulder to hand, in meters."""
        return 0.33 * self.height * self.arms


def interpolate(keys: Sequence[Key], phases: Array) -> Array:
    """Compute the pose at each phase, with an ease in and out between two keys: (T, numbers)."""
    times = np.array([time for time, _ in keys])
    poses = np.array([[{**REST, **pose}[name] for name in NUMBERS] for _, pose in keys])
    after = np.clip(np.searchsorted(times, phases, side="right"), 1, len(keys) - 1)
    share = np.clip((phases - times[after - 1]) / (times[after] - times[after - 1]), 0.0, 1.0)
    share = share * share * (3 - 2 * share)
    return np.asarray(poses[after - 1] + (poses[after] - poses[after - 1]) * share[:, None])


def mirror(poses: Array) -> Array:
    """Exchange left and right."""
    swapped = [name.replace("left", "*").replace("right", "left").replace("*", "right") for name in NUMBERS]
    signs = np.array([-1.0 if name in _MIRRORED else 1.0 for name in NUMBERS])
    return np.asarray(poses[:, [NUMBERS.index(name) for name in swapped]] * signs)


def pose_joints(poses: Array, body: Body) -> Array:
    """Compute the joints of poses (T, numbers), in meters: (T, 18, 3), in the order of `JOINTS`."""
    value = dict(zip(NUMBERS, poses.T, strict=True))
    leg, ankle = body.leg, 0.045 * body.height
    pelvis = _vectors(value["hip_x"] * leg, value["hip"] * leg + ankle, value["hip_z"] * leg)
    torso = rotation(value["twist"], value["lean"], value["bend"])
    head = torso @ rotation(value["look"], value["nod"], np.zeros(len(poses)))
    neck = pelvis + torso @ np.array([0.0, 0.3 * body.height, 0.0])
    joints = {"pelvis": pelvis, "neck": neck, "head": neck + head @ np.array([0.0, 0.105 * body.height, 0.012])}
    joints["nose"] = joints["head"] + head @ np.array([0.0, 0.0, 0.075 * body.height])
    for side, sign in (("left", 1.0), ("right", -1.0)):
        elevation, azimuth, reach = (
            np.radians(value[f"{side}_e"]),
            np.radians(value[f"{side}_a"]),
            value[f"{side}_r"],
        )
        shoulder = pelvis + torso @ np.array([sign * 0.118 * body.height * body.shoulders, 0.275 * body.height, 0.0])
        out = np.sin(elevation) * np.sin(azimuth) * sign
        to_hand = _vectors(out, -np.cos(elevation), np.sin(elevation) * np.cos(azimuth)) * (reach * body.arm)[:, None]
        elbow, hand = _bend(
            shoulder, shoulder + _apply(torso, to_hand), body.arm / 2, torso @ [sign * 0.55, -0.6, -0.6]
        )
        hip = pelvis + _vectors(np.full(len(poses), sign * 0.055 * body.height), 0 * value["hip"], 0 * value["hip"])
        foot = _vectors(value[f"{side}_x"] * sign * leg, value[f"{side}_y"] * leg, value[f"{side}_z"] * leg)
        foot = foot + np.array([sign * 0.055 * body.height, ankle, 0.0])
        knee, foot = _bend(hip, foot, leg / 2, np.broadcast_to([sign * 0.15, 0.05, 1.0], foot.shape))
        shin = (foot - knee) / (leg / 2)
        ahead = np.array([sign * 0.2, 0.0, 1.0]) - 0.9 * (shin * [sign * 0.2, 0.0, 1.0]).sum(-1, keepdims=True) * shin
        toe = foot + 0.09 * body.height * ahead + 0.02 * body.height * shin
        parts = {
            "shoulder": shoulder,
            "elbow": elbow,
            "hand": hand,
            "hip": hip,
            "knee": knee,
            "ankle": foot,
            "toe": toe,
        }
        joints |= {f"{side} {name}": part for name, part in parts.items()}
    stacked = np.stack([joints[name] for name in JOINTS], axis=1)
    still = np.zeros(len(poses))
    turned = rotation(value["yaw"], still, still) @ rotation(still, value["tilt"], value["roll"])
    way = _vectors(value["side"], value["up"], value["go"]) * leg
    return np.asarray(np.einsum("tij,tkj->tki", turned, stacked) + way[:, None])


def rotation(yaw: Array, pitch: Array, roll: Array) -> Array:
    """Compute rotations (T, 3, 3) of degrees: roll to the left, then pitch forward, then yaw to the left."""
    one, zero = np.ones(len(yaw)), np.zeros(len(yaw))
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(np.radians(a)), np.sin(np.radians(a))) for a in (yaw, pitch, roll))
    about_y = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    about_x = np.array([[one, zero, zero], [zero, cp, -sp], [zero, sp, cp]])
    about_z = np.array([[cr, sr, zero], [-sr, cr, zero], [zero, zero, one]])
    return np.asarray(np.einsum("ijt,jkt,klt->til", about_y, about_x, about_z))


def _vectors(x: Array, y: Array, z: Array) -> Array:
    return np.stack(np.broadcast_arrays(x, y, z), axis=-1)


def _apply(rotations: Array, vectors: Array) -> Array:
    return np.asarray(np.einsum("tij,tj->ti", rotations, vectors))


def _bend(start: Array, target: Array, bone: float, hint: Array) -> tuple[Array, Array]:
    """Place the middle and the end of two equal bones that reach from `start` to `target`, bent toward `hint`."""
    way = target - start
    length = np.linalg.norm(way, axis=-1, keepdims=True) + 1e-9
    direction = way / length
    length = np.minimum(length, 1.998 * bone)
    outward = hint - (hint * direction).sum(-1, keepdims=True) * direction
    outward = outward / (np.linalg.norm(outward, axis=-1, keepdims=True) + 1e-9)
    middle = start + direction * length / 2 + outward * np.sqrt(bone**2 - length**2 / 4)
    return middle, start + direction * length
