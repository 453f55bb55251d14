"""One row of each kind goes from its TOML file to a measured number: `kinoclip reproduce all --smoke` does so with every row."""

import json

import pytest

from kinoclip.training.reproduce import Options, reproduce

from .rows import RECIPES


def _kind(recipe):
    """What decides which code a row passes through."""
    data, rules, training = recipe.data_settings, recipe.evaluation_settings, recipe.training
    texts = [bool(getattr(data, name)) for name in ("corpus", "chinese_clip", "attributes", "shots")]
    runs = [bool(training.epochs), training.objective, bool(recipe.runs.folds), recipe.runs.seeds > 1]
    measured = [rules.protocol, rules.selection, bool(rules.class_lists), bool(rules.mean_of), bool(rules.gain_over)]
    return json.dumps([recipe.method, recipe.model.get("recognizer"), texts, runs, measured])


KINDS = sorted({_kind(recipe): name for name, recipe in reversed(RECIPES.items())}.values())
FILES = sorted({name.partition("/")[0] for name in KINDS})


@pytest.mark.parametrize("file", FILES)
def test_a_row_of_each_kind_is_trained_and_measured_by_its_own_protocol(file, tmp_path):
    names = [name for name in KINDS if name.partition("/")[0] == file]
    rows = reproduce(names, [], tmp_path / "out", Options(smoke=True), report=lambda message: None)
    rules = [RECIPES[name].evaluation for name in names]
    assert [(row.recipe, row.protocol, row.selection) for row in rows] == [
        (name, one["protocol"], one["selection"]) for name, one in zip(names, rules, strict=True)
    ]
    assert all(0 <= row.measured.get("top1", row.measured["map"]) <= 100 for row in rows)
    # every accuracy that the paper prints was measured, in the same words
    words = ("top1", "top5", "map", "half", "list", "running", "restored", "label")
    printed = [(row, key) for row in rows for key in row.printed if key.startswith(words)]
    assert [(row.recipe, key) for row, key in printed if key not in row.difference] == []
