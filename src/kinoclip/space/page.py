"""The tab on which a visitor asks about one video."""

from __future__ import annotations

import logging
from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from kinoclip.embedded import EMBEDDED
from kinoclip.inference.showing import show_reasons

from .answers import Answer, Models, Question, answer
from .examples import Example, show_cards
from .limits import Limits, VisitError, pair_names, read_labels, read_names
from .showing import EMPTY, show_verdict

logger = logging.getLogger(__name__)
# tells which card was clicked
_ON_CARDS = """
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-example]');
  if (card) trigger('select', {index: Number(card.dataset.example)});
});
"""
# on a phone the answer stands below the question
_SHOW_ANSWER = """
() => setTimeout(() => {
  const answer = document.getElementById('kc-answer');
  if (answer.getBoundingClientRect().top > window.innerHeight / 4) answer.scrollIntoView({behavior: 'smooth'});
}, 150)
"""
_SHAPES_ONLY = "This small model knows colored shapes only, such as <b>red circle</b> or <b>blue star</b>."


def build_recognize_tab(models: Models, examples: list[Example], limits: Limits) -> None:
    """Lay out question and answer side by side, or on a phone one below the other, and connect them."""
    with gr.Row(elem_id="kc-page"):
        with gr.Column(scale=4, min_width=320, elem_id="kc-question"):
            cards = gr.HTML(show_cards(examples), js_on_load=_ON_CARDS, elem_id="kc-cards")
            question = _build_question(models, limits)
            button = gr.Button("Recognize", variant="primary", elem_id="kc-recognize")
        with gr.Column(scale=6, min_width=320, elem_id="kc-answer"):
            shown = _build_answer()
    _connect(cards, question, button, shown, _Desk(models, examples, limits))


def _build_question(models: Models, limits: Limits) -> dict[str, Any]:
    """Build the fields of a question, by name and in the order of `_Desk.ask`."""
    first = models.names[0]
    fields: dict[str, Any] = {
        "video": gr.Video(label="Video", sources=["upload", "webcam"], autoplay=True, elem_id="kc-video"),
        "labels": gr.Textbox(
            label="Labels",
            info="What it may show, one name a line.",
            placeholder="red circle\nblue square" if first == EMBEDDED else "diving\narchery\njuggling balls",
            lines=4,
            max_lines=4,
            elem_id="kc-labels",
        ),
        "chinese": gr.Textbox(
            "",
            label="Chinese names",
            info="In the order of the labels, one a line. Leave it empty to go by the labels alone.",
            lines=3,
            max_lines=8,
            visible=False,
            elem_id="kc-chinese",
        ),
        "model": gr.Dropdown(
            models.names, value=first, label="Model", visible=len(models.names) > 1, elem_id="kc-model"
        ),
        "note": gr.HTML(_note(first), elem_classes="kc-note"),
    }
    with gr.Accordion("Options", open=False):
        fields["spans"] = gr.Checkbox(False, label="Time line", info="For long videos: when each label is seen.")
        fields["threshold"] = gr.Slider(
            0, 1, 0.5, step=0.05, label="Threshold", info="Less probable than this, the answer is: none of these."
        )
        fields["frames"] = gr.Slider(
            0, limits.frames, 0, step=1, label="Frames", info="How many to look at; 0 for what suits the model."
        )
    return fields


def _build_answer() -> list[Any]:
    """Build what shows an answer, in the order of `_show`."""
    verdict = gr.HTML(EMPTY, elem_id="kc-verdict")
    ranking = gr.Label(label="Over the whole video", show_heading=False, visible=False, elem_id="kc-ranking")
    reasons = gr.HTML("", elem_id="kc-reasons")
    with gr.Accordion("As data", open=False, visible=False) as details:
        record = gr.JSON(show_label=False, elem_id="kc-record")
    return [verdict, ranking, reasons, details, record]


def _show(found: Answer) -> list[Any]:
    ranking = gr.Label({p.label: p.probability for p in found.ranking}, visible=True)
    return [show_verdict(found), ranking, show_reasons(found.ranking), gr.Accordion(visible=True), found.record()]


_NOTHING = [EMPTY, gr.Label(visible=False), "", gr.Accordion(visible=False), None]


class _Desk:
    """Takes what the fields hold to `answer`, and brings back what the page shows."""

    def __init__(self, models: Models, examples: list[Example], limits: Limits):
        self.models, self.examples, self.limits = models, examples, limits

    def ask(
        self,
        report: Callable[[float, str], None],
        video: str | None,
        labels: str,
        model: str,
        frames: float,
        threshold: float,
        spans: bool,
        chinese: str,
    ) -> Answer:
        """Answer a question, or tell the visitor in a sentence why not."""
        try:
            if video is None:
                raise VisitError("There is no video. Choose a file, record one, or click an example.")
            names = read_labels(labels or "", self.limits)
            names_chinese = pair_names(names, read_names(chinese or "", self.limits))
            question = Question(video, names, model, int(frames or 0) or None, threshold, spans, names_chinese)
            return answer(question, self.models, self.limits, report)
        except VisitError as error:
            # the browser reads a message as HTML
            raise gr.Error(escape(str(error), quote=False), print_exception=False) from None

    def show_example(self, event: gr.EventData) -> list[Any]:
        """Fill in an example's question and show the answer that is there already."""
        example = self.examples[event.index]
        asked = example.question
        fields = [asked.video, "\n".join(asked.labels), asked.model, 0, asked.threshold, asked.spans]
        return [*fields, gr.Textbox("", visible=False), _note(asked.model), *_show(example.answer)]

    def adapt(self, model: str) -> list[Any]:
        """Ask for Chinese names where the model reads them, and say what it knows."""
        try:
            return [gr.Textbox(visible=self.models.reads_chinese(model)), _note(model)]
        except VisitError as error:
            gr.Warning(escape(str(error), quote=False))
            return [gr.Textbox(visible=False), _note(model)]


def _connect(cards: Any, fields: dict[str, Any], button: Any, shown: list[Any], desk: _Desk) -> None:
    names = ("video", "labels", "model", "frames", "threshold", "spans", "chinese")
    inputs = [fields[name] for name in names]
    one_at_a_time: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
    hidden: dict[str, Any] = {"api_visibility": "private"}

    def recognize(*values: Any, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008
        return _show(desk.ask(lambda share, what: progress(share, what), *values))

    def classify(
        video: str, labels: str, model: str, frames: float, threshold: float, spans: bool, chinese: str
    ) -> dict[str, Any]:
        found = desk.ask(lambda share, what: None, video, labels, model, frames, threshold, spans, chinese)
        return found.record()

    asked = button.click(recognize, inputs, shown, show_progress_on=shown[0], **one_at_a_time, **hidden)
    clicked = cards.select(
        desk.show_example, None, [*inputs, fields["note"], *shown], queue=False, show_progress="hidden", **hidden
    )
    # an older answer beside a question that has none would mislead
    asked.failure(lambda: _NOTHING, None, shown, **hidden)
    for event in (asked, clicked):
        event.success(None, js=_SHOW_ANSWER, **hidden)
    fields["model"].input(desk.adapt, fields["model"], [fields["chinese"], fields["note"]], **one_at_a_time, **hidden)
    gr.Button(visible=False).click(
        classify,
        inputs,
        gr.JSON(visible=False),
        api_name="classify",
        api_description="Name the action in a video with your own labels, and say when and why.",
        **one_at_a_time,
    )


def _note(model: str) -> str:
    return _SHAPES_ONLY if model == EMBEDDED else ""
