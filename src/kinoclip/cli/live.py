"""`kinoclip live`: name what a camera or a stream shows, as it happens."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .options import UsageError, add_label_options, print_record, read_label_options, read_model_options, read_names


def add_command(commands: Any) -> None:
    """Declare `kinoclip live` and its options."""
    live = commands.add_parser(
        "live",
        help="name what a camera or a stream shows, as it happens",
        description="Prints a JSON line for each action as soon as it has ended, and what is seen now on standard error. "
        "Ctrl-C ends it, and the action that goes on.",
    )
    live.add_argument(
        "source",
        help="camera (/dev/video0), rtsp:// or http:// address, file, which plays at its pace, or - for a pipe",
    )
    add_label_options(live, "names to choose from")
    live.add_argument("--background", help="names of what is no action of interest, with commas")
    live.add_argument(
        "--threshold", type=float, default=0.5, help="believe a label from this probability (default: %(default)s)"
    )
    live.add_argument("--fps", type=float, default=4.0, help="looks per second (default: %(default)s)")
    live.add_argument("--min-seconds", type=float, default=0.0, help="leave out shorter actions")
    live.add_argument("--keep-all", action="store_true", help="let the source wait rather than lose frames")
    live.add_argument("--output", help="JSONL file that the actions are added to; standard output when left out")
    live.add_argument("--model", default="mini", help="folder, hub id, plain CLIP, or mini (default: %(default)s)")
    live.add_argument("--frames", type=int, help="frames per window, if not the model's own number")
    live.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: %(default)s)")
    live.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    live.set_defaults(run=_live, batch_size=None)


def _live(options: argparse.Namespace) -> int:
    from kinoclip.inference.classify import Classifier
    from kinoclip.inference.live import watch_live
    from kinoclip.inference.span_job import span_record
    from kinoclip.inference.timeline import Watcher
    from kinoclip.video.live import LiveReader

    if not 0 <= options.threshold <= 1:
        raise UsageError(f"--threshold {options.threshold}: it is a probability, from 0 to 1.")
    labels, background = read_label_options(options), read_names(options.background)
    classifier = Classifier.load(options.model, **read_model_options(options))
    watcher = Watcher(classifier, labels, background=background, window=options.frames)
    source = sys.stdin.buffer if options.source == "-" else options.source
    status = _Status()
    with LiveReader(source, options.fps, drop=not options.keep_all, notice=status.say) as reader:
        started = datetime.now(UTC).timestamp()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: reader.stop())
        for span in watch_live(reader, watcher, threshold=options.threshold, on_answer=status):
            if span.end_seconds - span.start_seconds >= options.min_seconds:
                began = datetime.fromtimestamp(started + span.start_seconds, UTC)
                _write({**span_record(span), "began": began.isoformat(timespec="seconds")}, options.output)
    status.say(f"{status.windows} looks, {reader.dropped} frames lost")
    return 0


def _write(record: dict[str, Any], output: str | None) -> None:
    if output is None:
        print_record(record)
        return
    with Path(output).open("a") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


class _Status:
    """The line on standard error that says what is seen now, each second at most."""

    def __init__(self) -> None:
        self.windows = 0
        self.shown = 0.0

    def say(self, text: str) -> None:
        print(f"\rkinoclip: {text}", file=sys.stderr, flush=True)

    def __call__(self, answer: Any) -> None:
        from kinoclip.inference.records import NONE_OF_THESE

        self.windows += 1
        if not sys.stderr.isatty() or time.monotonic() - self.shown < 1:
            return
        self.shown = time.monotonic()
        seen = answer.label or NONE_OF_THESE
        line = f"{answer.seconds:.0f} s  {answer.probability:4.0%} {seen}  ({answer.lag_seconds:.1f} s behind, {answer.dropped} lost)"
        print(f"\r{line:<78}", end="", file=sys.stderr, flush=True)
