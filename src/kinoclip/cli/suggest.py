"""`kinoclip suggest` and `tune`: suggest labels, and train on the corrections."""

import argparse
from pathlib import Path
from shlex import quote
from typing import Any

from kinoclip.cli import options as shared
from kinoclip.storage import check_exists


def add_commands(commands: Any) -> None:
    """Register the commands and their options."""
    suggest = commands.add_parser("suggest", help="suggest labels for videos, in a table that you correct")
    shared.add_path_argument(suggest)
    shared.add_label_options(suggest, "names to choose from")
    output = "the table, .csv, the most uncertain videos first; an existing one is updated, and what you wrote is kept"
    suggest.add_argument("--output", required=True, metavar="FILE", help=output)
    suggest.add_argument("--pictures", metavar="DIR", help="folder for a picture of the explanation of each video")
    shared.add_model_options(suggest)
    suggest.set_defaults(run=_suggest)

    tune = commands.add_parser("tune", help="train on the labels that you wrote into the table of suggest")
    add = tune.add_argument
    add("table", metavar="FILE", help="the .csv of kinoclip suggest, as a spreadsheet saves it")
    add("--output", required=True, metavar="DIR", help="new folder; the same command continues it")
    add("--new-labels", metavar="NAMES", help="comma-separated labels in the table that the model did not know")
    add("--start", help="CLIP or model to start from (default: the model of the first suggestions)")
    shared.add_setting_option(tune, "of the recipe finetune/few-shot")
    tune.set_defaults(run=_tune)


def _suggest(options: argparse.Namespace) -> int:
    if Path(options.output).suffix != ".csv":
        raise shared.UsageError(f"--output must be a .csv file, got {options.output}.")
    if options.features and options.pictures:
        raise shared.UsageError("--pictures need the frames themselves: leave --features out.")
    shared.refuse_distributed("suggest")
    labels = shared.read_label_options(options)
    videos = shared.find_videos(options.paths, [options.output, options.features, options.pictures])
    classifier = shared.load_classifier(options)
    from kinoclip.inference.batch_job import ClassifyJob  # these import torch, after the checks
    from kinoclip.inference.suggest import suggest

    job = ClassifyJob(
        classifier,
        labels,
        top_k=len(classifier.set_labels(labels)),
        pictures=None if options.pictures is None else Path(options.pictures),
        batch_size=options.batch_size,
        features=None if options.features is None else classifier.store_features(options.features),
        read_seconds=options.timeout,
    )
    table = suggest(videos, job, options.output, shared.Progress)
    checked = sum(bool(row["label"]) for row in table.rows)
    unreadable = sum(bool(row["error"]) and not row["label"] for row in table.rows)
    to_check = len(table.rows) - checked - unreadable
    shared.show(f"{options.output}: {to_check} to check, {checked} checked, {unreadable} unreadable")
    shared.notify(
        "write into the column `label`: yes, the right label, or none; an empty cell is not checked. Then: "
        f"kinoclip tune {quote(options.output)} --output my_model"
    )
    return 0


def _tune(options: argparse.Namespace) -> int:
    check_exists(options.table, " Make it with `kinoclip suggest`.")
    settings = shared.read_settings(options.set)
    from kinoclip.inference.suggest import CorrectionsError, read_corrections
    from kinoclip.training.tuning import tune

    try:
        corrections = read_corrections(options.table, shared.read_names(options.new_labels))
    except CorrectionsError as error:  # of several lines
        raise shared.UsageError(str(error)) from error
    result = tune(corrections, options.output, start=options.start, settings=settings)
    unseen = [label for label in corrections.choices if label not in corrections.labels.values()]
    if unseen:
        shared.notify(f"known by name only, since no video shows them: {', '.join(unseen)}")
    learned = f"{len(corrections.labels)} videos of {len(corrections.choices) - len(unseen)} labels"
    others = f"{corrections.num_none} show none, {corrections.num_open} are not checked"
    shared.show(f"{result.output}: learned {learned}; {others}")
    return 0
