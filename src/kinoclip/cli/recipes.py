"""`kinoclip recipes`: list the rows of the papers that can be trained."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinoclip.training.recipe import Recipe

_WEIGHTS = {
    "last": "the last epoch",
    "validation": "the best epoch on held-out validation videos",
    "test": "the best epoch on the test videos themselves (biased upwards)",
}


def add_command(commands: Any) -> None:
    """Declare `kinoclip recipes` and its options."""
    recipes = commands.add_parser("recipes", help="list the papers' experiments, or show one")
    recipes.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help='of a recipe, a method, a table ("bike/Table 6a"), or part of a name; all if left out',
    )
    recipes.add_argument("--json", action="store_true", help="every setting, as one JSON object")
    recipes.set_defaults(run=_recipes)


def _recipes(options: argparse.Namespace) -> int:
    from kinoclip.training.recipe import load_recipe, recipe_names

    wanted = options.name or ""
    names = [wanted] if wanted in recipe_names() else [name for name in recipe_names() if wanted in name]
    if not names:
        from kinoclip.training.rows import find_rows

        names = find_rows([wanted])
    recipes = [load_recipe(name) for name in names]
    if options.json:
        print(json.dumps({recipe.name: recipe.to_dict() for recipe in recipes}, ensure_ascii=False, indent=1))
        return 0
    for recipe in recipes:
        numbers = ", ".join(f"{name} {value}" for name, value in recipe.paper.items())
        where = f"{recipe.table}, as the paper prints it: {numbers}" if numbers else "no number of a paper"
        print(f"{recipe.name}\n    {recipe.title}\n    {where}\n    {_measurement(recipe)}")
        for caveat in recipe.caveats:
            print(f"    ! {caveat}")
    if len(recipes) == 1:
        print(_settings(recipes[0].to_dict()))
    return 0


def _measurement(recipe: Recipe) -> str:
    """Describe what a row measures: which weights, by which protocol, in which runs."""
    rules, runs = recipe.evaluation_settings, recipe.runs
    if rules.mean_of:
        return f"mean of {', '.join(rules.mean_of)}"
    weights = _WEIGHTS[rules.selection] if recipe.training.epochs else f"no training: {recipe.start}"
    parts = [f"{weights}; protocol {rules.protocol}"]
    parts += [f"{runs.seeds} seeds"] if runs.seeds > 1 else []
    parts += [f"folds {', '.join(map(str, runs.folds))}"] if runs.folds else []
    parts += [f"classes of {', '.join(rules.class_lists)}"] if rules.class_lists else []
    parts += [f"gain over {rules.gain_over}"] if rules.gain_over else []
    return "; ".join(parts)


def _settings(content: dict[str, Any]) -> str:
    """List what can be changed with --set, one setting in a line."""
    lines = [f"method = {content['method']}", f"dataset = {content['dataset']}", f"start = {content['start']}"]
    for section in ("model", "data", "training", "evaluation", "runs"):
        lines += [f"{section}.{name} = {json.dumps(value)}" for name, value in content[section].items()]
    return "\n".join(lines)
