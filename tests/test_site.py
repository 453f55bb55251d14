"""The documentation site: what its hooks add to the pages, and that its configuration names what exists."""

import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import kinoclip
from kinoclip.methods import METHODS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def pages():
    """The names of the module `pages`."""
    yield runpy.run_path(str(DOCS / "hooks" / "pages.py"))
    sys.path.remove(str(DOCS / "hooks"))
    sys.modules.pop("models", None)


@pytest.fixture(scope="module")
def models(pages):
    return sys.modules["models"]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_page_shows_code_that_its_files_define(name, pages):
    page = DOCS / "methods" / f"{name}.md"
    links = pages["_CODE_LINK"].findall(page.read_text(encoding="utf-8"))
    assert links
    for code, file in links:
        assert f"def {code.split('.')[-1]}" in pages["read_code"](page.parent / file, code)


def test_code_on_a_page_has_no_docstring_and_starts_at_the_margin(pages):
    code = pages["read_code"](ROOT / "src/kinoclip/modeling/layers/text_features.py", "ensemble")
    assert code.startswith("def ensemble(embeds: Tensor) -> Tensor:\n    return ")
    assert '"""' not in code


def test_a_name_that_a_file_does_not_define_is_an_error(pages):
    with pytest.raises(ValueError, match=r"text_features\.py must define missing"):
        pages["read_code"](ROOT / "src/kinoclip/modeling/layers/text_features.py", "missing")


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("README.md", "docs/methods/bike.md", "methods/bike.md"),
        ("README.md", ".github/why.png", "assets/why.png"),
        ("docs/methods/bike.md", "../../README.md", "../index.md"),
        ("docs/methods/bike.md", "../attributes.md", "../attributes.md"),
        (".github/FIDELITY.md", "../docs/corpus.md", "../corpus.md"),
        ("docs/export.md", "../examples/export", "https://host/tree/main/examples/export"),
        ("README.md", "docs/methods", "https://host/tree/main/docs/methods"),
        ("docs/python.md", "../LICENSE", "https://host/blob/main/LICENSE"),
        ("docs/python.md", "https://arxiv.org/abs/2301.00182", "https://arxiv.org/abs/2301.00182"),
    ],
)
def test_a_link_leads_to_a_page_of_the_site_or_into_the_repository(source, target, expected, pages):
    assert pages["resolve_link"](source, target, "https://host") == expected


def test_a_link_to_nothing_is_an_error(pages):
    with pytest.raises(FileNotFoundError, match=r"README\.md links to nowhere\.md"):
        pages["resolve_link"]("README.md", "nowhere.md", "https://host")


def test_a_row_of_the_table_has_printed_number_cost_and_license(models):
    row = models._CARDS["read_checkpoints"]()["bike-vitl14"]
    [line] = models.describe_checkpoint("bike-vitl14", {**row, "rows": ["bike/t1-l14-16f"]})
    cells = dict(zip(models._HEAD, line, strict=True))
    # Table 1 of the paper prints 88.1; `kinoclip profile bike --clip vitl14 --frames 16` counts 1296.9 GMAC and 346.6 M
    assert cells["Printed, %"] == "88.1"
    assert (cells["GMAC"], cells["Parameters, M"]) == ("1296.9", "346.6")
    assert (cells["Backbone"], cells["Frames"], cells["Views"]) == ("ViT-L/14", "16", "4 x 3")
    assert cells["License"] == "MIT"


def test_measured_numbers_are_those_of_the_reports(models):
    measured = {line[2].split(",")[0]: line[4] for line in models.describe_embedded()}
    assert measured == {"kinofigures/actions": "98.4", "kinofigures/shifted": "96.9", "kinofigures/views": "94.3"}


def test_every_public_name_is_in_the_reference():
    documented = set(re.findall(r"^::: .*\.(\w+)$", (DOCS / "api.md").read_text(), re.M))
    # the classes of the methods are on their pages
    of_methods = {one.__name__ for method in METHODS.values() for one in method[:3]}
    assert documented | of_methods >= set(kinoclip.__all__)


def test_the_site_and_the_package_name_the_same_repository():
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
    assert (site["extra"]["repository"], site["site_url"]) == (urls["Source"], urls["Documentation"])
