"""Example clips of the page, drawn by KinoFigures and answered at startup."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from kinoclip.explain.html import picture_url
from kinoclip.kinoshapes import write_video
from kinoclip.kinoshapes.figures.acting import FigureSegment, FigureSpec
from kinoclip.kinoshapes.figures.actions import UNSEEN
from kinoclip.kinoshapes.figures.scenes import render_figures
from kinoclip.modeling.names import EMBEDDED
from kinoclip.space.answers import Answer, Question
from kinoclip.space.workers import Workers

_ACTIONS = ("throwing a ball", "kicking a ball", "drinking", "waving", "clapping", "push-ups")
_PAIRS = ("sitting down", "standing up", "picking up a box", "putting down a box")
_THREE = ("squatting", "waving", "jumping jacks")
_UNSEEN = tuple(action.label for action in UNSEEN[:6])


@dataclass(frozen=True)
class Example:
    """A clip with its request and response; `picture` is a frame that shows its object."""

    caption: str
    picture: Image.Image
    question: Question
    answer: Answer


def make_examples(folder: Path, workers: Workers) -> list[Example]:
    """Write the clips into a folder and classify them with the embedded models."""
    return [
        Example(caption, picture, question, workers.answer(question))
        for caption, picture, question in _draw_clips(folder)
    ]


def _draw_clips(folder: Path) -> Iterator[tuple[str, Image.Image, Question]]:
    plans: tuple[tuple[str, tuple[str, ...], str, dict[str, Any]], ...] = (
        ("An action", _ACTIONS[:1], "gym", {"labels": _ACTIONS}),
        ("Told by the order of frames", _PAIRS[1:2], "wooden room", {"labels": _PAIRS}),
        ("One after another", _THREE, "meadow", {"labels": _THREE, "spans": True}),
        ("Zero-shot, not trained", ("lifting a barbell",), "street", {"labels": _UNSEEN, "model": EMBEDDED}),
    )
    for number, (caption, actions, place, asked) in enumerate(plans):
        length = 16 if len(actions) == 1 else 32
        segments = tuple(FigureSegment(name, length * i + 2, length * (i + 1) - 2) for i, name in enumerate(actions))
        clip = render_figures(
            FigureSpec(
                segments,
                place,
                idle=len(actions) > 1,
                num_frames=length * len(actions),
                height=288,
                width=384,
                seed=number,
            )
        )
        path = write_video(folder / f"example_{number}.mp4", clip.frames, clip.spec.fps)
        seen = clip.spans[-1]
        picture = Image.fromarray(clip.frames[(seen.start_frame + seen.end_frame) // 2])
        yield caption, picture, Question(str(path), **asked)


def show_cards(examples: list[Example]) -> str:
    """Return the examples as HTML buttons with pictures."""
    cards = "".join(
        f'<button type="button" data-example="{number}"><img src="{picture_url(example.picture)}" alt="">'
        f"<span>{escape(example.caption)}</span></button>"
        for number, example in enumerate(examples)
    )
    return f'<div class="kc-cards">{cards}</div>'
