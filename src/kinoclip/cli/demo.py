"""`kinoclip demo`: see it work, without network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import UsageError


def add_command(commands: Any) -> None:
    """Declare `kinoclip demo` and its options."""
    demo = commands.add_parser("demo", help="make a few clips, name them, and say why; needs no network")
    demo.add_argument("--output", default="demo", help="folder for the clips and the picture (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=7, help="which clips are made (default: %(default)s)")
    demo.add_argument("--videos", type=int, default=4, help="how many (default: %(default)s)")
    demo.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> int:
    from kinoclip.inference.demo import run_demo

    if options.videos < 1:
        raise UsageError(f"--videos {options.videos}: make one at least.")
    for line in run_demo(Path(options.output), seed=options.seed, num_videos=options.videos):
        print(line)
    return 0
