"""`kinoclip tune`: teach a model what you corrected."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .options import UsageError, read_names, read_settings


def add_command(commands: Any) -> None:
    """Declare `kinoclip tune` and its options."""
    tune = commands.add_parser("tune", help="learn from the labels that you wrote into the table of suggest")
    tune.add_argument("table", metavar="FILE", help="the .csv of kinoclip suggest, as a spreadsheet saves it")
    tune.add_argument("--output", required=True, metavar="DIR", help="new folder; the same command continues it")
    tune.add_argument(
        "--new-labels", metavar="NAMES", help="labels in the table that nothing was asked for yet, with commas"
    )
    tune.add_argument("--start", help="CLIP or model to start from (default: what the first suggestions came from)")
    tune.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe finetune/few-shot; repeatable"
    )
    tune.set_defaults(run=_tune)


def _tune(options: argparse.Namespace) -> int:
    from kinoclip.data.suggestions import CorrectionsError, read_corrections
    from kinoclip.training.tuning import tune

    try:
        corrections = read_corrections(options.table, read_names(options.new_labels))
    except CorrectionsError as error:  # of several lines
        raise UsageError(str(error)) from error
    result = tune(corrections, options.output, start=options.start, settings=read_settings(options.set))
    unseen = [label for label in corrections.choices if label not in corrections.labels.values()]
    if unseen:
        print(f"kinoclip: known by name alone, since no video shows them: {', '.join(unseen)}", file=sys.stderr)
    learned = f"{len(corrections.labels)} videos of {len(corrections.choices) - len(unseen)} labels"
    print(
        f"{result.output}: learned {learned}; {corrections.num_none} show none, {corrections.num_open} are not checked"
    )
    return 0
