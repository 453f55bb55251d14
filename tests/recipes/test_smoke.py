"""One row of each kind goes from its TOML file to a measured number: `kinoclip reproduce all --smoke` does so with every row."""

import json

import pytest

from kinoclip.training.reproduce import Options, reproduce

from .rows import RECIPES

SMOKE = Options(smoke=True)


def _kind(recipe):
    """What decides which code a row passes through."""
    data, evaluation, training = recipe.data_settings, recipe.evaluation_settings, recipe.training
    texts = [bool(getattr(data, name)) for name in ("corpus", "descriptions", "chinese_clip", "attributes", "shots")]
    runs = [
        bool(training.epochs),
        training.objective,
        training.optimizer,
        bool(recipe.runs.folds),
        recipe.runs.seeds > 1,
    ]
    measured = [
        evaluation.selection,
        bool(evaluation.class_lists),
        bool(evaluation.mean_of),
        bool(evaluation.gain_over),
    ]
    return json.dumps([recipe.method, recipe.model.get("recognizer"), evaluation.protocol, texts, runs, measured])


KINDS = {_kind(recipe): name for name, recipe in reversed(RECIPES.items())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.parametrize("name", sorted(KINDS.values()))
def test_a_row_of_each_kind_is_trained_and_measured_by_its_own_protocol(name, folder):
    recipe = RECIPES[name]
    [row] = reproduce([name], [], folder / name.replace("/", "-"), SMOKE, report=lambda message: None)
    assert (row.recipe, row.protocol, row.selection) == (
        name,
        recipe.evaluation["protocol"],
        recipe.evaluation["selection"],
    )
    assert 0 <= row.measured.get("top1", row.measured["map"]) <= 100
    # every accuracy that the paper prints was measured, in the same words
    accuracies = [key for key in recipe.paper if key.startswith(("top1", "top5", "map", "half", "list", "running"))]
    assert [key for key in accuracies if key not in row.difference] == []
