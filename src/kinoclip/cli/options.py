"""What several commands share: options, exit codes, records and progress on the terminal."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

FAILURE, USAGE, INTERRUPTED = 1, 2, 130


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
    labels = tuple(label.strip() for label in options.labels.split(",") if label.strip())
    check_labels(labels)
    return labels


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
    """Say on standard error what was done, how fast, and how long the rest takes."""

    def __init__(self, total: int):
        self.total, self.count, self.failed = total, 0, 0
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
        line = f"\r{self.count}/{self.total} videos, {self.failed} unreadable, {rate:.1f}/s, {rest:.0f} s left "
        if sys.stderr.isatty() or end:
            print(line if sys.stderr.isatty() else line.strip(), end=end, file=sys.stderr, flush=True)
