"""An answer and its reasons as one HTML page that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from .classification import Classification
from .showing import ANSWER_STYLE, show_ranking, show_reasons, show_spans
from .timeline import Span

_STYLE = """
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


def explanation_page(answer: Classification, record: dict[str, Any], spans: Sequence[Span] | None = None) -> str:
    """Write the page: the answer, how sure it is, the frames and why, and the same as data.

    Args:
        answer: made with `explain=True`.
        record: the data.
        spans: when each label is seen, for a long video.
    """
    name = answer.video or "a video"
    looked = f"{len(answer.frame_indices)} frames"
    if answer.duration_seconds is not None:
        looked += f" of {answer.duration_seconds:.1f} s"
    label, share = answer[0]
    parts = [
        f'<div class="kc-head"><p class="kc-verdict">{escape(label)} <span class="kc-share">{share:.1%}</span></p>'
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
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(label)}: {escape(name)}</title><style>{_STYLE}{ANSWER_STYLE.read_text()}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )
