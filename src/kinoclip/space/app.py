"""The page: tabs, theme, launch."""

import json
import signal
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import gradio.mcp

from kinoclip.explain.html import ANSWER_STYLE
from kinoclip.space.examples import make_examples
from kinoclip.space.limits import Limits
from kinoclip.space.page import build_recognize_tab
from kinoclip.space.temporary import TemporaryFolder
from kinoclip.space.workers import Workers
from kinoclip.text.labels import split_names

_HEADER = """
<header class="kc-header"><h1>kinoclip</h1>
<p>Recognize actions in a video with your own labels, and see when and why.</p></header>
"""
_IN_PYTHON = """
Call this page as a function; `url` is the address of this page:

```python
from gradio_client import Client, handle_file

answer = Client(url).predict(
    video=handle_file("clip.mp4"),
    labels={lines},  # one per line
    model={model},
    spans=False,  # True: also find the spans of each label
    api_name="/classify",
)
print(answer["label"], answer["predictions"])
```

Or run it on your own machine:

```python
import kinoclip

for label, probability in kinoclip.classify("clip.mp4", {labels}, model={model}):
    print(f"{{probability:6.1%}}  {{label}}")
```
"""
# Uploads and pictures are deleted after an hour.
_SWEEP_SECONDS, _KEEP_SECONDS = 600, 3600
_WAITING_VISITORS = 32
# Sessions whose state Gradio keeps; its default is 10,000.
_REMEMBERED_VISITORS = 100
_LIMITS = Limits()


def build_app(models: Sequence[str] = ()) -> gr.Blocks:
    """Build the page, and redirect temporary files of this process to a folder of the page.

    Args:
        models: folders and hub ids in addition to the embedded models.
    """
    workers = Workers(models, _LIMITS)
    # Later than Gradio, which keeps a list of the files it deletes.
    folder = TemporaryFolder(_SWEEP_SECONDS, _KEEP_SECONDS + 2 * _SWEEP_SECONDS)
    gradio.mcp.DEFAULT_TEMP_DIR = tempfile.gettempdir()  # of videos in calls of agents, which Gradio would keep
    examples = make_examples(folder.examples, workers)
    app = gr.Blocks(title="kinoclip", analytics_enabled=False, delete_cache=(_SWEEP_SECONDS, _KEEP_SECONDS))
    weakref.finalize(app, folder.close)
    weakref.finalize(app, workers.close)
    with app:
        gr.HTML(_HEADER)
        with gr.Tabs():
            with gr.Tab("Recognize"):
                fields = build_recognize_tab(workers, examples)
            with gr.Tab("In Python") as tab:
                code = gr.Markdown(elem_classes="kc-prose")
        asked = [fields["labels"], fields["model"]]
        tab.select(show_code, asked, code, queue=False, show_progress="hidden", api_visibility="private")
    app.queue(max_size=_WAITING_VISITORS)
    return app


def show_code(labels: str, model: str) -> str:
    """Return the code that answers the request of a visitor, as Markdown; without labels, with those of an example."""
    names = [name[: _LIMITS.letters] for name in split_names(labels)[: _LIMITS.labels]] or ["drinking", "waving"]
    values = {"labels": names, "lines": "\n".join(names), "model": model}
    # a backquote could end the block
    texts = {name: json.dumps(value, ensure_ascii=False).replace("`", "\\u0060") for name, value in values.items()}
    return _IN_PYTHON.format(**texts)


def launch_app(app: gr.Blocks, **options: Any) -> Any:
    """Launch the page, for this machine only unless GRADIO_SERVER_NAME or `server_name` is set.

    Args:
        app: of `build_app`.
        options: of `gradio.Blocks.launch`.
    """
    # Containers are stopped by SIGTERM; delete uploads as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return app.launch(
        theme=_theme(),
        css_paths=[ANSWER_STYLE, Path(__file__).with_name("style.css")],
        footer_links=["api", "settings"],
        max_file_size=f"{_LIMITS.megabytes}mb",  # larger uploads are refused while they are sent
        state_session_capacity=_REMEMBERED_VISITORS,
        ssr_mode=False,
        **options,
    )


def _theme() -> gr.themes.Base:
    """Return Gradio's base theme with a blue accent and system fonts."""
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
