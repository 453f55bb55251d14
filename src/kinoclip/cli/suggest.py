"""`kinoclip suggest`: suggest labels for a folder of videos, in a table to correct."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from shlex import quote
from typing import Any

from .options import (
    Progress,
    UsageError,
    add_label_options,
    add_model_options,
    find_launch,
    read_label_options,
    read_model_options,
)


def add_command(commands: Any) -> None:
    """Declare `kinoclip suggest` and its options."""
    suggest = commands.add_parser("suggest", help="suggest labels for videos, in a table that you correct")
    suggest.add_argument("paths", nargs="+", metavar="PATH", help="video files, folders or http(s) URLs")
    add_label_options(suggest, "names to choose from")
    suggest.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="the table, .csv, those videos first that say most when they are checked; one that is there is renewed, and what "
        "you wrote into it stays",
    )
    suggest.add_argument("--pictures", metavar="DIR", help="folder for a picture of each video with the reasons")
    add_model_options(suggest)
    suggest.set_defaults(run=_suggest)


def _suggest(options: argparse.Namespace) -> int:
    from kinoclip.data.suggestions import is_checked
    from kinoclip.inference.classify import Classifier
    from kinoclip.inference.jobs import Job, find_videos, leave_out
    from kinoclip.inference.suggesting import suggest

    if Path(options.output).suffix != ".csv":
        raise UsageError(f"--output {options.output}: the table is a .csv file.")
    if options.features and options.pictures:
        raise UsageError("--pictures look at the frames themselves: leave --features out.")
    if find_launch(options.device) is not None:
        raise UsageError("kinoclip suggest runs in one process.")
    labels = read_label_options(options)
    videos = leave_out(find_videos(options.paths), [options.output, options.features, options.pictures])
    if not videos:
        raise UsageError("There is no file in what was given. Name videos, or folders that hold some.")
    classifier = Classifier.load(options.model, **read_model_options(options))
    if options.frames is not None:
        classifier.video_processor.num_frames = options.frames
    features = options.features and classifier.keep_features(options.features)
    job = Job(
        classifier,
        labels,
        top_k=len(classifier.set_labels(labels)),
        pictures=None if options.pictures is None else Path(options.pictures),
        batch_size=options.batch_size,
        features=features or None,
        read_seconds=options.timeout,
    )
    table = suggest(videos, job, options.output, Progress)
    checked = sum(is_checked(row) for row in table.rows)
    unreadable = sum(bool(row["error"]) and not is_checked(row) for row in table.rows)
    print(
        f"{options.output}: {len(table.rows) - checked - unreadable} to check, {checked} checked, {unreadable} unreadable"
    )
    print(
        "kinoclip: write into the column `label`: yes, the right label, or none; what stays empty was not looked at. Then: "
        f"kinoclip tune {quote(options.output)} --output my_model",
        file=sys.stderr,
    )
    return 0
