"""Rows that pass through all code of training and measuring, from TOML file to number: `kinoclip reproduce all --smoke` runs every row."""

import pytest

from kinoclip.training.reproduce import Options, reproduce

from .rows import RECIPES

# accuracies among the printed numbers
WORDS = ("top1", "top5", "map", "half", "list", "running", "restored", "label")


def _traits(recipe) -> set[tuple]:
    """Return what decides which code a row passes through."""
    data, rules, training, runs = recipe.data_settings, recipe.evaluation_settings, recipe.training, recipe.runs
    texts = {name for name in ("corpus", "chinese_clip", "attributes", "descriptions", "shots") if getattr(data, name)}
    flags = {"folds": runs.folds, "seeds": runs.seeds > 1, "lists": rules.class_lists, "mean": rules.mean_of}
    flags |= {"gain": rules.gain_over, "trained": training.epochs, "untrained": not training.epochs}
    return {
        ("method", recipe.method, recipe.model.get("recognizer")),
        ("objective", recipe.method, training.objective),
        ("measured", rules.protocol),
        ("measured", rules.selection),
        *(("text", name) for name in texts),
        *(("flag", name) for name, is_set in flags.items() if is_set),
        *(("printed", name) for name in recipe.paper if name.startswith(WORDS)),
    }


def _choose_rows() -> list[str]:
    """Choose rows that have every trait together, those with the most missing ones first."""
    traits = {name: _traits(recipe) for name, recipe in RECIPES.items()}
    missing, chosen = set().union(*traits.values()), []
    while missing:
        chosen.append(max(traits, key=lambda name: len(traits[name] & missing)))
        missing -= traits[chosen[-1]]
    return sorted(chosen)


ROWS = _choose_rows()


@pytest.mark.parametrize("file", sorted({name.partition("/")[0] for name in ROWS}))
def test_rows_are_trained_and_measured_by_their_own_protocols(file, tmp_path):
    names = [name for name in ROWS if name.partition("/")[0] == file]
    rows = reproduce(names, [], tmp_path / "out", Options(smoke=True), report=lambda message: None)
    rules = [RECIPES[name].evaluation for name in names]
    assert [(row.recipe, row.protocol, row.selection) for row in rows] == [
        (name, one["protocol"], one["selection"]) for name, one in zip(names, rules, strict=True)
    ]
    assert all(0 <= row.measured.get("top1", row.measured["map"]) <= 100 for row in rows)
    # every accuracy that the paper prints was measured, in the same words
    printed = [(row, key) for row in rows for key in row.printed if key.startswith(WORDS)]
    assert [(row.recipe, key) for row, key in printed if key not in row.difference] == []
