"""The page of results shows recipes and claims of today, its pictures exist, and its experiments run."""

import json
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


def test_rows_that_were_measured_apart_are_joined(tmp_path, capsys):
    fields = {"table": "", "method": "bike", "dataset": "kinofigures/actions", "protocol": "single_view"}
    fields |= {"selection": "validation", "seeds": [0], "folds": [1], "printed": {}, "intervals": {}, "difference": {}}
    true = " ".join(["0"] * 400)
    for row, given in (("clip", " ".join(["1"] * 400)), ("clip-saliency", true)):
        run = {"seed": 0, "fold": 1, "folder": None, "videos": 400, "metrics": {}, "per_class": {}}
        run["answers"] = {"test": {"true": true, "given": given}}
        measured = {"top1": 50.0, "gmac": 0.25, "trainable_millions": 1.0, "videos_per_second": 9.0}
        one = {
            "recipe": f"kinofigures/{row}",
            "title": row,
            "measured": measured,
            "caveats": [],
            "runs": [run],
            **fields,
        }
        (tmp_path / row).mkdir()
        (tmp_path / row / "results.json").write_text(json.dumps([one]))
        (tmp_path / row / "time.json").write_text(json.dumps({"seconds": 1800, "machines": [{"processor": row}]}))
    join = runpy.run_path(str(FOLDER / "join.py"))["main"]
    join([str(tmp_path / "clip"), str(tmp_path / "clip-saliency"), "--output", str(tmp_path / "joined")])
    assert "2 rows" in capsys.readouterr().out
    page = (tmp_path / "joined" / "results.md").read_text()
    assert "Measured in 1.00 hours" in page
    assert "| +100.0 |" in page
    assert len(json.loads((tmp_path / "joined" / "results.json").read_text())) == 2
    join([str(tmp_path / "joined"), "--output", str(tmp_path / "again")])
    assert (tmp_path / "again" / "results.md").read_text() == page
    with pytest.raises(SystemExit):
        join([str(tmp_path / "clip"), "--output", str(tmp_path / "joined")])
    assert "joined exists" in capsys.readouterr().err
    for name in ("time.json", "results.json"):
        (tmp_path / "clip" / name).unlink()
        with pytest.raises(
            SystemExit, match=f"clip has no {name}. Name a folder in which `kinoclip reproduce` has ended"
        ):
            join([str(tmp_path / "clip"), "--output", str(tmp_path / "new")])


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
