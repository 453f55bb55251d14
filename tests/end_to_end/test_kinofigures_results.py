"""The page of results shows recipes and claims of today, its pictures exist, and its experiments run."""

import re
import runpy
from pathlib import Path

import pytest

from kinoclip.kinoshapes.figures.benchmark import figure_classes
from kinoclip.training.build_model import build_model
from kinoclip.training.claims import load_claims
from kinoclip.training.recipe import load_recipe, recipe_names

FOLDER = Path(__file__).parents[2] / "examples" / "kinofigures"
PAGE = (FOLDER / "RESULTS.md").read_text(encoding="utf-8")


def test_rows_and_claims_of_the_page_exist():
    rows = re.findall(r"^\| ([a-z][\w-]*) \|", PAGE.partition("## Accuracy by group")[2], flags=re.MULTILINE)
    names = [name.partition("/")[2] for name in recipe_names() if name.startswith("kinofigures/")]
    assert {"clip", "bike-transformer"} <= set(rows) - {"row", "claim"} <= set(names)
    verdicts = re.findall(
        r"^\| ([A-Z][\w ]*: .*?) \| .* \| (?:holds|does not hold|undecided) \|$", PAGE, flags=re.MULTILINE
    )
    assert set(verdicts) <= {f"{claim.paper}: {claim.text}" for claim in load_claims("kinofigures")}
    assert len(verdicts) >= 5


def test_pictures_of_the_page_exist():
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", PAGE)
    assert pictures
    assert [name for name in pictures if not (FOLDER / name).is_file()] == []


@pytest.mark.parametrize(
    ("name", "recipe", "lines"),
    [
        ("motion", None, [r"equal distances +\d+\.\d% +\d", "sizes of packets"]),
        ("forgetting", "bike", ["trained +actions +unseen", r" 100%( +\d+\.\d%){2}"]),
        ("restoration", "sllm-r2", ["cosine +accuracy", r"restored +-?0\.\d{3} +\d", r"real +1\.000 +\d"]),
        (
            "weights",
            "bike",
            ["actions, 29 clips of 8", "{run}\n.*, temperature 0.005: [1-8].* frames count", "mean of 16 frames"],
        ),
    ],
)
def test_an_experiment_prints_its_table(name, recipe, lines, tmp_path, capsys):
    if recipe:
        labels = [action.label for action in figure_classes()]
        for part in build_model(load_recipe(f"kinofigures/{recipe}"), labels, "mini"):
            part.save_pretrained(tmp_path)
    runpy.run_path(str(FOLDER / f"{name}.py"))["main"]([*[str(tmp_path)] * bool(recipe), "--clips", "1"])
    printed = capsys.readouterr().out
    assert [line for line in lines if not re.search(line.replace("{run}", str(tmp_path)), printed)] == []
