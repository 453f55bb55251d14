"""Example clips of the page, drawn by KinoShapes and answered at startup."""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from kinoclip.explain.html import picture_url
from kinoclip.kinoshapes import write_video
from kinoclip.kinoshapes.clips import clip_generator, render, sample_spec
from kinoclip.space.answers import Answer, Question
from kinoclip.space.workers import Workers

_SHAPES = ("red circle", "blue square", "green star", "purple cross", "yellow triangle", "white ring")
_GREEN = ("green star", "green ring", "green cross", "green circle")
_THREE = ("blue square", "purple cross", "yellow triangle")


@dataclass(frozen=True)
class Example:
    """A clip with its request and response; `picture` is a frame that shows its object."""

    caption: str
    picture: Image.Image
    question: Question
    answer: Answer


def make_examples(folder: Path, workers: Workers) -> list[Example]:
    """Write the clips into a folder and classify them with the embedded model."""
    return [
        Example(caption, picture, question, workers.answer(question))
        for caption, picture, question in _draw_clips(folder)
    ]


def _draw_clips(folder: Path) -> Iterator[tuple[str, Image.Image, Question]]:
    plans: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
        ("Visible for a while", {"label": "red circle", "untrimmed": True, "background": "striped"}, {}),
        ("Among distractors", {"label": "green star", "background": "gradient", "distractors": 3}, {"labels": _GREEN}),
        (
            "One after another",
            {"labels": _THREE, "num_segments": 3, "untrimmed": True, "num_frames": 96, "background": "dotted"},
            {"labels": _THREE, "spans": True},
        ),
        ("None of the labels", {"label": "purple ring", "background": "checkered"}, {"threshold": 0.8}),
    )
    for number, (caption, drawn, asked) in enumerate(plans):
        clip = render(sample_spec(clip_generator(number + 1, "test", number), **drawn, height=288, width=384))
        path = write_video(folder / f"example_{number}.mp4", clip.frames, clip.spec.fps)
        seen = clip.spans[-1]
        picture = Image.fromarray(clip.frames[(seen.start_frame + seen.end_frame) // 2])
        yield caption, picture, Question(str(path), **{"labels": _SHAPES, **asked})


def show_cards(examples: list[Example]) -> str:
    """Return the examples as HTML buttons with pictures."""
    cards = "".join(
        f'<button type="button" data-example="{number}"><img src="{picture_url(example.picture)}" alt="">'
        f"<span>{escape(example.caption)}</span></button>"
        for number, example in enumerate(examples)
    )
    return f'<div class="kc-cards">{cards}</div>'
