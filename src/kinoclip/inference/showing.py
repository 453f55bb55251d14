"""Parts of an answer as HTML: what was seen, when, and why. Names and labels are escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from .classification import Classification
from .explain import ENTITY_COLORS, frame_tile, paint_attention, paint_entities
from .timeline import Span

# how these parts look, in colors that the page around them names
ANSWER_STYLE = Path(__file__).with_name("answer.css")
# colors of labels on the time line, from the palette of Okabe and Ito, which color-blind people can tell apart
_LABEL_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_TILE_HEIGHT = 144
# frames whose pixels are worth sending
_MAX_TILES = 32


def show_ranking(answer: Classification) -> str:
    """Show each label with its probability, as a bar and a number."""
    rows = "".join(
        f'<li><b>{escape(label)}</b><span>{share:.1%}</span><i style="width:{100 * share:.1f}%"></i></li>'
        for label, share in answer
    )
    return show_section("Among the labels", f'<ul class="kc-ranking">{rows}</ul>')


def show_reasons(answer: Classification) -> str:
    """Show the frames with what they counted, and whatever else the model tells."""
    return _show_frames(answer) + _show_attributes(answer) + _show_languages(answer)


def show_spans(spans: Sequence[Span], duration: float) -> str:
    """Show when each label is seen in a video of this many seconds, on a line and as a list."""
    labels = list(dict.fromkeys(span.label for span in spans))
    colors = {label: _LABEL_COLORS[i % len(_LABEL_COLORS)] for i, label in enumerate(labels)}
    bars = "".join(_show_bar(span, duration, colors[span.label]) for span in spans)
    ticks = "".join(f"<span>{_clock(duration * quarter / 4)}</span>" for quarter in range(5))
    rows = "".join(
        f'<li><i style="background:{colors[span.label]}"></i><b>{escape(span.label)}</b>'
        f"<span>{_clock(span.start_seconds)} to {_clock(span.end_seconds)}</span><span>{span.probability:.0%}</span></li>"
        for span in spans
    )
    line = f'<div class="kc-line">{bars}</div><div class="kc-ticks">{ticks}</div><ul class="kc-spans">{rows}</ul>'
    return show_section("When", line)


def _show_bar(span: Span, duration: float, color: str) -> str:
    left = 100 * min(span.start_seconds / duration, 1.0)
    width = min(100 * (span.end_seconds - span.start_seconds) / duration, 100 - left)
    title = escape(f"{span.label}, {_clock(span.start_seconds)} to {_clock(span.end_seconds)}")
    return f'<span title="{title}" style="left:{left:.2f}%;width:{width:.2f}%;background:{color}"></span>'


def _show_frames(ranking: Classification) -> str:
    """Show the frames; where the model looked and what it saw lie behind buttons, and bars tell what each frame counted."""
    if ranking.frames is None:
        return ""
    shown = range(min(len(ranking.frames), _MAX_TILES))
    views = {name: list(pictures) for name, pictures in _draw_views(ranking, shown).items()}
    weights = None if ranking.saliency is None else ranking.saliency[ranking.label]
    buttons = "".join(
        f'<label><input type="radio" name="kc-view" value="{number}"{" checked" if number == 0 else ""}>{name}</label>'
        for number, name in enumerate(views)
    )
    cells = "".join(_show_cell(ranking, i, [pictures[i] for pictures in views.values()], weights) for i in shown)
    switch = (
        f'<div class="kc-views" role="radiogroup" aria-label="What to show">{buttons}</div>' if len(views) > 1 else ""
    )
    bars = ""
    if weights is not None:
        bars = f'<p class="kc-note">Bars: how much each frame counted for <b>{escape(ranking.label)}</b>.</p>'
    return show_section("Why", f'{switch}<div class="kc-film">{cells}</div>{bars}{_show_entities(ranking)}')


def _draw_views(ranking: Classification, shown: Sequence[int]) -> dict[str, Iterator[Image.Image]]:
    assert ranking.frames is not None
    tiles = [frame_tile(ranking.frames[i], _TILE_HEIGHT) for i in shown]
    views = {"Frames": iter(tiles)}
    if ranking.attention is not None:
        heat = ranking.attention / ranking.attention.max()
        views["Where it looked"] = (paint_attention(tile, heat[i]) for i, tile in zip(shown, tiles, strict=True))
    if ranking.entity_map is not None and ranking.entities:
        maps = ranking.entity_map
        views["What it saw"] = (paint_entities(tile, maps[i]) for i, tile in zip(shown, tiles, strict=True))
    return views


def _show_cell(ranking: Classification, number: int, pictures: list[Image.Image], weights: list[float] | None) -> str:
    time = _clock(ranking.timestamps[number]) if ranking.timestamps else f"#{ranking.frame_indices[number]}"
    images = "".join(
        f'<img class="kc-view-{view}" src="{picture_url(picture)}" alt="frame at {time}">'
        for view, picture in enumerate(pictures)
    )
    bar = ""
    if weights is not None:
        height = 100 * weights[number] / max(*weights, 1e-9)
        bar = f'<div class="kc-bar" title="{weights[number]:.1%}"><span style="height:{height:.0f}%"></span></div>'
    return f"<figure>{images}{bar}<figcaption>{time}</figcaption></figure>"


def _show_entities(ranking: Classification) -> str:
    if ranking.entity_map is None or not ranking.entities:
        return ""
    chips = "".join(
        f'<li><i style="background:rgb{color}"></i>{escape(name)}</li>'
        for name, color in zip(ranking.entities, ENTITY_COLORS, strict=False)
    )
    return f'<p class="kc-note">What it saw, of the entities it knows:</p><ul class="kc-chips">{chips}</ul>'


def _show_attributes(ranking: Classification) -> str:
    if not ranking.attributes:
        return ""
    chips = "".join(f"<li>{escape(name)}</li>" for name in ranking.attributes)
    return show_section("Attributes", f'<ul class="kc-chips">{chips}</ul>')


def _show_languages(ranking: Classification) -> str:
    if not ranking.languages:
        return ""
    names = "".join(f'<th scope="col">{escape(name.capitalize())}</th>' for name in ranking.languages)
    rows = "".join(_show_votes(label, ranking.languages) for label, _ in ranking)
    agree = "" if ranking.agreement is None else f'<p class="kc-note">They agree by {ranking.agreement:.0%}.</p>'
    table = f'<table><thead><tr><th scope="col">Label</th>{names}</tr></thead><tbody>{rows}</tbody></table>'
    return show_section("By language", table + agree)


def _show_votes(label: str, languages: Mapping[str, Mapping[str, float]]) -> str:
    votes = "".join(f"<td>{shares[label]:.1%}</td>" for shares in languages.values())
    return f'<tr><th scope="row">{escape(label)}</th>{votes}</tr>'


def show_section(title: str, content: str) -> str:
    """Put content below a heading."""
    return f'<section class="kc-section"><h3>{title}</h3>{content}</section>'


def picture_url(picture: Image.Image) -> str:
    """Give a picture as an address that holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _clock(seconds: float) -> str:
    """Write a time: seconds below a minute, and above as a player does.

    >>> _clock(0.25), _clock(12.0), _clock(75.04), _clock(3723)
    ('0.25 s', '12 s', '1:15', '1:02:03')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
