"""`kinoclip reproduce`: train and measure rows of the papers, and print them beside the papers' numbers."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from .options import UsageError, read_settings


def add_command(commands: Any) -> None:
    """Declare `kinoclip reproduce` and its options."""
    reproduce = commands.add_parser(
        "reproduce", help="train and measure rows or tables of the papers, beside their printed numbers"
    )
    reproduce.add_argument(
        "rows",
        nargs="+",
        metavar="ROW|TABLE|FILE",
        help='such as bike/t6a-vcs, "bike/Table 6a", bike, mine.toml or all',
    )
    reproduce.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="[NAME=]SOURCE",
        help="data of one data set, such as ucf101=DIR, or of all; repeatable",
    )
    reproduce.add_argument(
        "--output", required=True, metavar="DIR", help="new folder, or that of the same command to continue"
    )
    reproduce.add_argument(
        "--seeds", type=int, metavar="N", help="runs with different seeds (default: each row's own number)"
    )
    reproduce.add_argument(
        "--start",
        action="append",
        default=[],
        metavar="RECIPE=DIR",
        help="trained model of a recipe that rows start from, instead of training it; repeatable",
    )
    reproduce.add_argument(
        "--strict", action="store_true", help="the paper's equations where the authors' code differs"
    )
    reproduce.add_argument(
        "--smoke", action="store_true", help="random tiny models and videos: every step in seconds, no data"
    )
    reproduce.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of every row, such as training.precision=bf16; repeatable",
    )
    reproduce.add_argument("--workers", type=int, default=0, help="processes that decode (default: %(default)s)")
    reproduce.add_argument("--json", action="store_true", help="print results.json")
    reproduce.set_defaults(run=_reproduce)


def _reproduce(options: argparse.Namespace) -> int:
    from pathlib import Path

    from kinoclip.training.reproduce import TABLE, Options, reproduce

    if options.seeds is not None and options.seeds < 1:
        raise UsageError(f"--seeds {options.seeds}: it must be at least 1.")
    if options.workers < 0:
        raise UsageError(f"--workers {options.workers}: it must be at least 0.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "`kinoclip reproduce` runs in one process. Train on several GPUs with `accelerate launch -m kinoclip.cli train RECIPE`, "
            "and give the result with --start RECIPE=DIR."
        )
    starts = dict(pair.partition("=")[::2] for pair in options.start)
    for recipe, folder in starts.items():
        if not Path(folder).is_dir():
            raise UsageError(f"--start {recipe}={folder}: there is no such folder. Write RECIPE=DIR.")
    results = reproduce(
        options.rows,
        options.data,
        options.output,
        Options(read_settings(options.set), options.seeds, starts, options.strict, options.smoke, options.workers),
    )
    if options.json:
        print(json.dumps([result.to_dict() for result in results], ensure_ascii=False, indent=1))
    else:
        print((Path(options.output) / TABLE).read_text(encoding="utf-8"), end="")
    return 0
