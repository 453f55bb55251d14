"""Name the poses of skeletons."""

import numpy as np

from kinoclip.kinoshapes.figures.skeleton import JOINTS, Array

# all that `name_pose` returns
POSES = (
    *(f"{side} {kind}" for kind in ("raised", "stretched forward", "stretched sideways", "down")
      for side in ("both arms", "left arm", "right arm")),
    *("hands together", "left hand at the face", "right hand at the face"),
    *("both knees bent", "left knee bent", "right knee bent"),
    *("lying face down", "lying on the back", "lying on the side"),
    *("both feet off the floor", "left foot lifted", "right foot lifted", "legs apart", "hips low"),
    *("leaning forward", "leaning back", "leaning sideways", "upright"),
)  # fmt: skip


def name_pose(joints: Array) -> tuple[str, ...]:
    """Name what a skeleton (18, 3) shows, by angles and distances of its joints."""
    at = dict(zip(JOINTS, joints, strict=True))
    leg = 2 * float(np.linalg.norm(at["left hip"] - at["left knee"]))
    trunk = (at["neck"] - at["pelvis"]) / np.linalg.norm(at["neck"] - at["pelvis"])
    ahead = np.cross(at["left hip"] - at["right hip"], trunk)
    found = []
    raised, forward, aside, down = (
        [side for side in ("left", "right") if _arm_is(kind, at, side, leg)]
        for kind in ("up", "ahead", "aside", "down")
    )
    for sides, one in (
        (raised, "raised"),
        (forward, "stretched forward"),
        (aside, "stretched sideways"),
        (down, "down"),
    ):
        found += [f"both arms {one}"] if len(sides) == 2 else [f"{side} arm {one}" for side in sides]
    if np.linalg.norm(at["left hand"] - at["right hand"]) < 0.3 * leg:
        found.append("hands together")
    for side in ("left", "right"):
        if np.linalg.norm(at[f"{side} hand"] - at["nose"]) < 0.3 * leg:
            found.append(f"{side} hand at the face")
    bent = [side for side in ("left", "right") if _knee(at, side) < 125]
    found += ["both knees bent"] if len(bent) == 2 else [f"{side} knee bent" for side in bent]
    lift = {side: float(at[f"{side} ankle"][1]) / leg for side in ("left", "right")}
    if trunk[1] < 0.45 and at["pelvis"][1] < 0.5 * leg:
        face = "face down" if ahead[1] < -0.08 else "on the back" if ahead[1] > 0.08 else "on the side"
        return (*found, f"lying {face}")
    if min(lift.values()) > 0.17:
        found.append("both feet off the floor")
    elif abs(lift["left"] - lift["right"]) > 0.12:
        found.append(f"{'left' if lift['left'] > lift['right'] else 'right'} foot lifted")
    if np.linalg.norm((at["left ankle"] - at["right ankle"])[[0, 2]]) > 0.6 * leg:
        found.append("legs apart")
    if at["pelvis"][1] < 0.72 * leg:
        found.append("hips low")
    if trunk[1] < 0.88:
        way = "forward" if ahead[1] < -0.04 else "back" if ahead[1] > 0.04 else "sideways"
        found.append(f"leaning {way}")
    elif trunk[1] >= 0.95:
        found.append("upright")
    return tuple(found)


def _arm_is(kind: str, at: dict[str, Array], side: str, leg: float) -> bool:
    way = at[f"{side} hand"] - at[f"{side} shoulder"]
    ahead = np.cross(at["left hip"] - at["right hip"], at["neck"] - at["pelvis"])
    ahead /= np.linalg.norm(ahead)
    across = at[f"{side} shoulder"] - (at["left shoulder"] + at["right shoulder"]) / 2
    far = np.linalg.norm(way) > 0.5 * leg
    level = abs(way[1]) < 0.3 * leg
    match kind:
        case "up":
            return bool(way[1] > 0.22 * leg)
        case "down":
            return bool(way[1] < -0.45 * leg)
        case "ahead":
            return bool(far and level and way @ ahead > 0.4 * leg)
    return bool(far and level and way @ across / np.linalg.norm(across) > 0.4 * leg)


def _knee(at: dict[str, Array], side: str) -> float:
    """Angle of a knee in degrees; 180 is straight."""
    upper, lower = at[f"{side} hip"] - at[f"{side} knee"], at[f"{side} ankle"] - at[f"{side} knee"]
    cosine = upper @ lower / (np.linalg.norm(upper) * np.linalg.norm(lower))
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
