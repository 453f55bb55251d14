"""`kinoclip train`, `recipes` and `reproduce`: recipes and rows of the papers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoclip.cli import options as shared

if TYPE_CHECKING:
    from kinoclip.training.recipe import Recipe

_WORKERS: dict[str, Any] = {"type": int, "default": 0, "help": "processes that decode (default: %(default)s)"}
_STRICT: dict[str, Any] = {"action": "store_true", "help": "the paper's equations where the authors' code differs"}
_SELECTED = {
    "last": "the last epoch",
    "validation": "the best epoch on held-out validation videos",
    "test": "the best epoch on the test videos themselves (biased upwards)",
}


def add_commands(commands: Any) -> None:
    """Register the commands and their options."""
    train = commands.add_parser("train", help="train by a recipe, on your own videos or a paper's")
    add = train.add_argument
    add("recipe", metavar="RECIPE", help="`kinoclip recipes` lists them; finetune for your own videos")
    add("--data", required=True, help="folder with a folder for each class, list file, or hub data set")
    add("--dataset", help="its name if it is a known one, such as ucf101 (default: detected)")
    add("--output", required=True, metavar="DIR", help="new folder for the model and its checkpoints")
    add("--start", help="CLIP or model to start from, or mini (default: the recipe's)")
    shared.add_setting_option(train, "such as training.epochs=2")
    held_out = "of the training videos, held out if the data has no validation part (data.held_out; default: 0.1)"
    add("--validation", type=float, metavar="SHARE", help=held_out)
    add("--strict", **_STRICT)
    add("--resume", action="store_true", help="continue the run in the output folder")
    add("--workers", **_WORKERS)
    add("--save-every", type=int, metavar="UPDATES", help="checkpoints within an epoch too")
    add("--tracker", **shared.REPEATABLE, help="tensorboard, wandb, trackio, ...; repeatable")
    add("--features", metavar="DIR", help="folder for the features of frozen encoders")
    train.set_defaults(run=_train)

    recipes = commands.add_parser("recipes", help="list the papers' experiments, or show one")
    name = 'of a recipe, a method, a table ("bike/Table 6a"), or part of a name (default: all)'
    recipes.add_argument("name", nargs="?", metavar="NAME", default="", help=name)
    recipes.add_argument("--json", action="store_true", help="print every setting as one JSON object")
    recipes.set_defaults(run=_recipes)

    help = "train and measure rows or tables of the papers, beside their printed numbers"
    reproduce = commands.add_parser("reproduce", help=help)
    add = reproduce.add_argument
    rows = 'such as bike/t6a-vcs, "bike/Table 6a", bike, mine.toml or all'
    add("rows", nargs="+", metavar="ROW|TABLE|FILE", help=rows)
    data = "data of one data set, such as ucf101=DIR, or of all; repeatable"
    add("--data", **shared.REPEATABLE, metavar="[NAME=]SOURCE", help=data)
    add("--output", required=True, metavar="DIR", help="new folder; the same command continues it")
    add("--seeds", type=int, metavar="N", help="runs with different seeds (default: that of each row)")
    start = "trained model of a recipe that rows start from, instead of training it; repeatable"
    add("--start", **shared.REPEATABLE, metavar="RECIPE=DIR", help=start)
    add("--strict", **_STRICT)
    add("--smoke", action="store_true", help="random tiny models and videos: every step in seconds, without data")
    add("--quick", action="store_true", help="fewer rows, one seed and few epochs, where the table has them")
    shared.add_setting_option(reproduce, "of every row, such as training.precision=bf16")
    add("--workers", **_WORKERS)
    add("--json", action="store_true", help="print results.json")
    reproduce.set_defaults(run=_reproduce)


def _train(options: argparse.Namespace) -> int:
    from kinoclip.data.files import check_source

    shared.check_least(options, workers=0, save_every=0)
    settings = shared.read_settings(options.set)
    if options.validation is not None:
        if not 0 < options.validation < 1:
            raise shared.UsageError(f"--validation must be a share between 0 and 1, got {options.validation}.")
        settings["data.held_out"] = options.validation
    check_source(options.data)
    from accelerate import PartialState

    from kinoclip.training.data import prepare_data
    from kinoclip.training.recipe import load_recipe
    from kinoclip.training.trainer import train

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
        shared.show(str(result.output))
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from kinoclip.training.recipe import find_recipes, load_recipe, recipe_names

    name = options.name
    names = [name] if name in recipe_names() else [each for each in recipe_names() if name in each]
    names = names or find_recipes([name])
    recipes = [load_recipe(name) for name in names]
    if options.json:
        shared.show_json({recipe.name: recipe.to_dict() for recipe in recipes}, indent=1)
        return 0
    for recipe in recipes:
        numbers = ", ".join(f"{name} {value}" for name, value in recipe.paper.items())
        source = f"{recipe.table}, as the paper prints it: {numbers}" if numbers else "no number of a paper"
        lines = [recipe.title, source, _describe_measurement(recipe), *(f"! {caveat}" for caveat in recipe.caveats)]
        shared.show(recipe.name, *(f"    {line}" for line in lines))
    if len(recipes) == 1:
        content = recipes[0].to_dict()
        lines = [f"{name} = {content[name]}" for name in ("method", "dataset", "start")]
        for section in ("model", "data", "training", "evaluation", "runs"):
            lines += [f"{section}.{name} = {json.dumps(value)}" for name, value in content[section].items()]
        shared.show(*lines)
    return 0


def _describe_measurement(recipe: Recipe) -> str:
    """Describe what a row measures: which weights, by which protocol, in which runs."""
    rules, runs = recipe.evaluation_settings, recipe.runs
    if rules.mean_of:
        return f"mean of {', '.join(rules.mean_of)}"
    weights = _SELECTED[rules.selection] if recipe.training.epochs else f"no training: {recipe.start}"
    parts = [f"{weights}; protocol {rules.protocol}"]
    parts += [f"{runs.seeds} seeds"] if runs.seeds > 1 else []
    parts += [f"folds {', '.join(map(str, runs.folds))}"] if runs.folds else []
    parts += [f"classes of {', '.join(rules.class_lists)}"] if rules.class_lists else []
    parts += [f"gain over {rules.gain_over}"] if rules.gain_over else []
    return "; ".join(parts)


def _reproduce(options: argparse.Namespace) -> int:
    shared.check_least(options, seeds=1, workers=0)
    if shared.is_distributed():
        raise shared.UsageError(
            "`kinoclip reproduce` runs in one process. Train on several GPUs with `accelerate launch -m kinoclip.cli train RECIPE`, "
            "and pass the result as --start RECIPE=DIR."
        )
    starts = dict(pair.partition("=")[::2] for pair in options.start)
    for recipe, folder in starts.items():
        if not Path(folder).is_dir():
            raise shared.UsageError(f"--start must be RECIPE=DIR with a folder, got {recipe}={folder}.")
    settings = shared.read_settings(options.set)
    from kinoclip.training.reproduce import TABLE, Options, reproduce

    choices = Options(settings, options.seeds, starts, options.strict, options.smoke, options.quick, options.workers)
    results = reproduce(options.rows, options.data, options.output, choices)
    if options.json:
        shared.show_json([result.to_dict() for result in results], indent=1)
    else:
        shared.show(*(Path(options.output) / TABLE).read_text(encoding="utf-8").splitlines())
    return 0
