"""Which recipes a name stands for, and where their data sets are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kinoclip.data.catalog import catalog

from .recipe import Recipe, load_recipe, recipe_names
from .starting import KINOSHAPES

_TABLE = re.compile(r"(table|figure|fig\.|section)s?\s+", re.I)


def find_rows(names: Sequence[str]) -> list[str]:
    """Return the recipes that some names stand for, each once.

    Args:
        names: a recipe, a file of recipes ("bike"), a table or figure of it ("bike/Table 6a"), the path of a TOML file, or "all".

    Raises:
        ValueError: no recipe has that name, file or table.
    """
    known = recipe_names()
    found: dict[str, None] = {}
    for name in names:
        file, _, table = name.partition("/")
        if name in known or name.endswith(".toml"):
            found[name] = None
            continue
        inside = [one for one in known if name == "all" or one.partition("/")[0] == file]
        if inside and _TABLE.match(table):
            tables = {one: load_recipe(one).table for one in inside}
            inside = [one for one, printed in tables.items() if _is_of_table(printed, table)]
            if not inside:
                printed = ", ".join(dict.fromkeys(filter(None, tables.values())))
                raise ValueError(f"{file} has no row of {table!r}. Its rows are of: {printed}.")
        elif table:
            inside = [one for one in inside if _is_of_table(load_recipe(one).table, table)]
        if not inside:
            load_recipe(name)  # its error names the nearest recipe
        found.update(dict.fromkeys(inside))
    return list(found)


def _is_of_table(printed: str, wanted: str) -> bool:
    """Check whether "Tables 3 to 5" or "Table 6d, README" names "table 4" or "Table 6d"."""
    kind = _TABLE.match(wanted)
    if kind is None:
        return printed.lower() == wanted.lower()
    numbers: set[str] = set()
    for part in re.split(r"(?=\b(?:Table|Figure|Section))", printed):
        if part.lower().startswith(kind[1].lower()[:3]):
            numbers |= set(re.findall(r"[A-Z]?\d+[a-z]?", part))
            for first, last in re.findall(r"(\d+) to (\d+)", part):
                numbers |= {str(number) for number in range(int(first), int(last) + 1)}
    return wanted[kind.end() :] in numbers


class DataSources:
    """Where the data sets of recipes are.

    Args:
        entries: `NAME=SOURCE` with a name of the catalog, or a bare source for every data set without an entry of its own; a
            folder `SOURCE/NAME` inside of it comes first.

    Raises:
        ValueError: two bare sources.
    """

    def __init__(self, entries: Sequence[str]):
        self._named: dict[str, str] = {}
        for entry in entries:
            name, equals, source = entry.partition("=")
            key, source = (name, source) if equals and name in (*catalog(), KINOSHAPES) else ("", entry)
            if key in self._named:
                raise ValueError(
                    f"--data is given twice for {key or 'all data sets'}: {self._named[key]} and {source}."
                )
            self._named[key] = source

    def find(self, recipe: Recipe) -> str:
        """Return the source of a recipe's data set.

        Raises:
            ValueError: none is given for it.
        """
        name, _, task = recipe.dataset.partition("/")
        if name == KINOSHAPES and (task or name not in self._named):
            return f"{name}/{task or 'actions'}"
        if name in self._named:
            return self._named[name]
        whole = self._named.get("")
        if whole is None:
            raise ValueError(
                f"{recipe.name} needs {recipe.dataset or 'videos'}, and no --data is given for it. Add --data "
                f"{recipe.dataset + '=' if recipe.dataset else ''}FOLDER."
            )
        inside = Path(whole) / name
        return str(inside) if name and inside.is_dir() else whole
