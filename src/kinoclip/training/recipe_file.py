"""The format of recipe files: one TOML table for each row of a paper, or for a matrix of rows.

`[defaults]` holds what all rows of a file share. A row may be `like` a row above it, and then inherits its settings.

    [defaults]
    method = "bike"                     # folder of `kinoclip.methods`
    dataset = "kinetics400"             # name in the catalog, or "" for any data
    start = "openai/clip-vit-base-patch32"      # a CLIP, or the recipe whose result is trained further: "bike/t1-l14-16f"
    caveats = ["..."]                   # limitations of the numbers; rows add to those that they inherit
    model.num_frames = 8                # fields of the method's config; SLLM wraps `recognizer = "text4vis"`
    training.epochs = 30                # fields of `TrainingSettings`; `data`, `evaluation` and `runs` likewise

    [t6a-vcs]
    table = "Table 6a"
    title = "K400, B/32, 8 frames: saliency, no temporal transformer"
    note = "the log has 78.6"           # a caveat of this row's printed numbers; not inherited
    model.temporal_head = "none"
    paper.top1 = 78.5                   # numbers as the paper prints them, named as they are measured; not inherited

    [t6a-transformer]
    like = "t6a-vcs"

`rows` makes a matrix: one row for each combination of the values of the axes in the pattern. The last axis varies fastest.

    [axes.data]                         # value = { its name and title, and the settings of its rows }
    k400 = { name = "", title = "K400", dataset = "kinetics400" }
    hmdb51 = { title = "HMDB51", dataset = "hmdb51" }

    [t2]
    rows = "t2-{clip}-{data}"           # t2-b16, t2-b16-hmdb51, t2-l14, t2-l14-hmdb51
    like = "t1-{clip}"
    title = "{data}, {clip}"            # "K400, B/16"
    only.clip = ["b16", "l14"]          # some values of an axis instead of all
    paper.top1 = [[84.0, 71.1], [87.4, nan]]    # one number for each row; nan where the paper prints none
    except.t2-l14.training.epochs = 20  # settings of a single row

`[claims]` lists what is decided from the rows of a file, see `claims.Claim`, and `[quick]` the rows and settings of
`kinoclip reproduce --quick`.

    [claims]
    BIKE = [{ text = "saliency beats the mean of the frames", row = "t6a-vcs", over = "t6a-mean" }]

    [quick]
    rows = ["t6a-vcs", "t6a-mean"]
    settings = { "training.epochs" = 2 }
    data = ["kinoshapes=kinoshapes/actions:16:4"]   # unless --data is given

`{data}` stands for the `title` of the value in titles, tables and caveats, for its `name` in names of recipes (an empty name removes
its hyphen too), and for the value itself elsewhere. `title` and `name` default to the value. The settings of a later axis replace
those of an earlier one, and those of the table replace both.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from itertools import product
from math import isnan
from typing import Any

from kinoclip.text.labels import nearest

_PLACEHOLDER = re.compile(r"\{([\w-]+)\}")
# tables of a file that are not rows
OTHER_TABLES = ("claims", "quick")
_READ, _NAMED = {"title", "table", "caveats", "note"}, {"like", "start", "mean_of", "gain_over"}
_NOT_INHERITED = {"paper", "note"}


def parse_rows(text: str, source: str) -> dict[str, dict[str, Any]]:
    """Parse the text of a recipe file into its rows, each merged with what it inherits.

    Invalid TOML, or a table that does not follow the format, is a `ValueError` that names the `source`.
    """
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{source} is not valid TOML: {error}.") from error
    defaults, axes = content.pop("defaults", {}), content.pop("axes", {})
    content = {name: table for name, table in content.items() if name not in OTHER_TABLES}
    rows: dict[str, dict[str, Any]] = {}
    for table, given in content.items():
        where = f"{source}, [{table}]"
        for row, own in _expand(where, table, check_type(source, table, given, dict), axes):
            like = own.pop("like", None)
            if like is not None and like not in rows:
                raise ValueError(f"{where}: {row} is like {like!r}, but no row above it has that name.")
            if row in rows:
                raise ValueError(f"{where}: the name {row!r} is used twice. Rename one of the rows.")
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
    pattern = check_type(where, "rows", given["rows"], str)
    only, single, paper = (check_type(where, key, given.get(key, {}), dict) for key in ("only", "except", "paper"))
    used = _PLACEHOLDER.findall(pattern)
    check_names(where, used, axes, "axis")
    check_names(where, only, used, "axis in `rows`")
    values = {axis: check_type(where, f"axes.{axis}", axes[axis], dict) for axis in used}
    for axis, chosen in only.items():
        check_names(where, chosen, values[axis], f"value of the axis {axis!r}:")
    cells = list(product(*(only.get(axis, values[axis]) for axis in used)))
    columns = {key: _flat(value) for key, value in paper.items() if isinstance(value, list)}
    for key, column in columns.items():
        if len(column) != len(cells):
            raise ValueError(
                f"{where}: paper.{key} must have one number for each of {len(cells)} rows, got {len(column)}. The last axis "
                f"of {pattern!r} varies fastest; write nan where the paper prints none."
            )
    names = []
    for number, cell in enumerate(cells):
        row: dict[str, Any] = {}
        words: dict[str, dict[str, str]] = {"": dict(zip(used, cell, strict=True)), "read": {}, "named": {}}
        for axis, value in words[""].items():
            settings = dict(check_type(where, f"axes.{axis}.{value}", values[axis][value], dict))
            words["read"][axis], words["named"][axis] = settings.pop("title", value), settings.pop("name", value)
            row = _merge(row, settings)
        row = _merge(row, {**shared, "paper": {**paper, **{key: column[number] for key, column in columns.items()}}})
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


def join_texts(*values: Any) -> list[Any]:
    """Concatenate texts and lists of texts, without duplicates."""
    return list(dict.fromkeys(text for value in values for text in (value if isinstance(value, list) else [value])))


def check_names(
    where: str, given: Iterable[str], known: Iterable[str], kind: str = "setting", prefix: str = ""
) -> None:
    """Raise a ValueError for the first unknown name, with the nearest known one."""
    known = list(known)
    for name in given:
        if name not in known:
            raise ValueError(f"{where}: unknown {kind} {prefix + str(name)!r}.{nearest(str(name), known)}")


def check_type(where: str, key: str, value: Any, kind: type) -> Any:
    """Return a value, or raise a ValueError if its type is wrong."""
    if not isinstance(value, kind):
        raise ValueError(f"{where}: {key} must be a {'text' if kind is str else 'table'}, got {value!r}.")
    return value
