"""`kinoclip demo` and `space`: the model at work, in the terminal and in the browser."""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kinoclip.cli.options import REPEATABLE, UsageError, check_least, show


def add_commands(commands: Any) -> None:
    """Register the commands and their options."""
    demo = commands.add_parser("demo", help="generate a few clips, classify and explain them; needs no network")
    add = demo.add_argument
    add("--output", default="demo", help="folder for the clips and pictures (default: %(default)s)")
    add("--seed", type=int, default=7, help="of the clips (default: %(default)s)")
    add("--videos", type=int, default=4, help="number of clips (default: %(default)s)")
    demo.set_defaults(run=_demo)

    space = commands.add_parser("space", help="open a page in the browser: your video, your words, the explanation")
    add = space.add_argument
    add("--model", **REPEATABLE, help="folder, hub id or plain CLIP to choose from; repeatable")
    add("--host", default="127.0.0.1", help="0.0.0.0 admits other machines (default: %(default)s)")
    add("--port", type=int, default=7860, help="(default: %(default)s)")
    add("--mcp", action="store_true", help="also serve the page as a tool for agents (MCP)")
    space.set_defaults(run=_space)


def _demo(options: argparse.Namespace) -> int:
    check_least(options, videos=1)
    from kinoclip.inference.demo import run_demo

    for line in run_demo(Path(options.output), seed=options.seed, num_videos=options.videos):
        show(line)
    return 0


def _space(options: argparse.Namespace) -> int:
    from kinoclip.modeling.names import check_model_name

    if not 1 <= options.port <= 65535:
        raise UsageError(f"--port must be from 1 to 65535, got {options.port}.")
    if options.mcp and find_spec("mcp") is None:
        raise UsageError("The MCP server needs the package mcp: pip install 'kinoclip[mcp]'.")
    for model in options.model:
        check_model_name(model)
    from kinoclip.methods.auto import find_model, read_config

    for model in options.model:
        read_config(find_model(model))  # a wrong name is an error now, not for the first visitor
    try:
        from kinoclip.space.app import build_app, launch_app
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise UsageError("The page needs Gradio: pip install 'kinoclip[demo]'.") from error
    app = build_app(options.model)
    try:
        # None: the variable GRADIO_MCP_SERVER decides
        launch_app(app, server_name=options.host, server_port=options.port, mcp_server=options.mcp or None)
    except OSError as error:
        raise UsageError(f"--port {options.port} of {options.host} is in use. Choose another one.") from error
    return 0
