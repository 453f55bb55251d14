"""Render clips of people who act, with their ground truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kinoclip.kinoshapes.clips import Span
from kinoclip.kinoshapes.figures.acting import BY_LABEL, FigureSegment, FigureSpec, cast, sample_person
from kinoclip.kinoshapes.figures.actions import Action
from kinoclip.kinoshapes.figures.drawing import PARTS, THINGS, Camera, Look, Stage, paint, part_id
from kinoclip.kinoshapes.figures.naming import name_pose
from kinoclip.kinoshapes.figures.places import draw_place
from kinoclip.kinoshapes.figures.props import add_prop
from kinoclip.kinoshapes.figures.skeleton import JOINTS, NUMBERS, REST, Array, pose_joints


@dataclass(frozen=True)
class FigureClip:
    """A rendered clip with its ground truth.

    Attributes:
        spec: what it was rendered from.
        frames: uint8 (T, H, W, 3).
        parts: uint8 (T, H, W), the part at each pixel (`part_id`), 0 where there is none.
        joints: (people, T, 18, 3) in meters, in the order of `JOINTS`.
        flat_joints: (people, T, 18, 2) columns and rows in pixels.
        views: direction from which each person is seen: "front", "left", "right" or "back", from (people,).
        look: clothes and hair of the first person.
    """

    spec: FigureSpec
    frames: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    joints: Array
    flat_joints: Array
    views: tuple[str, ...]
    look: Look

    @property
    def label(self) -> str:
        """The first action."""
        return self.spec.segments[0].label

    @property
    def masks(self) -> NDArray[np.bool_]:
        """The people who act: bool (T, H, W)."""
        return (self.parts >= 1) & (self.parts <= 2 * len(PARTS))

    def mask(self, name: str, person: int = 0) -> NDArray[np.bool_]:
        """Where a body part of one person or a thing is visible: bool (T, H, W)."""
        return np.asarray(self.parts == part_id(name, person))

    @property
    def things(self) -> tuple[str, ...]:
        """What is visible in at least one frame, apart from the people who act."""
        seen = np.bincount(self.parts.ravel(), minlength=part_id(THINGS[-1]) + 1)
        return tuple(name for name in THINGS if seen[part_id(name)])

    @property
    def caption(self) -> str:
        """A sentence about the clip, with clothes, actions, orientation, position and place."""
        return self._caption(self.spec.segments)

    @property
    def spans(self) -> tuple[Span, ...]:
        """The ground truth in time, in order."""
        fps = self.spec.fps
        return tuple(
            Span(s.label, s.label, self._caption([s]), s.start, s.end, s.start / fps, s.end / fps)
            for s in self.spec.segments
        )

    @property
    def position(self) -> str:
        """Where the first person is in the middle frame, such as "on the left"."""
        share = self.flat_joints[0, :, JOINTS.index("pelvis"), 0].mean() / self.spec.width
        return "on the left" if share < 0.44 else "on the right" if share > 0.56 else "in the middle"

    @property
    def size(self) -> str:
        """Whether the person is "large" or "small", by the share of the picture."""
        rows = self.flat_joints[0, :, :, 1]
        return "large" if np.ptp(rows, axis=1).mean() > 0.6 * self.spec.height else "small"

    @property
    def clothes(self) -> str:
        """Such as "a red shirt and blue trousers"."""
        return f"a {self.look.shirt} shirt and {self.look.trousers} {'shorts' if self.look.shorts else 'trousers'}"

    def pose(self, frame: int, person: int = 0) -> tuple[str, ...]:
        """Name the pose of a person in a frame, by its joints, such as ("both arms raised", "knees bent")."""
        return name_pose(self.joints[person, frame])

    def attributes(self, frame: int) -> tuple[str, ...]:
        """Return all phrases that are true of a frame: pose, clothes, orientation, position, things, place."""
        people = "two people" if len(self.joints) == 2 else "one person"
        seen = tuple(name for name in self.things if self.mask(name)[frame].any())
        view = f"seen from the {self.views[0]}"
        return (*self.pose(frame), people, self.clothes, view, self.position, *seen, self.spec.place)

    def _caption(self, segments: Sequence[FigureSegment]) -> str:
        actions = " then ".join(s.label for s in segments)
        return f"a person in {self.clothes} {actions}, {self.size} and {self.position}, seen from the {self.views[0]}, {self.spec.place}"


def render_figures(spec: FigureSpec) -> FigureClip:
    """Draw every frame of a clip; the same spec gives the same bytes."""
    rng = np.random.default_rng(spec.seed)
    actors = cast(spec, rng)
    actions, people = [BY_LABEL[segment.label] for segment in spec.segments], actors.joints
    stage = Stage(spec.num_frames)
    for number, joints in enumerate(people):
        ids = [part_id(name, number) for name in PARTS]
        stage.person(joints, actors.bodies[number], actors.looks[number], ids)
    for action, (phases, inside), swap in zip(actions, actors.timing, actors.mirrored, strict=True):
        for prop in action.props:
            add_prop(stage, prop, "left" if swap else "right", phases, inside, people, actors.bodies[0], rng)
    camera = _sample_camera(people, actions[0], spec, rng)
    _add_extras(stage, camera, spec, rng)
    direction = np.array([math.sin(math.radians(camera.yaw)), 0.0, math.cos(math.radians(camera.yaw))])
    wall = camera.target.mean(0) * [1, 0, 1] - 2.0 * direction
    still = replace(camera, target=camera.target.mean(0)[None], center=camera.center.mean(0)[None], zoom=np.ones(1))
    horizon = float(still.project(wall[None, None], spec.height, spec.width)[0, 0, 1])
    horizon = float(np.clip(horizon, 0.15 * spec.height, 1.2 * spec.height))
    backdrop = draw_place(spec.place, horizon, spec.height, spec.width, rng)
    light = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.4, 0.1)))
    frames, parts = paint(stage, camera, backdrop, light, spec.height, spec.width)
    flat = np.stack([camera.project(joints, spec.height, spec.width)[..., :2] for joints in people])
    views = tuple(_view(joints, camera.yaw) for joints in people)
    return FigureClip(spec, _expose(frames, rng), parts, np.stack(people), flat, views, actors.looks[0])


def _sample_camera(people: Sequence[Array], action: Action, spec: FigureSpec, rng: np.random.Generator) -> Camera:
    """Sample a viewpoint, and place the camera so that all that the people do is visible."""
    low, high = action.views
    yaw = float(rng.uniform(low, high) if not spec.unusual else rng.uniform(high, high + 25)) * rng.choice([-1, 1])
    pitch = float(rng.uniform(16, 28) if spec.unusual else rng.uniform(1, 13))
    steps = np.linspace(-0.5, 0.5, spec.num_frames)[:, None]
    joints = np.concatenate([person[person[:, 0, 1] > -100].reshape(-1, 3) for person in people])
    target = np.tile((joints.max(0) + joints.min(0)) / 2, (spec.num_frames, 1))
    if action.travel:
        path = people[0][:, JOINTS.index("pelvis"), 2]
        target[:, 2] += rng.uniform(0.65, 1.0) * (path - path.mean())
    still = np.zeros((spec.num_frames, 2))
    camera = Camera(target, yaw, pitch, 5.0, still, np.ones(spec.num_frames))
    shown = [np.where(person[..., 1:2] > -100, person, target[:, None]) for person in people]
    around = np.concatenate(shown, axis=1)
    margin = np.array([0.1, 0.13, 0.1])
    corners = np.concatenate([around - margin, around + margin], axis=1)

    def extent(camera: Camera) -> tuple[Array, Array]:
        flat = camera.project(corners, 1, 1)[..., :2] - 0.5
        return flat.reshape(-1, 2).min(0), flat.reshape(-1, 2).max(0)

    wanted = float(rng.uniform(0.62, 0.86))
    for _ in range(2):
        low_corner, high_corner = extent(camera)
        camera = replace(camera, distance=max(1.6, camera.distance * float((high_corner - low_corner).max()) / wanted))
    low_corner, high_corner = extent(camera)
    room = np.maximum(1 - (high_corner - low_corner) - 0.06, 0.0) / 2
    center = -(low_corner + high_corner) / 2 + rng.uniform(-1, 1, 2) * np.minimum(room, [0.2, 0.08])
    pan = steps * rng.uniform(-0.07, 0.07, size=2)
    shake = rng.normal(0, rng.choice([0.0, 0.004, 0.008]), size=(spec.num_frames, 2))
    zoom = 1 + steps[:, 0] * rng.uniform(-0.12, 0.12)
    return replace(camera, center=center + pan + shake, zoom=zoom)


def _add_extras(stage: Stage, camera: Camera, spec: FigureSpec, rng: np.random.Generator) -> None:
    """Add an idle person in the background and something in the foreground, sometimes."""
    yaw = math.radians(camera.yaw)
    right, back = np.array([math.cos(yaw), 0.0, -math.sin(yaw)]), np.array([math.sin(yaw), 0.0, math.cos(yaw)])
    middle = camera.target.mean(0) * [1, 0, 1]
    if rng.random() < 0.25:
        body, look = sample_person(rng)
        poses = np.tile(list(REST.values()), (spec.num_frames, 1))
        poses[:, NUMBERS.index("yaw")] = rng.uniform(-180, 180)
        place = middle + rng.choice([-1, 1]) * rng.uniform(0.9, 1.5) * right - rng.uniform(1.0, 1.6) * back
        stage.person(pose_joints(poses, body) + place, body, look, [part_id("bystander")] * len(PARTS))
    if rng.random() < 0.2:
        place = middle + rng.choice([-1, 1]) * rng.uniform(0.25, 0.8) * right + 0.35 * camera.distance * back
        height = rng.uniform(0.3, 1.8) * np.array([0.0, 1.0, 0.0])
        stage.capsules(
            [(place, place + height)],
            float(rng.uniform(0.03, 0.07)),
            rng.uniform(40, 200, 3),
            part_id("occluder"),
            2.0,
        )


def _view(joints: Array, yaw: float) -> str:
    """Name the side of a person that the camera sees in the first frame."""
    ahead = joints[0, JOINTS.index("nose")] - joints[0, JOINTS.index("head")]
    turned = (math.degrees(math.atan2(ahead[0], ahead[2])) - yaw + 180) % 360 - 180
    if abs(turned) < 50:
        return "front"
    return "back" if abs(turned) > 130 else "right" if turned > 0 else "left"


def _expose(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness and add the noise of a camera."""
    gain = rng.uniform(0.82, 1.12)
    noise = rng.normal(0, rng.uniform(1, 5), size=frames.shape[1:3])[..., None]
    table = np.clip(np.arange(256) * gain, 0, 255)
    shifts = rng.integers(0, frames.shape[1], size=len(frames))
    pictures = [table[frame] + np.roll(noise, shift, axis=0) for frame, shift in zip(frames, shifts, strict=True)]
    return np.asarray(np.clip(np.rint(np.stack(pictures)), 0, 255), dtype=np.uint8)
