"""Every recipe of the package."""

from kinoclip.training.recipe import load_recipe, recipe_names

RECIPES = {name: load_recipe(name) for name in recipe_names()}
