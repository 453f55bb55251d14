"""The whole page: its tabs, its looks, and how it is opened."""

from __future__ import annotations

import signal
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from kinoclip.inference.showing import ANSWER_STYLE

from .answers import Models
from .examples import make_examples
from .limits import Limits
from .page import build_recognize_tab
from .temporary import TemporaryFolder

_HEADER = """
<header class="kc-header"><h1>kinoclip</h1>
<p>Name the action in a video with your own words, and see when and why.</p></header>
"""
_IN_PYTHON = """
Here is this page as a function, with the address of this page as `url`:

```python
from gradio_client import Client, handle_file

answer = Client(url).predict(
    video=handle_file("clip.mp4"),
    labels="red circle\\nblue square",  # one a line
    spans=False,  # True: when each label is seen too
    api_name="/classify",
)
print(answer["label"], answer["predictions"])
```

And here on your own machine, where no video leaves it:

```python
import kinoclip

for label, probability in kinoclip.classify("clip.mp4", ["red circle", "blue square"]):
    print(f"{probability:6.1%}  {label}")
```
"""
# uploads and pictures are deleted when they are an hour old
_SWEEP_SECONDS, _KEEP_SECONDS = 600, 3600
_WAITING_VISITORS = 32
# of whom Gradio keeps what their page holds; it would be 10,000
_REMEMBERED_VISITORS = 100
_LIMITS = Limits()


def build_app(models: Sequence[str] = (), limits: Limits = _LIMITS) -> gr.Blocks:
    """Build the page; from then on this process makes its temporary files in a folder of the page's own.

    Args:
        models: folders and hub ids to choose from, beside the embedded model.
        limits: of what one visitor may ask for.
    """
    known = Models(models)
    # later than Gradio, which keeps a list of what it deletes
    folder = TemporaryFolder(_SWEEP_SECONDS, _KEEP_SECONDS + 2 * _SWEEP_SECONDS)
    examples = make_examples(folder.examples, known, limits)
    app = gr.Blocks(title="kinoclip", analytics_enabled=False, delete_cache=(_SWEEP_SECONDS, _KEEP_SECONDS))
    weakref.finalize(app, folder.close)
    with app:
        gr.HTML(_HEADER)
        with gr.Tabs():
            with gr.Tab("Recognize"):
                build_recognize_tab(known, examples, limits)
            with gr.Tab("In Python"):
                gr.Markdown(_IN_PYTHON, elem_classes="kc-prose")
    app.queue(max_size=_WAITING_VISITORS)
    return app


def launch_app(app: gr.Blocks, limits: Limits = _LIMITS, **options: Any) -> Any:
    """Open the page; on this machine alone, unless GRADIO_SERVER_NAME or `server_name` says otherwise.

    Args:
        app: of `build_app`.
        limits: the same; larger files are refused while they are sent.
        options: of `gradio.Blocks.launch`.
    """
    # a container is stopped by SIGTERM; uploads are to be deleted then as after Ctrl-C
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return app.launch(
        theme=_theme(),
        css_paths=[ANSWER_STYLE, Path(__file__).with_name("style.css")],
        footer_links=["api", "settings"],
        max_file_size=f"{limits.megabytes}mb",
        state_session_capacity=_REMEMBERED_VISITORS,
        ssr_mode=False,
        **options,
    )


def _theme() -> gr.themes.Base:
    """Give Gradio's plain theme with a blue accent, and no font that would be fetched."""
    return gr.themes.Base(
        primary_hue="blue",
        secondary_hue="blue",
        neutral_hue="zinc",
        radius_size="lg",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
    ).set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        block_shadow="none",
        body_background_fill_dark="*neutral_950",
    )
