"""`kinoclip recipes`: list the rows of the papers that can be trained."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_command(commands: Any) -> None:
    """Declare `kinoclip recipes` and its options."""
    recipes = commands.add_parser("recipes", help="list the papers' experiments, or show one")
    recipes.add_argument(
        "name", nargs="?", metavar="NAME", help="of a recipe, a method, or part of a name; all if left out"
    )
    recipes.add_argument("--json", action="store_true", help="every setting, as one JSON object")
    recipes.set_defaults(run=_recipes)


def _recipes(options: argparse.Namespace) -> int:
    from kinoclip.training.recipe import load_recipe, recipe_names

    wanted = options.name or ""
    names = [wanted] if wanted in recipe_names() else [name for name in recipe_names() if wanted in name]
    recipes = [load_recipe(name) for name in names or [wanted]]
    if options.json:
        print(json.dumps({recipe.name: recipe.to_dict() for recipe in recipes}, ensure_ascii=False, indent=1))
        return 0
    for recipe in recipes:
        numbers = ", ".join(f"{name} {value}" for name, value in recipe.paper.items())
        where = f"{recipe.table}, as the paper prints it: {numbers}" if numbers else "no number of a paper"
        print(f"{recipe.name}\n    {recipe.title}\n    {where}")
        for caveat in recipe.caveats:
            print(f"    ! {caveat}")
    if len(recipes) == 1:
        print(_settings(recipes[0].to_dict()))
    return 0


def _settings(content: dict[str, Any]) -> str:
    """Give what can be changed with --set, one setting in a line."""
    lines = [f"method = {content['method']}", f"dataset = {content['dataset']}", f"start = {content['start']}"]
    for section in ("model", "data", "training", "evaluation"):
        lines += [f"{section}.{name} = {json.dumps(value)}" for name, value in content[section].items()]
    return "\n".join(lines)
