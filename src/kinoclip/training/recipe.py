"""Recipes: rows of the papers' tables as data, read from `recipes/*.toml`. `recipe_file.py` describes the format."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from huggingface_hub.errors import StrictDataclassError

from kinoclip.evaluation.protocols import find_protocol
from kinoclip.methods import METHODS
from kinoclip.text.labels import nearest
from kinoclip.training.recipe_file import check_names, check_type, join_texts, parse_rows
from kinoclip.training.settings import DataSettings, EvaluationSettings, LoraSettings, RunSettings, TrainingSettings

# the row that is named like its file
_DEFAULT = "default"
_TABLE = re.compile(r"(table|figure|fig\.|section)s?\s+", re.I)
_SECTIONS: dict[str, type | None] = {
    "model": None,  # checked by the method's config
    "data": DataSettings,
    "training": TrainingSettings,
    "evaluation": EvaluationSettings,
    "runs": RunSettings,
    "paper": None,
}


@dataclass(frozen=True)
class Recipe:
    """How one row of a paper is trained and measured."""

    name: str  # such as "bike/t6a-vcs"
    method: str  # folder of `kinoclip.methods`
    title: str
    table: str  # where the paper prints the row
    dataset: str  # name in the catalog; empty for any data
    model: dict[str, Any]  # config fields
    data: dict[str, Any]  # every field of `DataSettings`
    training: TrainingSettings
    evaluation: dict[str, Any]  # every field of `EvaluationSettings`
    runs: RunSettings
    paper: dict[str, Any]  # numbers, as the paper prints them
    caveats: tuple[str, ...]  # limitations of the paper's number
    start: str  # a CLIP, or the recipe whose result is trained further

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> Self:
        """Build a recipe from a row; unknown keys, and invalid or contradictory values, are a `ValueError`."""
        texts = {"method": "", "title": "", "table": "", "dataset": "", "start": ""}
        check_names(name, content, [*texts, *_SECTIONS, "caveats", "note"])
        for key in texts:
            texts[key] = check_type(name, key, content.get(key, ""), str)
        if texts["method"] not in METHODS:
            raise ValueError(f"{name}: method must be one of {', '.join(METHODS)}, got {texts['method']!r}.")
        sections = {key: dict(check_type(name, key, content.get(key, {}), dict)) for key in _SECTIONS}
        caveats = join_texts(content.get("caveats", []), content.get("note", []))
        lora = dict(check_type(name, "training.lora", sections["training"].get("lora", {}), dict))
        training = {**sections["training"], "lora": build_settings(name, "training.lora", LoraSettings, lora)}
        recipe = cls(
            **texts,
            name=name,
            model=sections["model"],
            data=asdict(build_settings(name, "data", DataSettings, sections["data"])),
            training=build_settings(name, "training", TrainingSettings, training),
            evaluation=asdict(build_settings(name, "evaluation", EvaluationSettings, sections["evaluation"])),
            runs=build_settings(name, "runs", RunSettings, sections["runs"]),
            paper=sections["paper"],
            caveats=tuple(check_type(name, "caveats", caveat, str) for caveat in caveats),
        )
        recipe._check_training()
        recipe._check_evaluation()
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Return the argument `content` of `from_dict`."""
        content = asdict(self)
        del content["name"]
        return {**content, "caveats": list(self.caveats)}

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """Return a copy with other settings, by dotted name: `{"training.epochs": 2, "model.num_frames": 4}`.

        Unknown names and invalid values are a `ValueError`.
        """
        content = self.to_dict()
        for path, value in settings.items():
            *parents, last = path.split(".")
            table = content
            for part in parents:
                table = table.get(part) if isinstance(table, dict) else None  # type: ignore[assignment]
            open_ended = parents in (["model"], ["paper"], ["training", "groups"])
            if not isinstance(table, dict) or (last not in table and not open_ended):
                raise ValueError(f"{self.name} has no setting {path!r}.{nearest(path, _all_names(content))}")
            table[last] = value
        return type(self).from_dict(self.name, content)

    def strict(self) -> Self:
        """Return the recipe as the paper states it: its own model fields over the strict settings of its method."""
        config = _check_model(self.name, self.method, self.model)
        inner = getattr(config, "recognizer_config", None)
        strict = {**getattr(inner, "strict_settings", {}), **config.strict_settings}
        return type(self).from_dict(self.name, {**self.to_dict(), "model": {**strict, **self.model}})

    @property
    def data_settings(self) -> DataSettings:
        """`data`, with its fields as attributes."""
        return DataSettings(**self.data)

    @property
    def evaluation_settings(self) -> EvaluationSettings:
        """`evaluation`, with its fields as attributes."""
        return EvaluationSettings(**self.evaluation)

    def _check_training(self) -> None:
        config = _check_model(self.name, self.method, self.model)
        mixes = [name for name in ("mixup", "cutmix", "label_smoothing") if self.data[name]]
        if self.training.objective == "captions" and mixes:
            raise ValueError(
                f'{self.name}: {mixes[0]} needs training.objective = "candidates": captions are not mixed.'
            )
        if self.data["label_smoothing"] and getattr(config, "label_smoothing", 0.0):
            raise ValueError(
                f"{self.name}: the loss of {self.method} smooths labels itself (model.label_smoothing = "
                f"{config.label_smoothing}). Set data.label_smoothing or model.label_smoothing to 0."
            )
        if self.training.objective == "captions" and not config.reads_text:
            raise ValueError(f'{self.name}: the model reads no text. Set training.objective = "candidates".')
        if self.training.objective == "candidates" and config.loss != "cross_entropy":
            raise ValueError(
                f"{self.name}: the loss {config.loss!r} compares the videos of a batch, but training.objective is "
                '"candidates". Set model.loss = "cross_entropy", or training.objective = "captions".'
            )

    def _check_evaluation(self) -> None:
        rules = self.evaluation_settings
        for key in ("protocol", "validation_protocol"):
            try:
                protocol = find_protocol(self.evaluation[key])
            except ValueError as error:
                raise ValueError(f"{self.name}, evaluation.{key}: {error}") from error
            phrases = self.data["attributes"] or self.data["test_attributes"]
            if protocol.needs_attributes and not phrases:
                raise ValueError(
                    f"{self.name}: evaluation.{key} = {self.evaluation[key]!r} needs attributes. Set data.attributes."
                )
            if phrases and not protocol.reads_attributes:
                raise ValueError(
                    f"{self.name}: evaluation.{key} = {self.evaluation[key]!r} does not read attributes. Leave data.attributes "
                    "out, or use a protocol that reads them, such as 'bike_fused'."
                )
        if self.runs.rates and rules.selection != "validation":
            raise ValueError(f'{self.name}: runs.rates needs evaluation.selection = "validation".')
        if rules.class_lists and find_protocol(rules.protocol).classes != "all":
            raise ValueError(
                f"{self.name}: {rules.protocol!r} scores its own sets of classes. Leave evaluation.class_lists out."
            )
        if self.name in (*rules.mean_of, rules.gain_over):
            raise ValueError(f"{self.name}: evaluation.mean_of and gain_over must name other recipes.")
        own = [key for key in ("class_lists", "data", "gain_over") if self.evaluation[key]]
        own += ["runs"] if self.runs != RunSettings() else []
        if rules.mean_of and own:
            raise ValueError(f"{self.name}: a mean of other recipes is not measured itself. Leave out {own[0]}.")


def load_recipe(name: str | Path) -> Recipe:
    """Load a recipe by name, or the row "default" of your own TOML file.

    A file that does not exist is a `FileNotFoundError`; an unknown name or invalid content a `ValueError`.
    """
    name = str(name)
    if name.endswith(".toml"):
        rows = parse_rows(Path(name).read_text(encoding="utf-8"), name)
        return Recipe.from_dict(Path(name).stem, rows.get(_DEFAULT, {}))
    known = _all_rows()
    if name not in known:
        raise ValueError(f"Unknown recipe {name!r}.{nearest(name, known)} `kinoclip recipes` lists all of them.")
    return Recipe.from_dict(name, known[name])


def recipe_names() -> list[str]:
    """Return the names of all recipes of this package."""
    return list(_all_rows())


def find_recipes(names: Sequence[str]) -> list[str]:
    """Return the names of the recipes that are meant, each once; raise a `ValueError` if there are none.

    A name is that of a recipe, a file of recipes ("bike"), a table or figure of it ("bike/Table 6a"), a TOML file, or
    "all".
    """
    known = recipe_names()
    found: dict[str, None] = {}
    for name in names:
        file, _, table = name.partition("/")
        if name in known or name.endswith(".toml"):
            found[name] = None
            continue
        rows = [row for row in known if name == "all" or row.partition("/")[0] == file]
        if table:
            tables = {row: load_recipe(row).table for row in rows}
            rows = [row for row, printed in tables.items() if _names_table(printed, table)]
            if tables and not rows and _TABLE.match(table):
                printed = ", ".join(dict.fromkeys(filter(None, tables.values())))
                raise ValueError(f"{file} has no row of {table!r}. Its rows are of: {printed}.")
        if not rows:
            load_recipe(name)  # raises an error that names the nearest recipe
        found.update(dict.fromkeys(rows))
    return list(found)


def _names_table(printed: str, table: str) -> bool:
    """Check whether "Tables 3 to 5" or "Table 6d, README" includes "table 4" or "Table 6d"."""
    kind = _TABLE.match(table)
    if kind is None:
        return printed.lower() == table.lower()
    numbers: set[str] = set()
    for part in re.split(r"(?=\b(?:Table|Figure|Section))", printed):
        if part.lower().startswith(kind[1].lower()[:3]):
            numbers |= set(re.findall(r"[A-Z]?\d+[a-z]?", part))
            for first, last in re.findall(r"(\d+) to (\d+)", part):
                numbers |= {str(number) for number in range(int(first), int(last) + 1)}
    return table[kind.end() :] in numbers


@cache
def _all_rows() -> dict[str, dict[str, Any]]:
    rows = {}
    for file in sorted((files("kinoclip.training") / "recipes").iterdir(), key=lambda file: file.name):
        stem, _, ending = file.name.rpartition(".")
        if ending == "toml":
            for row, content in parse_rows(file.read_text(encoding="utf-8"), file.name).items():
                rows[stem if row == _DEFAULT else f"{stem}/{row}"] = content
    return rows


def read_table(file: str, table: str) -> dict[str, Any]:
    """Return a table of a recipe file of this package that is not a row, such as "claims"; empty if there is none."""
    path = files("kinoclip.training") / "recipes" / f"{file}.toml"
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return dict(found.get(table, {}))


def build_settings(name: str, section: str, kind: type, values: dict[str, Any]) -> Any:
    """Build a dataclass from a table; unknown keys and invalid values are a `ValueError` that names the section."""
    check_names(name, values, [field.name for field in fields(kind)], prefix=f"{section}.")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}, [{section}]: {error}") from error


def _check_model(name: str, method: str, model: dict[str, Any]) -> Any:
    """Build the config of the fields, on towers of default sizes."""
    try:
        return METHODS[method].config.from_clip_fields({}, **model)
    except (StrictDataclassError, ValueError) as error:
        raise ValueError(f"{name}, [model]: {' '.join(str(error).split())}") from error


def _all_names(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in content.items():
        names += _all_names(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]
    return names
