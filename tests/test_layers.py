"""The layers of the package: imports go downward only, and what is general never names a method."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "kinoclip"
# from the ground up; a module may import its own layer's and lower ones
LAYERS = (
    (
        "components",
        "video",
        "text",
        "outputs",
        "losses",
        "metrics",
        "conversion",
        "embedded",
        "importing",
        "torchscript",
        "shim",
        "whole_files",
    ),
    ("recognizer_config", "recognizer", "clip_recognizer_config", "clip_recognizer", "processing", "video_processing"),
    ("data", "methods"),
    ("training", "evaluation", "inference", "hub", "export"),
    ("registration", "public", "__init__"),
    ("cli", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
METHODS = sorted(path.name for path in (PACKAGE / "methods").iterdir() if (path / "__init__.py").exists())
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def imported(module: Path) -> list[tuple[str, ...]]:
    """Give what a module imports from this package, as parts of the dotted name without the first."""
    found = []
    package = ("kinoclip", *module.parts[:-1])
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = (*base, *(node.module or "").split("."))
            found += [(*name, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [tuple(alias.name.split(".")) for alias in node.names]
    return [tuple(part for part in name[1:] if part) for name in found if name[0] == "kinoclip"]


def layer_of(parts: tuple[str, ...]) -> str:
    first = parts[0].removesuffix(".py") if parts else "__init__"
    return first if first in LEVEL else "__init__"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_its_own_layer_and_lower_ones_only(module):
    level = LEVEL[layer_of(module.parts)]
    upward = [".".join(name) for name in imported(module) if LEVEL[layer_of(name)] > level]
    assert not upward


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[0] == "methods" and len(m.parts) > 2], ids=str)
def test_a_method_imports_no_other_method(module):
    others = [name for name in imported(module) if name[0] == "methods" and name[1] != module.parts[1]]
    assert not others


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.parts[0] in ("training", "evaluation", "inference", "hub", "export")], ids=str
)
def test_what_is_general_names_no_method(module):
    named = [name for name in imported(module) if len(name) > 1 and name[0] == "methods" and name[1] in METHODS]
    assert not named


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_source_file_has_at_most_350_lines(module):
    assert len((PACKAGE / module).read_text().splitlines()) <= 350
