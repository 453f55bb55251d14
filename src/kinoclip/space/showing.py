"""An answer as HTML: what was seen, when, and why. Whatever a visitor wrote is escaped."""

from __future__ import annotations

from html import escape

from kinoclip.inference.showing import show_section, show_spans

from .answers import Answer

# labels that are named in large letters
_MAX_NAMED = 3

EMPTY = (
    '<div class="kc-empty"><p>What is seen in the video, when, and why stands here.</p>'
    "<p>Choose an example, or bring a video and write what it may show.</p></div>"
)


def show_verdict(answer: Answer) -> str:
    """Say the answer in large letters, what it was chosen from in small ones, and when each label is seen."""
    looked = f"{len(answer.ranking.frame_indices)} frames"
    if answer.ranking.duration_seconds is not None:
        looked += f" of {answer.ranking.duration_seconds:.1f} s"
    note = f'<p class="kc-note">{looked}, model {escape(answer.model)}</p>'
    return f'<div class="kc-head">{_show_label(answer)}{note}</div>{_show_spans(answer)}'


def _show_label(answer: Answer) -> str:
    label, share = answer.ranking[0]
    if answer.spans:
        labels = list(dict.fromkeys(span.label for span in answer.spans))
        named = ", ".join(labels) if len(labels) <= _MAX_NAMED else f"{len(labels)} labels are seen"
        return f'<p class="kc-verdict">{escape(named)}</p>'
    if answer.label is None:
        closest = f'<p class="kc-note">The closest is <b>{escape(label)}</b>, with {share:.1%}.</p>'
        return f'<p class="kc-verdict kc-none">None of these</p>{closest}'
    return f'<p class="kc-verdict">{escape(label)} <span class="kc-share">{share:.1%}</span></p>'


def _show_spans(answer: Answer) -> str:
    duration = answer.ranking.duration_seconds
    if answer.spans is None or not duration:
        return ""
    if not answer.spans:
        note = f"No label is seen with a probability of {answer.threshold:.0%} or more."
        return show_section("When", f'<p class="kc-note">{note}</p>')
    return show_spans(answer.spans, duration)
