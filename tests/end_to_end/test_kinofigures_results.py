"""The page of results shows recipes and claims of today, and its pictures exist."""

import re
from pathlib import Path

from kinoclip.training.claims import load_claims
from kinoclip.training.recipe import recipe_names

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
