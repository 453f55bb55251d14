"""`.github/FIDELITY.md` has a row for all that the papers print and for all recipes, and names nothing that does not exist."""

import re
from ast import literal_eval
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from pkgutil import resolve_name

import pytest

from kinoclip.cli import _build_parser
from kinoclip.methods import METHODS
from kinoclip.text.entities import CATEGORIES, load_corpus
from kinoclip.training.settings import DataSettings, EvaluationSettings, RunSettings, TrainingSettings

from .rows import RECIPES

ROOT = Path(__file__).parents[2]
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / ".github/FIDELITY.md").read_text(), re.M | re.S))
SETTINGS = {
    "data": DataSettings,
    "training": TrainingSettings,
    "evaluation": EvaluationSettings,
    "runs": RunSettings,
}
STATUS = re.compile(r"faithful( \((code|paper)\b.*\))?|(differs|not covered): .+")


def numbers(kind: str, last: int, *others: str) -> list[str]:
    return [f"{kind} {number}" for number in [*range(1, last + 1), *others]]


# read from the papers; of BIKE's Table 6 the letters, of DSTPR's Figure 5 too
PRINTED = {
    "BIKE": [
        *numbers("eq.", 9),
        *numbers("Table", 5, *(f"6{letter}" for letter in "abcdefghi")),
        *numbers("Figure", 3),
    ],
    "ALT": [*numbers("eq.", 10), *numbers("Table", 8, "C1", "C2", "C3", "C4"), *numbers("Figure", 4, "A1")],
    "SLLM": [
        *numbers("eq.", 15),
        "Algorithm 1",
        *numbers("Table", 13),
        *numbers("Figure", 0, "1a", "1b", "2", "3", "4", "5"),
    ],
    "DSTPR": [
        *numbers("eq.", 18),
        *numbers("Table", 9),
        *numbers("Figure", 4, "5a", "5b", "5c", "6", "7", "8"),
    ],
}
PAPERS = [*PRINTED, "Baselines"]
OF_PAPER = {paper: [name for name in RECIPES if name.startswith(f"{paper.lower()}/")] for paper in PRINTED}
OF_PAPER["ALT"] += [name for name in RECIPES if name.startswith("xclip/")]
OF_PAPER["Baselines"] = [name for name in RECIPES if name.startswith(("text4vis/", "actionclip/", "tam/"))]


def table(section: str) -> list[list[str]]:
    """Return the cells of the rows of a section's table, without its head."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def labels(text: str) -> list[str]:
    """Return what "Tables 6e, 6f and 6g, README", "eq. 9-10, loss" or "Figure 5a" names, one by one."""
    found = []
    for kind, some in re.findall(r"(eq\.|Table|Figure|Section|Algorithm)s? ((?:[A-Z]?\d[\w.-]*(?:, | and )?)+)", text):
        for number in re.findall(r"[A-Z]?\d(?:[\w.-]*\w)?", some):
            first, _, last = number.partition("-")
            span = range(int(first), int(last) + 1) if last else [first]
            found += [f"{kind} {one}" for one in span]
    return found


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def covered(where: str) -> set[str]:
    """Return the recipes that a cell names by patterns."""
    return {name for pattern in names(where) for name in RECIPES if fnmatch(name, pattern)}


def is_known(name: str) -> bool:
    """Check that a recipe, a command with its options, a setting, or something inside of the package exists."""
    if name.startswith("kinoclip "):
        _, command, *options = name.split()
        parser = next(action for action in _build_parser()._actions if action.dest == "command").choices.get(command)
        return parser is not None and set(options) <= set(parser._option_string_actions)
    if "/" in name:
        return bool(covered(f"`{name}`"))
    section, _, field = name.partition(".")
    if field in getattr(SETTINGS.get(section), "__dataclass_fields__", ()):
        return True
    try:
        resolve_name(f"kinoclip.{name}")
    except (ImportError, AttributeError):
        return False
    return True


def test_labels_are_read_as_the_papers_and_recipes_write_them():
    assert labels("Tables 6e, 6f, 6g and 6i, README") == ["Table 6e", "Table 6f", "Table 6g", "Table 6i"]
    assert labels("eq. 9-10, loss of 3 views") == ["eq. 9", "eq. 10"]
    assert labels("Tables C3 and C4") == ["Table C3", "Table C4"]
    assert labels("Figure 5a") + labels("Section 3.2, UCF101") == ["Figure 5a", "Section 3.2"]


@pytest.mark.parametrize("paper", PRINTED)
def test_every_equation_table_and_figure_of_a_paper_has_a_row(paper):
    items = [label for item, *_ in table(paper) for label in labels(item)]
    assert [label for label in PRINTED[paper] if label not in items] == []
    assert [label for label in items if label not in PRINTED[paper] and label[:8] != "Section "] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_every_row_has_four_cells_and_an_item_of_its_own(paper):
    rows = table(paper)
    assert [row for row in rows if len(row) != 4] == []
    assert max(Counter(row[0] for row in rows).values()) == 1


@pytest.mark.parametrize("paper", PAPERS)
def test_a_status_has_one_of_three_forms_and_a_faithful_row_its_tests(paper):
    rows = table(paper)
    assert [row for row in rows if STATUS.fullmatch(row[2]) is None] == []
    assert [row[0] for row in rows if row[2].startswith("faithful") and not names(row[3])] == []
    tests = [test for *_, held in rows for test in names(held)]
    assert [test for test in tests if not (test.startswith("tests/") and (ROOT / test).is_file())] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_what_a_row_names_exists(paper):
    assert [name for _, where, *_ in table(paper) for name in names(where) if not is_known(name)] == []


@pytest.mark.parametrize("paper", PAPERS)
def test_every_recipe_of_a_paper_is_in_a_row(paper):
    found = set().union(*(covered(where) for _, where, *_ in table(paper)))
    assert [name for name in OF_PAPER[paper] if name not in found] == []


@pytest.mark.parametrize("paper", PRINTED)
def test_a_recipe_is_in_the_row_of_every_table_that_prints_it(paper):
    rows = [(labels(item), covered(where)) for item, where, *_ in table(paper)]
    wrong = [
        (name, label)
        for name in OF_PAPER[paper]
        for label in labels(RECIPES[name].table)
        if not any(label in items and name in recipes for items, recipes in rows)
    ]
    assert wrong == []


def test_the_strict_table_is_that_of_the_configs():
    listed = {
        (method, *names(field), *map(literal_eval, names(default) + names(strict)))
        for method, field, default, strict, _ in table("Default and strict")
    }
    configs = {method: METHODS[method].config for method in METHODS}
    assert listed == {
        (method, field, getattr(config(), field), strict)
        for method, config in configs.items()
        for field, strict in config.strict_settings.items()
    }


def test_the_numbers_of_the_corpus_are_those_of_the_file():
    corpus = load_corpus("kinetics400")
    counts = Counter(entity.category for entity in corpus)
    written = sum(entity.source == "units" for entity in corpus)
    shares = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    assert set(counts) == set(CATEGORIES)
    assert f"{len(corpus):,} entities ({shares}), {written:,} from written units" in SECTIONS["ALT"]
    assert f"`kinetics400-wordnet` has {len(load_corpus('kinetics400-wordnet')):,}" in SECTIONS["ALT"]


def test_selections_and_measured_names_are_those_of_the_code():
    assert [literal_eval(names(row[0])[0]) for row in table("Selection")] == ["last", "validation", "test"]
    measured = {name for row in table("Numbers") for name in names(row[1])}
    printed = {key for recipe in RECIPES.values() for key in recipe.paper if not key.startswith("kinetics600/")}
    missing = {key for key in printed if not any(fnmatch(key, pattern) for pattern in measured)}
    assert missing == {"gflops"}  # measured as gmac
