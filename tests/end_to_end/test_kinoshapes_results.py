"""The page of the benchmark shows its recipes."""

import re
from pathlib import Path

from kinoclip.training.recipe import recipe_names

FOLDER = Path(__file__).parents[2] / "examples" / "kinoshapes"


def test_every_recipe_of_the_benchmark_is_shown():
    shown = re.findall(r"^\| ([a-z][\w-]*) \|.*\|$", (FOLDER / "RESULTS.md").read_text(), flags=re.MULTILINE)
    names = [name.partition("/")[2] for name in recipe_names() if name.startswith("benchmark/")]
    # its accuracy is a mean average precision, below the table
    assert set(names) - set(shown) == {"bike-several"}
