"""`kinoclip check`: find the videos that cannot be read."""

import argparse
import os
from collections.abc import Mapping
from typing import Any

from kinoclip.cli.options import FAILURE, Progress, check_least, show, show_json


def add_commands(commands: Any) -> None:
    """Register the command and its options."""
    check = commands.add_parser("check", help="find the videos that cannot be read, before training on them")
    add = check.add_argument
    add("paths", nargs="+", metavar="PATH", help="folders or video files")
    add("--output", metavar="FILE", help="report, a JSON line for each file; an existing one is continued")
    add("--workers", type=int, default=os.cpu_count() or 1, help="processes; 0 uses none (default: %(default)s)")
    add("--full", action="store_true", help="decode every frame, not the first, middle and last only")
    add("--json", action="store_true", help="print one JSON object")
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace) -> int:
    from kinoclip.data.files import find_videos

    check_least(options, workers=0)
    paths, others = find_videos(options.paths)
    from kinoclip.data.check import check_files, inspect_videos, summarize  # it imports torch, after the checks

    settings = {"workers": options.workers, "full": options.full}
    if options.output is None:
        records = inspect_videos(paths, **settings)
    else:
        records = check_files(options.output, paths, **settings)
    progress, found = Progress(len(paths)), []
    for record in records:
        progress(record)
        found.append(record)
    summary = summarize(found) | {"other_files": len(others)}
    if options.json:
        show_json(summary)
    else:
        show(*_format(summary))
    return FAILURE if summary["unreadable"] or not summary["videos"] else 0


def _format(summary: Mapping[str, Any]) -> list[str]:
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
    return [f"{name:<12} {value}" for name, value in rows]
