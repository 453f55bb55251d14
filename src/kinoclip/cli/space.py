"""`kinoclip space`: the page in the browser, on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from .options import UsageError

_HIGHEST_PORT = 65535


def add_command(commands: Any) -> None:
    """Declare `kinoclip space` and its options."""
    space = commands.add_parser("space", help="open a page in the browser: your video, your words, the answer and why")
    space.add_argument(
        "--model", action="append", default=[], help="folder, hub id or plain CLIP to choose from; may be given again"
    )
    space.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    space.add_argument("--port", type=int, default=7860, help="(default: %(default)s)")
    space.set_defaults(run=_space)


def _space(options: argparse.Namespace) -> int:
    if not 1 <= options.port <= _HIGHEST_PORT:
        raise UsageError(f"--port {options.port}: choose from 1 to {_HIGHEST_PORT}.")
    from kinoclip.embedded import EMBEDDED
    from kinoclip.inference.loading import read_config

    for model in options.model:
        if model != EMBEDDED:
            read_config(model)  # a wrong name is told now, not to the first visitor
    try:
        from kinoclip.space.app import build_app, launch_app
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UsageError("the page needs Gradio: pip install 'kinoclip[demo]'") from error
    try:
        launch_app(build_app(options.model), server_name=options.host, server_port=options.port)
    except OSError as error:
        raise UsageError(f"--port {options.port}: {options.host} is not free there. Choose another.") from error
    return 0
