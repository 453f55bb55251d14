"""The benchmark of all methods: its command, and the results that are shown."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from kinoclip.data.kinoshapes import benchmark
from kinoclip.training.mini_clip import chinese
from kinoclip.training.recipe import recipe_names

FOLDER = Path(__file__).parents[2] / "examples" / "kinoshapes"


@pytest.fixture
def run(monkeypatch):
    """The script, with one clip of each class."""
    monkeypatch.syspath_prepend(str(FOLDER))
    for split in benchmark.SPLITS:
        monkeypatch.setitem(benchmark.CLIPS_PER_CLASS, split, 1)
    yield importlib.import_module("run")
    for name in ("run", "render", "measures"):
        sys.modules.pop(name, None)


def test_what_is_shown_is_made_of_the_numbers_beside_it(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    content = json.loads((FOLDER / "results.json").read_text())

    assert importlib.import_module("render").render(content) == (FOLDER / "RESULTS.md").read_text()


def test_every_recipe_of_the_benchmark_is_shown():
    content = json.loads((FOLDER / "results.json").read_text())
    names = [name.partition("/")[2] for name in recipe_names() if name.startswith("benchmark/")]

    assert list(content["rows"]) == ["clip", *names]


@pytest.mark.parametrize("name", ["sllm-r2", "alt-r0", "dstpr"])
def test_a_recipe_is_trained_measured_and_kept(run, tmp_path, monkeypatch, name):
    monkeypatch.setattr(run, "train_chinese", lambda folder: chinese.train_chinese(folder, steps=2))
    recipe = run.load_recipe(f"benchmark/{name}").with_settings({"training.epochs": 1})
    monkeypatch.setattr(run, "load_recipe", lambda _: recipe)
    run.write_texts(tmp_path)

    row = run.run_recipe(tmp_path, 1, "cpu", name)

    assert set(row["groups"]) == {"all", "appearance", "motion", "order", "needle"}
    assert row["unseen"]["all"] >= 0
    assert json.loads((tmp_path / f"{name}.json").read_text())["gmacs"] > 0
    assert ("restored_cosine" in row) == name.startswith("sllm")
