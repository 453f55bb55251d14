"""The tab that classifies one video."""

import asyncio
import logging
from collections.abc import Callable
from html import escape
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import LocalContext
from gradio_client.utils import is_http_url_like

from kinoclip.explain.html import show_reasons
from kinoclip.space.answers import EMBEDDED_MODELS, Answer, Models, Question
from kinoclip.space.examples import Example, show_cards
from kinoclip.space.limits import Limits, VisitError, pair_names, read_labels, read_names
from kinoclip.space.showing import EMPTY, show_problem, show_verdict
from kinoclip.space.workers import Workers
from kinoclip.video.download import download
from kinoclip.video.errors import VideoDecodeError, error_line
from kinoclip.video.isolation import CancelledError

logger = logging.getLogger(__name__)
# Sends the number of the clicked card. Gradio refuses files without a type, which browsers do not know for names such as IMG.MOV.
_ON_LOAD = """
document.addEventListener('change', (event) => {
  if (!event.target.matches('#kc-video input[type=file]')) return;
  const typed = new DataTransfer();
  for (const file of event.target.files)
    typed.items.add(file.type ? file : new File([file], file.name, {type: 'video/mp4'}));
  event.target.files = typed.files;
}, true);
for (const name of ['loadstart', 'error'])
  document.addEventListener(name, (event) => {
    if (!event.target.matches('#kc-video video')) return;
    document.getElementById('kc-video').classList.toggle('kc-silent', name === 'error');
    if (name === 'error') event.stopImmediatePropagation();  // otherwise Gradio's message covers the answer
  }, true);
element.addEventListener('click', (event) => {
  const card = event.target.closest('[data-example]');
  if (card) trigger('select', {index: Number(card.dataset.example)});
});
"""
# On a phone the answer is below the request.
_SHOW_ANSWER = """
() => setTimeout(() => {
  const answer = document.getElementById('kc-answer');
  if (answer.getBoundingClientRect().top > window.innerHeight / 4) answer.scrollIntoView({behavior: 'smooth'});
}, 150)
"""
_DRAWN = f"Drawn examples, answered by the small models <b>{'</b> and <b>'.join(EMBEDDED_MODELS)}</b>:"
_DRAWN_ONLY = "This small model knows only drawn people and what they do, such as <b>waving</b> or <b>drinking</b>."


def limit_downloads(video: Any, limits: Limits) -> Any:
    """Make a component download an address, as programs and agents give it, within the limits of the page."""
    # replaced in the object, because Gradio writes a file beside the module of a subclass
    move_to_cache = video.async_move_resource_to_block_cache

    async def download_to_cache(source: str | Path | None) -> Any:
        if not is_http_url_like(str(source)):
            return await move_to_cache(source)
        size, seconds = limits.megabytes * 1_000_000, limits.answer_seconds
        try:
            file = await asyncio.to_thread(download, str(source), max_bytes=size, timeout_seconds=seconds)
        except VideoDecodeError as error:
            reason = error_line(error).partition(" Pass ")[0]  # the rest is for callers in Python
            raise gr.Error(escape(reason, quote=False), print_exception=False) from None
        try:
            return await move_to_cache(file)
        finally:
            file.unlink()

    video.async_move_resource_to_block_cache = download_to_cache
    return video


def build_recognize_tab(workers: Workers, examples: list[Example]) -> dict[str, Any]:
    """Lay out request and answer side by side (on a phone: below each other), connect them, and return the input fields."""
    with gr.Row(elem_id="kc-page"):
        with gr.Column(scale=4, min_width=320, elem_id="kc-question"):
            if workers.models.names[0] not in EMBEDDED_MODELS:
                gr.HTML(_DRAWN, elem_classes="kc-note")
            cards = gr.HTML(show_cards(examples), js_on_load=_ON_LOAD, elem_id="kc-cards")
            question = _build_question(workers.models, workers.limits)
            button = gr.Button("Recognize", variant="primary", elem_id="kc-recognize")
        with gr.Column(scale=6, min_width=320, elem_id="kc-answer"):
            shown = _build_answer()
    _connect(cards, question, button, shown, _Controller(workers, examples))
    return question


def _build_question(models: Models, limits: Limits) -> dict[str, Any]:
    """Build the input fields by name, in the order of `_Controller.ask`."""
    first = models.names[0]
    fields: dict[str, Any] = {
        "video": limit_downloads(
            gr.Video(label="Video", sources=["upload", "webcam"], autoplay=True, elem_id="kc-video"), limits
        ),
        "labels": gr.Textbox(
            label="Labels",
            info="What it may show, one label per line.",
            placeholder="waving\ndrinking" if first in EMBEDDED_MODELS else "diving\narchery\njuggling balls",
            lines=4,
            max_lines=4,
            elem_id="kc-labels",
        ),
        "chinese": gr.Textbox(
            "",
            label="Chinese names",
            info="In the order of the labels, one per line. Leave empty to use the labels alone.",
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
        fields["spans"] = gr.Checkbox(False, label="Time line", info="For long videos: the spans of each label.")
        fields["threshold"] = gr.Slider(
            0,
            1,
            0,
            step=0.05,
            label="Threshold",
            info="Below this probability the answer is: none of these. In a time line, 0 means 0.5.",
        )
        fields["frames"] = gr.Slider(
            0, limits.frames, 0, step=1, label="Frames", info="Number of sampled frames; 0 for the model's own number."
        )
    return fields


def _build_answer() -> list[Any]:
    """Build the output fields, in the order of `_show`."""
    verdict = gr.HTML(EMPTY, elem_id="kc-verdict")
    ranking = gr.Label(label="Over the whole video", show_heading=False, visible=False, elem_id="kc-ranking")
    reasons = gr.HTML("", elem_id="kc-reasons")
    with gr.Accordion("As data", open=False, visible=False) as details:
        record = gr.JSON(show_label=False, elem_id="kc-record")
    return [verdict, ranking, reasons, details, record]


def _show(given: Answer) -> list[Any]:
    ranking = gr.Label({p.label: p.probability for p in given.ranking}, visible=True)
    return [show_verdict(given), ranking, show_reasons(given.ranking), gr.Accordion(visible=True), given.record()]


_NOTHING = [EMPTY, gr.Label(visible=False), "", gr.Accordion(visible=False), None]


class _Controller:
    """Converts field values to requests, and answers to field values."""

    def __init__(self, workers: Workers, examples: list[Example]):
        self.workers, self.examples, self.limits = workers, examples, workers.limits

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
        """Answer a request, or raise a one-line error for the browser."""
        try:
            if video is None:
                raise VisitError("A video is missing. Upload or record one, or click an example.")
            names = read_labels(labels or "", self.limits)
            names_chinese = pair_names(names, read_names(chinese or "", self.limits))
            least = threshold or (0.5 if spans else 0.0)  # as `kinoclip classify`
            question = Question(video, names, model, int(frames or 0) or None, least, spans, names_chinese)
            return self.workers.answer(question, _visitor(), report, _departure())
        except CancelledError:
            raise gr.Error("The visitor has left.", print_exception=False) from None
        except VisitError as error:
            # The browser renders messages as HTML.
            raise gr.Error(escape(str(error), quote=False), print_exception=False) from None

    def show_example(self, event: gr.EventData) -> list[Any]:
        """Fill in the request of an example and show its stored answer."""
        example = self.examples[event.index]
        asked = example.question
        fields = [asked.video, "\n".join(asked.labels), asked.model, 0, asked.threshold, asked.spans]
        return [*fields, gr.Textbox("", visible=False), _note(asked.model), *_show(example.answer)]

    def adapt(self, model: str) -> list[Any]:
        """Show the field of Chinese names if the model reads them, and the note of the model."""
        try:
            return [gr.Textbox(visible=self.workers.reads_chinese(model)), _note(model)]
        except VisitError as error:
            gr.Warning(escape(str(error), quote=False))
            return [gr.Textbox(visible=False), _note(model)]


def _visitor() -> str:
    """Return the address of the visitor of the current request, as the nearest proxy of this machine's network states it."""
    request = LocalContext.request.get(None)
    if request is None or request.client is None:
        return ""
    named: str = request.headers.get("x-forwarded-for", "").rpartition(",")[2].strip()
    peer: str = request.client.host
    return named if named and ip_address(peer).is_private else peer


def _departure() -> Callable[[], bool]:
    """Return a function that checks whether the visitor of the current request has left; Gradio marks its event then."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    events = {} if blocks is None else blocks._queue.event_ids_to_events
    return lambda: event_id in events and not events[event_id].alive


def _connect(cards: Any, fields: dict[str, Any], button: Any, shown: list[Any], controller: _Controller) -> None:
    names = ("video", "labels", "model", "frames", "threshold", "spans", "chinese")
    inputs = [fields[name] for name in names]
    # `Workers` decides how many are answered at a time
    at_a_time: dict[str, Any] = {"concurrency_limit": 32, "concurrency_id": "model"}
    hidden: dict[str, Any] = {"api_visibility": "private"}

    def recognize(*values: Any, progress: gr.Progress = gr.Progress()) -> list[Any]:  # noqa: B008
        try:
            return _show(controller.ask(lambda share, what: progress(share, what), *values))
        except gr.Error as error:  # in the place of the answer, which a message above the page would cover
            return [show_problem(error.message), *_NOTHING[1:]]

    def classify_video(
        video: str, labels: str, model: str, frames: float, threshold: float, spans: bool, chinese: str
    ) -> dict[str, Any]:
        """Classify the action in a video among labels of your choice; return the probability of each label, and when and why.

        Args:
            video: MP4, MOV, WebM, MKV or AVI of at most 100 MB and 10 minutes.
            labels: what the video may show, in English, one per line or separated by commas.
            model: name of the model; "mini-actions" and "mini" know drawn people only.
            frames: number of sampled frames; 0 for the number of the model.
            threshold: probability from 0 to 1 below which the label is "none of these"; in spans, 0 means 0.5.
            spans: also find from when to when each label is seen, for long videos.
            chinese: Chinese names in the order of the labels, for a model that reads them.

        Returns:
            A record: label, predictions (best first), times of the sampled frames, weight of each frame, spans.
        """
        return controller.ask(
            lambda share, what: None, video, labels, model, frames, threshold, spans, chinese
        ).record()

    asked = button.click(recognize, inputs, shown, show_progress_on=shown[0], **at_a_time, **hidden)
    clicked = cards.select(
        controller.show_example, None, [*inputs, fields["note"], *shown], queue=False, show_progress="hidden", **hidden
    )
    # Hide the previous answer after an error.
    asked.failure(lambda: _NOTHING, None, shown, **hidden)
    for event in (asked, clicked):
        event.success(None, js=_SHOW_ANSWER, **hidden)
    fields["model"].input(
        controller.adapt, fields["model"], [fields["chinese"], fields["note"]], **at_a_time, **hidden
    )
    gr.Button(visible=False).click(
        classify_video,  # its name and docstring are those of the tool for agents
        inputs,
        gr.JSON(visible=False),
        api_name="classify",
        **at_a_time,
    )


def _note(model: str) -> str:
    return _DRAWN_ONLY if model in EMBEDDED_MODELS else ""
