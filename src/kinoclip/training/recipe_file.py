"""The format of recipe files: one TOML table for each row of a paper, or for a matrix of rows.

`[defaults]` is what all rows of a file share, and a row may be `like` a row above it.

    [defaults]
    method = "bike"                     # folder of `kinoclip.methods`
    dataset = "kinetics400"             # name in the catalog, or "" for any data
    start = "openai/clip-vit-base-patch32"      # a CLIP, or the recipe whose result is trained further: "bike/t1-l14-16f"
    caveats = ["..."]                   # what a reader of the numbers should know; rows add to those that they inherit
    model.num_frames = 8                # fields of the method's config; `recognizer = "text4vis"` is what SLLM wraps
    training.epochs = 30                # fields of `TrainingSettings`; `data`, `evaluation` and `runs` likewise

    [t6a-vcs]
    table = "Table 6a"
    title = "K400, B/32, 8 frames: saliency, no temporal transformer"
    note = "the log has 78.6"           # a caveat of this row's printed numbers, which rows `like` this one do not inherit
    model.temporal_head = "none"
    paper.top1 = 78.5                   # numbers as the paper prints them, named as they are measured; not inherited either

    [t6a-transformer]
    like = "t6a-vcs"

`rows` makes a matrix: one row for each combination of the values of the axes in the pattern. The last axis varies fastest.

    [axes.data]                         # value = { what it is called, and the settings of its rows }
    k400 = { name = "", title = "K400", dataset = "kinetics400" }
    hmdb51 = { title = "HMDB51", dataset = "hmdb51" }

    [t2]
    rows = "t2-{clip}-{data}"           # t2-b16, t2-b16-hmdb51, t2-l14, t2-l14-hmdb51
    like = "t1-{clip}"
    title = "{data}, {clip}"            # "K400, B/16"
    only.clip = ["b16", "l14"]          # some values of an axis instead of all
    paper.top1 = [[84.0, 71.1], [87.4, nan]]    # one number for each row; nan where the paper prints none
    except.t2-l14.training.epochs = 20  # settings of a single row

`{data}` stands for the `title` of the value in texts that people read, for its `name` where recipes are named (an empty name takes
its hyphen with it), and for the value itself elsewhere, as it does where `title` or `name` is left out. The settings of a later axis
replace those of an earlier one, and those of the table replace both.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from difflib import get_close_matches
from itertools import product
from math import isnan
from typing import Any

_PLACEHOLDER = re.compile(r"\{([\w-]+)\}")
_READ, _NAMED = {"title", "table", "caveats", "note"}, {"like", "start", "mean_of", "gain_over"}
_NOT_INHERITED = {"paper", "note"}


def parse_rows(text: str, source: str) -> dict[str, dict[str, Any]]:
    """Parse a recipe file into its rows, each merged with what it inherits.

    Args:
        text: of the file.
        source: name of the file in errors.

    Raises:
        ValueError: invalid TOML, or a table that does not follow the format; the message names the table.
    """
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{source} is no TOML file: {error}.") from error
    defaults, axes = content.pop("defaults", {}), content.pop("axes", {})
    rows: dict[str, dict[str, Any]] = {}
    for table, given in content.items():
        where = f"{source}, [{table}]"
        for row, own in _expand(where, table, of_kind(source, table, given, dict), axes):
            like = own.pop("like", None)
            if like is not None and like not in rows:
                raise ValueError(f"{where}: {row} is like {like!r}, and no row above it has that name.")
            if row in rows:
                raise ValueError(f"{where}: there is a row {row!r} above. Each row needs a name of its own.")
            base = defaults if like is None else {k: v for k, v in rows[like].items() if k not in _NOT_INHERITED}
            rows[row] = _merge(base, own)
    return rows


def _expand(
    where: str, table: str, given: dict[str, Any], axes: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a table by name: itself, or those of its matrix."""
    if "rows" not in given:
        yield table, dict(given)
        return
    shared = {key: value for key, value in given.items() if key not in ("rows", "only", "except")}
    pattern = of_kind(where, "rows", given["rows"], str)
    only, single, paper = (of_kind(where, key, given.get(key, {}), dict) for key in ("only", "except", "paper"))
    used = _PLACEHOLDER.findall(pattern)
    check_names(where, used, axes, "axis")
    check_names(where, only, used, "axis in `rows`")
    values = {axis: of_kind(where, f"axes.{axis}", axes[axis], dict) for axis in used}
    for axis, chosen in only.items():
        check_names(where, chosen, values[axis], f"value of the axis {axis!r}:")
    cells = list(product(*(only.get(axis, values[axis]) for axis in used)))
    columns = {key: _flat(value) for key, value in paper.items() if isinstance(value, list)}
    for key, column in columns.items():
        if len(column) != len(cells):
            raise ValueError(
                f"{where}: paper.{key} has {len(column)} numbers for {len(cells)} rows. Give one for each row, the last axis of "
                f"{pattern!r} fastest, and nan where the paper prints none."
            )
    names = []
    for place, cell in enumerate(cells):
        row: dict[str, Any] = {}
        words: dict[str, dict[str, str]] = {"": dict(zip(used, cell, strict=True)), "read": {}, "named": {}}
        for axis, value in words[""].items():
            settings = dict(of_kind(where, f"axes.{axis}.{value}", values[axis][value], dict))
            words["read"][axis], words["named"][axis] = settings.pop("title", value), settings.pop("name", value)
            row = _merge(row, settings)
        row = _merge(row, {**shared, "paper": {**paper, **{key: column[place] for key, column in columns.items()}}})
        names.append(_fill(where, pattern, words, "named"))
        yield names[-1], _merge(_fill(where, row, words), single.get(names[-1], {}))
    check_names(where, single, names, "row")


def _fill(where: str, value: Any, words: Mapping[str, Mapping[str, str]], kind: str = "") -> Any:
    """Replace `{axis}` in all texts of a row."""
    if isinstance(value, dict):
        kinds = {key: "read" if key in _READ else "named" if key in _NAMED else kind for key in value}
        return {key: _fill(where, one, words, kinds[key]) for key, one in value.items()}
    if isinstance(value, list):
        return [_fill(where, one, words, kind) for one in value]
    if not isinstance(value, str) or not (used := _PLACEHOLDER.findall(value)):
        return value
    check_names(f"{where}, {value!r}", used, words[kind], "axis in `rows`")
    filled = _PLACEHOLDER.sub(lambda found: words[kind][found[1]], value)
    return re.sub("(?<![^/])-|-(?=/|$)", "", re.sub("-+", "-", filled)) if kind == "named" else filled


def _flat(value: Any) -> list[Any]:
    return [one for part in value for one in _flat(part)] if isinstance(value, list) else [value]


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables. Caveats and notes add up; numbers that are nan are left out."""
    merged = deepcopy(dict(base))
    for key, value in over.items():
        if key in ("caveats", "note"):
            merged[key] = join_texts(merged.get(key, []), value)
        elif isinstance(value, dict):
            merged[key] = _merge(merged[key] if isinstance(merged.get(key), dict) else {}, value)
        elif not (isinstance(value, float) and isnan(value)):
            merged[key] = value
    return merged


def join_texts(*several: Any) -> list[Any]:
    """Concatenate texts and lists of texts, without duplicates."""
    return list(dict.fromkeys(text for one in several for text in (one if isinstance(one, list) else [one])))


def check_names(
    where: str, given: Iterable[str], known: Iterable[str], kind: str = "setting", prefix: str = ""
) -> None:
    """Raise a ValueError that names the first unknown name, and the nearest known one."""
    known = list(known)
    for name in given:
        if name not in known:
            raise ValueError(f"{where}: there is no {kind} {prefix + str(name)!r}.{nearest(str(name), known)}")


def of_kind(where: str, key: str, value: Any, kind: type) -> Any:
    """Return a value, or raise a ValueError where it is not of the kind."""
    if not isinstance(value, kind):
        raise ValueError(f"{where}: {key} is {value!r}. It is a {'text' if kind is str else 'table'}.")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the known name that is most like an unknown one; empty where none is."""
    ends = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    close = (ends or get_close_matches(name, known, n=1, cutoff=0.4))[:1]
    return f" The nearest known one is {close[0]!r}." if close else ""
