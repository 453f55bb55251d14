"""HTML of an answer. All text of visitors is escaped."""

from html import escape

from kinoclip.explain.html import show_section, show_spans
from kinoclip.space.answers import Answer

_MAX_NAMED = 3

EMPTY = (
    '<div class="kc-empty"><p>The answer appears here.</p>'
    "<p>Choose an example, or upload a video and write labels.</p></div>"
)


def show_problem(message: str) -> str:
    """Return the message of a request that cannot be answered; it is escaped already."""
    return f'<div class="kc-empty kc-problem" role="alert"><p>{message}</p></div>'


def show_verdict(answer: Answer) -> str:
    """Return the label in large type, the frames and the model in small type, and the spans."""
    sampled = f"{len(answer.ranking.frame_indices)} frames"
    if answer.ranking.duration_seconds is not None:
        sampled += f" of {answer.ranking.duration_seconds:.1f} s"
    revision = "" if answer.revision is None else f", revision {answer.revision[:8]}"
    note = f'<p class="kc-note">{sampled}, model {escape(answer.model)}{revision}</p>'
    return f'<div class="kc-head">{_show_label(answer)}{note}</div>{_show_spans(answer)}'


def _show_label(answer: Answer) -> str:
    label, share = answer.ranking[0]
    if answer.spans:
        labels = list(dict.fromkeys(span.label for span in answer.spans))
        named = ", ".join(labels) if len(labels) <= _MAX_NAMED else f"{len(labels)} labels"
        whole = f"Over the whole video, <b>{escape(label)}</b> fits best, with {share:.1%}. Spans are found in parts of it."
        note = "" if label in labels else f'<p class="kc-note">{whole}</p>'
        return f'<p class="kc-verdict">{escape(named)}</p>{note}'
    if answer.label is None:
        closest = f'<p class="kc-note">The closest is <b>{escape(label)}</b>, with {share:.1%}.</p>'
        return f'<p class="kc-verdict kc-none">None of these</p>{closest}'
    return f'<p class="kc-verdict">{escape(label)} <span class="kc-share">{share:.1%}</span></p>'


def _show_spans(answer: Answer) -> str:
    duration = answer.ranking.duration_seconds
    if answer.spans is None or not duration:
        return ""
    if not answer.spans:
        note = f"In no part of the video a label has a probability of {answer.threshold:.0%} or more."
        return show_section("When", f'<p class="kc-note">{note}</p>')
    return show_spans(answer.spans, duration)
