"""`kinoclip live`: name the actions of a camera or a stream as they happen."""

import argparse
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any, cast

from kinoclip.cli import options as shared
from kinoclip.storage import Journal, check_exists, escape_text, exclusive

_KEYS = ("start", "end", "label", "probability", "began")  # of a record


def add_commands(commands: Any) -> None:
    """Register the command and its options."""
    live = commands.add_parser("live", help="name the actions of a camera or a stream as they happen; Ctrl-C ends")
    add = live.add_argument
    add("source", help="camera (/dev/video0), rtsp:// or http:// URL, file (read at its own pace), or - for a pipe")
    shared.add_label_options(live, "names to choose from")
    add("--background", help="comma-separated names of what is not an action of interest")
    add("--threshold", type=float, default=0.5, help="lowest probability of a label (default: %(default)s)")
    add("--fps", type=float, default=4.0, help="frames per second (default: %(default)s)")
    add("--min-seconds", type=float, default=0.0, help="leave out shorter actions")
    add("--keep-all", action="store_true", help="make the source wait instead of dropping frames")
    add("--output", help="JSONL file that the actions are appended to (default: standard output)")
    shared.add_model_options(live, batches=False)
    live.set_defaults(run=_live)


def _live(options: argparse.Namespace) -> int:
    if not 0 <= options.threshold <= 1:
        raise shared.UsageError(f"--threshold must be a probability from 0 to 1, got {options.threshold}.")
    labels, background = shared.read_label_options(options), shared.read_names(options.background)
    shared.check_rate(options)
    if options.source != "-":
        check_exists(options.source)
    shared.check_model_options(options)
    from kinoclip.inference.records import span_record
    from kinoclip.inference.spans import SlidingWindowClassifier, watch_live
    from kinoclip.video.live import LiveReader

    windows = SlidingWindowClassifier(shared.load_classifier(options), labels, background=background)
    source = sys.stdin.buffer if options.source == "-" else options.source
    status, write = _Status(), cast("Callable[[dict[str, Any]], None]", shared.show_json)
    with ExitStack() as stack:
        if options.output is not None:
            stack.enter_context(exclusive(options.output))
            write = stack.enter_context(closing(Journal(options.output, _KEYS))).append
        reader = stack.enter_context(LiveReader(source, options.fps, drop=not options.keep_all, notice=status.print))
        started = datetime.now(UTC).timestamp()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: reader.stop())
        for span in watch_live(reader, windows, threshold=options.threshold, on_answer=status):
            if span.end_seconds - span.start_seconds >= options.min_seconds:
                began = datetime.fromtimestamp(started + span.start_seconds, UTC)
                record = {**span_record(span), "began": began.isoformat(timespec="seconds")}
                write(record)
    status.print(f"{status.windows} windows, {reader.dropped} frames lost")
    return 0


class _Status:
    """The line on standard error with the current label, at most once a second."""

    def __init__(self) -> None:
        self.windows, self.printed = 0, 0.0

    def print(self, text: str) -> None:
        print("\r", end="", file=sys.stderr)
        shared.notify(text)

    def __call__(self, answer: Any) -> None:
        from kinoclip.inference.records import NONE_OF_THESE

        self.windows += 1
        if not sys.stderr.isatty() or time.monotonic() - self.printed < 1:
            return
        self.printed = time.monotonic()
        label = f"{answer.probability:4.0%} {answer.label or NONE_OF_THESE}"
        line = f"{answer.seconds:.0f} s  {label}  ({answer.lag_seconds:.1f} s behind, {answer.dropped} lost)"
        print(f"\r{escape_text(line):<78}", end="", file=sys.stderr, flush=True)
