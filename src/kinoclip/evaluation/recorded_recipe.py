"""The recipe that a checkpoint was trained with."""

from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

from kinoclip.conversion import naming
from kinoclip.embedded import EMBEDDED
from kinoclip.text.parsing import load_json


def recorded_recipe(source: str | Path) -> dict[str, Any] | None:
    """Read the recipe in the `training.json` of a checkpoint, as `Recipe.to_dict` writes it.

    Args:
        source: folder or Hub id, or "mini".

    Returns:
        None where there is no record, or the Hub cannot be reached.

    Raises:
        ValueError: the record is damaged.
    """
    if str(source) == EMBEDDED:
        return None
    try:
        path = str(cached_file(str(source), "training.json"))
    except OSError:
        return None
    with naming(f"The record of the training in {source}"):
        recipe = load_json(Path(path).read_text(encoding="utf-8")).get("recipe")
    return recipe if isinstance(recipe, dict) else None
