"""The command line: `kinoclip COMMAND`, one module for each command."""

from __future__ import annotations

import argparse
import atexit
import errno
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

from kinoclip.importing import without_collector

from . import (
    check,
    classify,
    convert,
    demo,
    embed,
    evaluate,
    export,
    live,
    profile,
    publish,
    recipes,
    reproduce,
    search,
    space,
    suggest,
    train,
    tune,
)
from .options import FAILURE, INTERRUPTED, TERMINATED, USAGE, UsageError, stop_on_signals

# in the order of the help
COMMANDS = (
    *(classify, live, embed, search, suggest, tune, evaluate, train, recipes, reproduce),
    *(convert, publish, export, profile, check, demo, space),
)


def run() -> NoReturn:
    """Run the command that the program was called with, and end the process once its threads and exit handlers are through.

    Python would then take apart everything that was imported, for longer than a video takes.
    """
    code = FAILURE  # of what is raised

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    atexit.register(leave)  # before all others, so that it is called after them
    try:
        code = main()
    except SystemExit as error:  # of argparse
        code = error.code if isinstance(error.code, int) else code
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code: 0 done, 1 failure, 2 wrong use, 130 interrupted, 143 terminated."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    options = argparse.Namespace()
    with stop_on_signals() as asked:
        try:
            options = _build_parser().parse_args(arguments)
            return _run(options)
        except (Exception, KeyboardInterrupt) as error:
            if not asked and isinstance(error, Exception):
                return _explain(error, options)
            word, code = ("terminated", TERMINATED) if signal.SIGTERM in asked else ("interrupted", INTERRUPTED)
            return _say(f"{word}; what was written is whole, and {_again(options)} continues it", code)


def _run(options: argparse.Namespace) -> int:
    with without_collector():
        import kinoclip.public  # noqa: F401  (makes the methods known to Transformers)

    _quiet_libraries()
    code: int = options.run(options)
    sys.stdout.flush()
    return code


def _explain(error: Exception, options: argparse.Namespace) -> int:
    """Say what went wrong in one line, and give the exit code; a fault of the program is raised as it is."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    from kinoclip.inference.records import error_line

    try:
        raise error
    except BrokenPipeError:
        # the reader of our output has gone; python would complain once more on closing it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except UsageError as error:
        return _say(str(error), USAGE)
    except (FileNotFoundError, ValueError, TypeError, StrictDataclassError) as error:
        return _say(error_line(error), USAGE)
    except (OSError, RuntimeError, MemoryError, ImportError, SafetensorError) as error:
        if _is_full(error):
            return _say(
                f"the disk is full; what was written is whole. Make room, and {_again(options)} continues.", FAILURE
            )
        return _say(error_line(error), FAILURE)


def _say(message: str, code: int) -> int:
    print(f"kinoclip: {message}", file=sys.stderr)
    return code


def _again(options: argparse.Namespace) -> str:
    return "the same command with --resume" if vars(options).get("resume") is False else "the same command"


def _is_full(error: BaseException) -> bool:
    """Tell whether the disk is full; torch raises something else after the disk's error, safetensors has its words alone."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return any(
        getattr(found, "errno", None) in numbers or any(os.strerror(number) in str(found) for number in numbers)
        for found in (error, error.__context__)
    )


def _quiet_libraries() -> None:
    """Keep progress bars and advice of the libraries off the terminal; errors still come through."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kinoclip", description="Recognize actions in video with CLIP.")
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in COMMANDS:
        module.add_command(commands)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"kinoclip {version('kinoclip')}"
