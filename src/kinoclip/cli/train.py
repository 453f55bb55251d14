"""`kinoclip train`: train a recognizer by a recipe."""

from __future__ import annotations

import argparse
from typing import Any

from .options import UsageError, read_settings


def add_command(commands: Any) -> None:
    """Declare `kinoclip train` and its options."""
    train = commands.add_parser("train", help="train by a recipe, on your own videos or a paper's")
    train.add_argument("recipe", metavar="RECIPE", help="`kinoclip recipes` lists them; finetune for your own videos")
    train.add_argument("--data", required=True, help="folder with a folder for each class, list file, or hub data set")
    train.add_argument("--dataset", help="which known data set that is, such as ucf101; found out when left out")
    train.add_argument("--output", required=True, metavar="DIR", help="new folder for the model and its checkpoints")
    train.add_argument("--start", help="CLIP or model to start from, or mini (default: the recipe's)")
    train.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as training.epochs=2; repeatable"
    )
    train.add_argument(
        "--validation",
        type=float,
        metavar="SHARE",
        help="share of the training videos that is held out where the data has no validation part (data.held_out; default: 0.1)",
    )
    train.add_argument("--strict", action="store_true", help="the paper's equations where the authors' code differs")
    train.add_argument("--resume", action="store_true", help="continue the run in the output folder")
    train.add_argument("--workers", type=int, default=0, help="processes that decode (default: %(default)s)")
    train.add_argument("--save-every", type=int, metavar="UPDATES", help="checkpoints within an epoch too")
    train.add_argument("--tracker", action="append", default=[], help="tensorboard, wandb, trackio, ...; repeatable")
    train.add_argument("--features", metavar="DIR", help="where features of frozen encoders are kept")
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from accelerate import PartialState

    from kinoclip.training.loop import train
    from kinoclip.training.preparing import prepare_data
    from kinoclip.training.recipe import load_recipe

    settings = read_settings(options.set)
    if options.validation is not None:
        if not 0 < options.validation < 1:
            raise UsageError(f"--validation {options.validation}: give a share between 0 and 1.")
        settings["data.held_out"] = options.validation
    for name in ("workers", "save_every"):
        if (getattr(options, name) or 0) < 0:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: it is not below 0.")
    recipe = load_recipe(options.recipe)
    recipe = (recipe.strict() if options.strict else recipe).with_settings(settings)
    parts = prepare_data(recipe, options.data, dataset=options.dataset)
    result = train(
        recipe,
        parts.train,
        options.output,
        start=options.start,
        validation=parts.validation,
        resume=options.resume,
        num_workers=options.workers,
        save_every=options.save_every,
        trackers=options.tracker,
        features=options.features,
    )
    if PartialState().is_main_process:
        print(result.output)
    return 0
