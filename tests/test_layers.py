"""The layers of the package: imports go downward only, and what is general never names a method."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "kinoclip"
# from the ground up; a module imports its own folder and folders of lower levels
LEVELS = (
    ("lazy",),
    ("registration", "storage"),
    ("addresses",),
    ("video", "text"),
    ("modeling",),
    ("methods",),
    ("kinoshapes",),
    ("data",),
    ("explain",),
    ("export",),
    ("evaluation",),
    ("inference",),
    ("training",),
    ("hub",),
    ("space",),
    ("__init__",),
    ("cli",),
    ("__main__",),
)
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
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


def folder_of(parts: tuple[str, ...]) -> str:
    """Return the folder of the package, or the file of its root, that a module is in."""
    return parts[0].removesuffix(".py") if parts else "__init__"


def test_every_folder_and_every_file_of_the_root_has_a_level():
    found = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert found == set(LEVEL)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_imports_its_own_folder_and_lower_levels_only(module):
    own = folder_of(module.parts)
    names = {name: folder_of(name) for name in imported(module)}
    upward = {".".join(name) for name, folder in names.items() if folder != own and LEVEL[folder] >= LEVEL[own]}
    assert not upward


def test_no_module_imports_itself_through_others():
    known = {tuple(module.with_suffix("").parts): module for module in MODULES}
    known |= {parts[:-1]: module for parts, module in list(known.items()) if parts[-1] == "__init__"}
    edges = {
        module: {known[name[:n]] for name in imported(module) for n in range(1, len(name) + 1) if name[:n] in known}
        for module in MODULES
    }
    edges = {
        module: {name for name in names - {module} if name.name != "__init__.py"} for module, names in edges.items()
    }
    while leaves := [module for module, names in edges.items() if not names & edges.keys()]:
        for module in leaves:
            del edges[module]
    assert not edges, f"import cycles among {sorted(map(str, edges))}"


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
def test_a_source_file_has_at_most_600_lines(module):
    assert len((PACKAGE / module).read_text().splitlines()) <= 600
