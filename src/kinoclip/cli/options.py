"""What several commands share: options, exit codes, records and progress on the terminal."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

FAILURE, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143


class UsageError(Exception):
    """The command was given something it cannot use."""


def add_label_options(command: argparse.ArgumentParser, purpose: str) -> None:
    """Let a command take labels in the line or from a file."""
    labels = command.add_mutually_exclusive_group()
    labels.add_argument("--labels", help=f"{purpose}, with commas between them")
    labels.add_argument(
        "--labels-file", help="a .txt (one per line), .csv (id,name), .json, or a set: kinetics400, ..."
    )


def read_label_options(options: argparse.Namespace) -> tuple[str, ...] | None:
    """Give the labels of `add_label_options`; None when there are none."""
    from kinoclip.processing import check_labels
    from kinoclip.text.labels import load_names

    if options.labels_file is not None:
        return tuple(load_names(options.labels_file))
    if options.labels is None:
        return None
    labels = read_names(options.labels)
    check_labels(labels)
    return labels


def add_chinese_option(command: argparse.ArgumentParser) -> None:
    """Register the option for Chinese names of labels."""
    command.add_argument(
        "--chinese-labels", metavar="FILE", help="Chinese names of the labels, for a Chinese branch: .json, or a set"
    )


def read_names(text: str | None) -> tuple[str, ...]:
    """Give the names in a text with commas between them."""
    return tuple(name.strip() for name in (text or "").split(",") if name.strip())


def add_model_options(command: argparse.ArgumentParser) -> None:
    """Let a command choose a model, and how and where it computes."""
    command.add_argument("--model", default="mini", help="folder, hub id, plain CLIP, or mini (default: %(default)s)")
    command.add_argument("--frames", type=int, help="frames per video, if not the model's own number")
    command.add_argument(
        "--batch-size",
        type=int,
        metavar="N",
        help="videos that go through the model at once: more are faster on a GPU and need its memory, and the answers stay "
        "the same (default: 8, on a CPU 1)",
    )
    command.add_argument(
        "--features",
        metavar="DIR",
        help="keep what the model knows of each video, and of labels, in this folder, where other jobs find it again: videos "
        "need no decoding and no vision tower then; addresses are read each time",
    )
    command.add_argument(
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="the longest that reading one video may take; one that takes longer gets an error. Videos that are looked at for "
        "--spans have no such limit (default: %(default)g)",
    )
    command.add_argument("--device", default="cpu", help="where to compute, such as cuda (default: %(default)s)")
    command.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    command.add_argument(
        "--backend",
        default="torch",
        choices=("torch", "onnxruntime", "onnxruntime-int8"),
        help="onnxruntime computes on the CPU in float32, without reasons, and onnxruntime-int8 encodes frames in 8 bits; the "
        "model is exported on its first use (default: %(default)s)",
    )


def read_model_options(options: argparse.Namespace, launch: Any = None) -> dict[str, Any]:
    """Check the options of `add_model_options`, and give those of `load_recognizer`; `launch` is that of `find_launch`."""
    import torch

    if options.model == "mini" and (launch is None or launch.is_main_process):
        print(
            "kinoclip: the embedded model knows colored shapes only; give --model for your own videos, "
            "such as --model openai/clip-vit-base-patch32",
            file=sys.stderr,
        )
    for name in ("frames", "batch_size"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: it is at least 1.")
    if not getattr(options, "timeout", 1) > 0:
        raise UsageError(f"--timeout {options.timeout:g}: it is above 0.")
    try:
        device = torch.device(options.device) if launch is None else launch.device
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    backend = getattr(options, "backend", "torch")
    return {"device": device, "dtype": getattr(torch, options.dtype), "backend": backend}


def find_launch(device: str) -> Any:
    """Give the accelerator of a command that was started in several processes, or None for one.

    Raises:
        RuntimeError: several were asked for, but this one is by itself.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        if any(name.startswith("ACCELERATE_") for name in os.environ):
            from kinoclip.training.processes import check_processes

            check_processes(1)
        return None
    from accelerate import Accelerator

    return Accelerator(cpu=device == "cpu")


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """Let SIGTERM interrupt as Ctrl-C does, and give a list that gets each signal: C code may make another error of the interrupt."""
    asked: list[int] = []

    def stop(number: int, _: object) -> NoReturn:
        asked.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] is not signal.SIG_IGN:  # as in the background of a shell
            signal.signal(number, stop)
    try:
        yield asked
    finally:
        for number in numbers:
            signal.signal(number, before[number])


def read_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Read KEY=VALUE pairs; a value that is no JSON is a text."""
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {pair}: write KEY=VALUE, such as --set num_frames=16.")
        try:
            settings[key] = json.loads(value)
        except json.JSONDecodeError:
            settings[key] = value
    return settings


def print_record(record: dict[str, Any]) -> None:
    """Print one JSON line; names that are no UTF-8 are escaped."""
    sys.stdout.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n")
    sys.stdout.flush()


class Progress:
    """Say on standard error what was done, how fast, and how long the rest takes.

    Args:
        total: how many videos there are.
        share: which of them these are, where there are others too.
        is_shown: only what cannot be read is told otherwise.
    """

    def __init__(self, total: int, share: str = "", is_shown: bool = True):
        self.total, self.share, self.is_shown = total, share, is_shown
        self.count, self.failed = 0, 0
        self.start = time.monotonic()

    @property
    def exit_code(self) -> int:
        """Failure when the one video that was asked for could not be read; in a folder, a record says so."""
        return FAILURE if self.total == self.failed == 1 else 0

    def __call__(self, record: dict[str, Any]) -> None:
        """Count a record."""
        if "error" in record:
            self.failed += 1
            print(f"\rkinoclip: {record['error']['message']}", file=sys.stderr)
        self.add(1)

    def add(self, count: int) -> None:
        """Count some more videos."""
        self.count += count
        rate = self.count / max(time.monotonic() - self.start, 1e-9)
        rest = (self.total - self.count) / rate
        end = "\n" if self.count == self.total else ""
        videos = f"{self.count}/{self.total} videos{self.share}"
        line = f"\r{videos}, {self.failed} unreadable, {rate:.1f}/s, {rest:.0f} s left "
        if self.is_shown and (sys.stderr.isatty() or end):
            print(line if sys.stderr.isatty() else line.strip(), end=end, file=sys.stderr, flush=True)
