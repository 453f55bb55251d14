"""The command line: `kinoclip COMMAND`, in modules by topic."""

import argparse
import atexit
import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from kinoclip.addresses import is_address
from kinoclip.cli import (
    attributes,
    check,
    classify,
    corpus,
    demo,
    evaluate,
    live,
    models,
    search,
    suggest,
    training,
    translate,
)
from kinoclip.cli.options import FAILURE, SIGNALS, USAGE, UsageError, catch_signals, describe_end, end_process, notify
from kinoclip.lazy import when_imported
from kinoclip.text.labels import nearest

# in the order of the help
_MODULES = (classify, live, search, suggest, attributes, evaluate, training, models, corpus, translate, check, demo)
_OF_TRAINING = ("accelerate", "evaluate", "peft", "pyarrow")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run() -> NoReturn:
    """Run the command of the process, and end the process after its threads and exit handlers.

    `os._exit` skips the deallocation of all modules, which takes about 2 s, a fifth of the time to classify one video.
    """
    code = FAILURE  # if an error is raised
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed when the command was started
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115

    if isinstance(sys.stdout, TextIOWrapper):  # Windows writes to files and pipes in an encoding without bars
        sys.stdout.reconfigure(errors="backslashreplace")

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)

    atexit.register(leave)  # the first handler to be registered is called last
    try:
        code = main()
    except SystemExit as error:  # of argparse
        code = error.code if isinstance(error.code, int) else code
    if code in (each for _, each in SIGNALS.values()):  # threads that still wait do not hold up the end
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        end = threading.Timer(0.5, end_process, (code,))
        end.daemon = True
        end.start()
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 success, 1 failure, 2 wrong use, 130 interrupted, 143 terminated."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    options = argparse.Namespace()
    with catch_signals() as received:
        try:
            options = _parse(arguments)
            code = _run(options)
        except (Exception, KeyboardInterrupt) as error:
            can_resume = vars(options).get("resume") is False
            command = "the same command with --resume" if can_resume else "the same command"
            message, code = _describe(error, received, command)
            if message:
                notify(*message.split("\n"))
    return code


def _run(options: argparse.Namespace) -> int:
    when_imported("huggingface_hub.utils.logging", lambda logging: logging.set_verbosity_error())
    when_imported("transformers.utils.logging", _silence)
    _check_places(options)
    code: int = options.run(options)
    sys.stdout.flush()
    return code


def _check_places(options: argparse.Namespace) -> None:
    """Check that what a command writes is on this machine; the records of `classify` may be at an address."""
    for name in ("output", "features", "pictures"):
        place = str(vars(options).get(name))
        can_be_remote = (options.command, name) == ("classify", "output")
        if "://" in place and not (can_be_remote and is_address(place)):
            advice = ", or an address of fsspec such as s3://bucket/name" if can_be_remote else ""
            raise UsageError(
                f"--{name} of kinoclip {options.command} must be a path of this machine{advice}, got {place}."
            )


def _silence(logging: Any) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _describe(error: BaseException, received: Sequence[int], command: str) -> tuple[str, int]:
    """Return the message and the exit code of an error that users can fix; any other one is raised."""
    if received or isinstance(error, KeyboardInterrupt):
        return describe_end(signal.SIGTERM if signal.SIGTERM in received else signal.SIGINT, command)
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    from kinoclip.video.errors import error_line

    if isinstance(error, BrokenPipeError):  # Python would report it once more when it closes the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return "", FAILURE
    if isinstance(error, UsageError):
        return str(error), USAGE
    if isinstance(error, FileNotFoundError | FileExistsError | ValueError | TypeError | StrictDataclassError):
        return error_line(error), USAGE
    if not isinstance(error, OSError | ArithmeticError | RuntimeError | MemoryError | ImportError | SafetensorError):
        raise error
    # torch raises another error after that of the system, and safetensors has only its text
    for cause in (error, error.__context__):
        if getattr(cause, "errno", None) in _DISK_FULL or any(os.strerror(n) in str(cause) for n in _DISK_FULL):
            return (
                f"the disk is full; all records and files are complete. Free space, and {command} continues.",
                FAILURE,
            )
    if isinstance(error, ModuleNotFoundError) and error.name in _OF_TRAINING:
        return f"This command needs {error.name}. Run `pip install 'kinoclip[train]'`.", FAILURE
    return error_line(error), FAILURE


class _Parser(argparse.ArgumentParser):
    """The parser of a command, whose errors name the nearest choice."""

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        super().error(message + (nearest(wrong[1], re.findall(r"[\w-]+", wrong[2])) if wrong else ""))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _build_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        is_label = isinstance(vars(options).get("labels"), str) and not unknown[0].startswith("-")
        hint = '. Labels are in quotes and with commas: --labels "red circle,blue square"' if is_label else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    return options


def _build_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="kinoclip", description="Recognize actions in video with CLIP.")
    parser.add_argument("--version", action="version", version=f"kinoclip {version('kinoclip')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _MODULES:
        module.add_commands(commands)
    return parser
