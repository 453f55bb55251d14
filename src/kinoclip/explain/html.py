"""Answers and their explanations as HTML. Names and labels are escaped."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

from kinoclip.explain.drawing import ENTITY_COLORS, attention_heat, clock, frame_tile, paint_attention, paint_entities
from kinoclip.modeling.classification import Classification, Span

# Its colors are variables that the page defines.
ANSWER_STYLE = Path(__file__).with_name("answer.css")
_PAGE_STYLE = """
:root { color-scheme: light dark; --body-text-color: #18181b; --body-text-color-subdued: #63666f;
  --border-color-primary: #e4e4e7; --background-fill-primary: #fff; --color-accent: #2563eb; }
@media (prefers-color-scheme: dark) { :root { --body-text-color: #f4f4f5; --body-text-color-subdued: #a1a1aa;
  --border-color-primary: #3f3f46; --background-fill-primary: #18181b; --color-accent: #60a5fa; } }
body { margin: 0; background: var(--background-fill-primary); color: var(--body-text-color);
  font: 1rem/1.45 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.1rem 3rem; }
details { margin-top: 1.6rem; font-size: 0.82rem; color: var(--body-text-color-subdued); }
pre { overflow-x: auto; padding: 0.8rem; border-radius: 0.5rem; border: 1px solid var(--border-color-primary); }
"""
# at the begin of a page, by which a page of this module is recognized
GENERATOR = '<meta name="generator" content="kinoclip explanation">'
# The palette of Okabe and Ito, which color-blind people can distinguish.
_LABEL_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_TILE_HEIGHT = 144
_MAX_TILES = 32


def explanation_page(answer: Classification, record: dict[str, Any], spans: Sequence[Span] | None = None) -> str:
    """Render a page that needs no other file: the ranking, the frames, the explanation and the record as JSON.

    The answer is made with `explain=True`; spans of a long video are drawn on a time line.
    """
    name = answer.video or "a video"
    looked = f"{len(answer.frame_indices)} frames"
    if answer.duration_seconds is not None:
        looked += f" of {clock(answer.duration_seconds)}"
    if answer.model:
        looked += f", model {escape(answer.model)}"
    label, probability = answer[0]
    parts = [
        f'<div class="kc-head"><p class="kc-verdict">{escape(label)} <span class="kc-share">{probability:.1%}</span></p>'
        f'<p class="kc-note">{escape(name)}, {looked}</p></div>',
        show_ranking(answer),
    ]
    if spans and answer.duration_seconds:
        parts.append(show_spans(spans, answer.duration_seconds))
    parts.append(show_reasons(answer))
    data = escape(json.dumps(record, ensure_ascii=False, indent=1), quote=False)
    parts.append(f"<details><summary>As data</summary><pre>{data}</pre></details>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'{GENERATOR}<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(label)}: {escape(name)}</title><style>{_PAGE_STYLE}{ANSWER_STYLE.read_text('utf-8')}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def notebook_page(answer: Classification) -> str:
    """Render the page of an answer in a frame of its own, so that its style does not reach a notebook."""
    page = escape(explanation_page(answer, answer.to_dict()))
    return f'<iframe srcdoc="{page}" style="width:100%;height:36rem;border:0" title="explanation"></iframe>'


def show_ranking(answer: Classification) -> str:
    """Render each label with its probability as a bar and a number."""
    rows = "".join(
        f'<li><b>{escape(label)}</b><span>{probability:.1%}</span><i style="width:{100 * probability:.1f}%"></i></li>'
        for label, probability in answer
    )
    return show_section("Among the labels", f'<ul class="kc-ranking">{rows}</ul>')


def show_spans(spans: Sequence[Span], duration: float) -> str:
    """Render spans on the time line of a video of `duration` seconds, and as a list."""
    labels = list(dict.fromkeys(span.label for span in spans))
    colors = {label: _LABEL_COLORS[i % len(_LABEL_COLORS)] for i, label in enumerate(labels)}
    bars = "".join(_show_bar(span, duration, colors[span.label]) for span in spans)
    ticks = "".join(f"<span>{clock(duration * quarter / 4)}</span>" for quarter in range(5))
    rows = "".join(
        f'<li><i style="background:{colors[span.label]}"></i><b>{escape(span.label)}</b>'
        f"<span>{clock(span.start_seconds)} to {clock(span.end_seconds)}</span><span>{span.probability:.0%}</span></li>"
        for span in spans
    )
    line = f'<div class="kc-line">{bars}</div><div class="kc-ticks">{ticks}</div><ul class="kc-spans">{rows}</ul>'
    return show_section("When", line)


def _show_bar(span: Span, duration: float, color: str) -> str:
    left = 100 * min(span.start_seconds / duration, 1.0)
    width = min(100 * (span.end_seconds - span.start_seconds) / duration, 100 - left)
    title = escape(f"{span.label}, {clock(span.start_seconds)} to {clock(span.end_seconds)}")
    return f'<span title="{title}" style="left:{left:.2f}%;width:{width:.2f}%;background:{color}"></span>'


def show_reasons(answer: Classification) -> str:
    """Render the explanation: frames with saliency, attention and entities; attributes; the votes by language."""
    chips = "".join(f"<li>{escape(name)}</li>" for name in answer.attributes or ())
    attributes = show_section("Attributes", f'<ul class="kc-chips">{chips}</ul>') if chips else ""
    return _show_frames(answer) + attributes + _show_languages(answer)


def _show_frames(answer: Classification) -> str:
    """Render the frames. Radio buttons switch to attention and entities; bars show the saliency of each frame."""
    if answer.frames is None:
        return ""
    shown = range(min(len(answer.frames), _MAX_TILES))
    views = _draw_views(answer, shown)
    weights = None if answer.saliency is None else answer.saliency[answer.label]
    buttons = "".join(
        f'<label><input type="radio" name="kc-view" value="{number}"{" checked" if number == 0 else ""}>{name}</label>'
        for number, name in enumerate(views)
    )
    cells = "".join(_show_cell(answer, i, [pictures[i] for pictures in views.values()], weights) for i in shown)
    switch = bars = ""
    if len(views) > 1:
        switch = f'<div class="kc-views" role="radiogroup" aria-label="What to show">{buttons}</div>'
    if weights is not None:
        bars = f'<p class="kc-note">Bars: how much each frame counted for <b>{escape(answer.label)}</b>, scaled to the largest.</p>'
    return show_section("Why", f'{switch}<div class="kc-film">{cells}</div>{bars}{_show_entities(answer)}')


def _draw_views(answer: Classification, shown: Sequence[int]) -> dict[str, list[Image.Image]]:
    assert answer.frames is not None
    tiles = [frame_tile(answer.frames[i], _TILE_HEIGHT) for i in shown]
    views = {"Frames": tiles}
    if answer.attention is not None:
        heat = attention_heat(answer.attention)
        views["Where it looked"] = [paint_attention(tile, heat[i]) for i, tile in zip(shown, tiles, strict=True)]
    if answer.entity_map is not None and answer.entities:
        maps = answer.entity_map
        views["What it saw"] = [paint_entities(tile, maps[i]) for i, tile in zip(shown, tiles, strict=True)]
    return views


def _show_cell(answer: Classification, number: int, pictures: list[Image.Image], weights: list[float] | None) -> str:
    time = clock(answer.timestamps[number]) if answer.timestamps else f"#{answer.frame_indices[number]}"
    images = "".join(
        f'<img class="kc-view-{view}" src="{picture_url(picture)}" alt="frame at {time}">'
        for view, picture in enumerate(pictures)
    )
    bar = ""
    if weights is not None:
        height = 100 * weights[number] / max(*weights, 1e-9)
        bar = f'<div class="kc-bar" title="{weights[number]:.1%}"><span style="height:{height:.0f}%"></span></div>'
    return f"<figure>{images}{bar}<figcaption>{time}</figcaption></figure>"


def _show_entities(answer: Classification) -> str:
    if answer.entity_map is None or not answer.entities:
        return ""
    chips = "".join(
        f'<li><i style="background:rgb{color}"></i>{escape(name)}</li>'
        for name, color in zip(answer.entities, ENTITY_COLORS, strict=False)
    )
    return f'<p class="kc-note">What it saw, of the entities it knows:</p><ul class="kc-chips">{chips}</ul>'


def _show_languages(answer: Classification) -> str:
    languages: Mapping[str, Mapping[str, float]] = answer.languages or {}
    if not languages:
        return ""
    names = "".join(f'<th scope="col">{escape(name.capitalize())}</th>' for name in languages)
    rows = ""
    for label, _ in answer:
        votes = "".join(f"<td>{votes[label]:.1%}</td>" for votes in languages.values())
        rows += f'<tr><th scope="row">{escape(label)}</th>{votes}</tr>'
    table = f'<table><thead><tr><th scope="col">Label</th>{names}</tr></thead><tbody>{rows}</tbody></table>'
    agree = "" if answer.agreement is None else f'<p class="kc-note">They agree by {answer.agreement:.0%}.</p>'
    return show_section("By language", table + agree)


def show_section(title: str, content: str) -> str:
    """Render content below a heading."""
    return f'<section class="kc-section"><h3>{title}</h3>{content}</section>'


def picture_url(picture: Image.Image) -> str:
    """Encode a picture as a data URL (JPEG)."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
