"""`kinoclip check`: find the videos that cannot be read."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from typing import Any

from .options import FAILURE, Progress, UsageError


def add_command(commands: Any) -> None:
    """Declare `kinoclip check` and its options."""
    check = commands.add_parser("check", help="find the videos that cannot be read, before training on them")
    check.add_argument("paths", nargs="+", metavar="PATH", help="folders or video files")
    check.add_argument("--output", metavar="FILE", help="report, a JSON line for each file; continued if it is there")
    check.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    check.add_argument("--full", action="store_true", help="decode every frame, not the first, middle and last")
    check.add_argument("--json", action="store_true", help="one JSON object")
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from kinoclip.data.checking import CheckReport, inspect_videos, summarize
    from kinoclip.inference.jobs import find_videos

    if options.workers < 0:
        raise UsageError(f"--workers {options.workers}: give a number of processes, or 0 to stay in this one.")
    paths = find_videos(options.paths)
    settings = {"workers": options.workers, "full": options.full}
    if options.output is None:
        records = inspect_videos(((path, path) for path in paths), **settings)
    else:
        records = CheckReport(options.output).check(paths, **settings)
    progress = Progress(len(paths))
    found = []
    for record in records:
        progress(record)
        found.append(record)
    summary = summarize(found)
    print(json.dumps(summary) if options.json else _table(summary))
    return FAILURE if summary["unreadable"] or not summary["videos"] else 0


def _table(summary: Mapping[str, Any]) -> str:
    """Lay a summary out for a person."""
    rows = [(name, f"{summary[name]:,}") for name in ("videos", "readable", "unreadable", "damaged", "rotated")]
    if summary["other_files"]:
        rows.append(("other files", f"{summary['other_files']:,}"))
    for name in ("codecs", "sizes"):
        counts = list(summary[name].items())
        shown = ", ".join(f"{kind} ({count:,})" for kind, count in counts[:5])
        rows.append((name, shown + (f", {len(counts) - 5} more" if len(counts) > 5 else "")))
    seconds = summary["seconds"]
    if seconds is not None:
        lengths = ", ".join(f"{name} {seconds[name]:.1f}" for name in ("shortest", "median", "longest"))
        rows.append(("seconds", f"{lengths}; {seconds['all'] / 3600:.2f} hours in all"))
    return "\n".join(f"{name:<12} {value}" for name, value in rows)
