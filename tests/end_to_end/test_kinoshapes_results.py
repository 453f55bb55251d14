"""The page of the benchmark: its recipes, and the claims that are decided from the results of `kinoclip reproduce`."""

import importlib
import re
from pathlib import Path

import pytest

from kinoclip.training.recipe import recipe_names

FOLDER = Path(__file__).parents[2] / "examples" / "kinoshapes"


@pytest.fixture
def claims(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("claims")


def test_every_recipe_of_the_benchmark_is_shown():
    shown = re.findall(r"^\| ([a-z][\w-]*) \|.*\|$", (FOLDER / "RESULTS.md").read_text(), flags=re.MULTILINE)
    names = [name.partition("/")[2] for name in recipe_names() if name.startswith("benchmark/")]
    # its accuracy is a mean average precision, below the table
    assert set(names) - set(shown) == {"bike-several"}


def test_every_claim_compares_recipes_of_the_benchmark(claims):
    compared = {f"benchmark/{row}" for _, *rows, _ in claims.CLAIMS for row in rows}
    assert compared <= set(recipe_names())


def _row(name, appearance, motion):
    """A row of results: 100 clips of an object, 100 of a motion."""
    classes = [("red circle", appearance), ("moving left", motion)]
    per_class = [{"label": label, "videos": 100, "accuracy": share} for label, share in classes]
    run = {"per_class": per_class, "metrics": {"unseen_top1": 0.5}}
    measured = {"top1": 0.0, "trainable_millions": 0.3, "gmac": 0.1}
    return {"recipe": f"benchmark/{name}", "title": name, "measured": measured, "runs": [run]}


def test_a_claim_is_decided_where_the_difference_leaves_its_interval(claims):
    # all: 75 % and 60 % of 200; 1.96 * sqrt(0.75 * 0.25 / 200 + 0.6 * 0.4 / 200) = 9.1 points
    text = claims.render([_row("bike-saliency", 1.0, 0.5), _row("bike-mean", 0.7, 0.5)])
    claim = "BIKE: weighting frames by words beats their mean"
    assert f"| {claim} | bike-saliency, bike-mean | +15.0 ± 9.1 | holds |" in text
    assert "| bike-mean | bike-mean | 60.0% | 70.0% | 50.0% |  |  | 50.0% | 300 k | 100 |" in text


def test_a_small_difference_decides_nothing(claims):
    text = claims.render([_row("bike-saliency", 0.7, 0.52), _row("bike-mean", 0.7, 0.5)])
    assert "| no clear difference |" in text
