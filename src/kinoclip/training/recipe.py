"""Recipes: rows of the papers' tables as data, read from `recipes/*.toml`, whose format `recipe_file.py` describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from huggingface_hub.errors import StrictDataclassError

from kinoclip.evaluation.protocols import find_protocol
from kinoclip.methods import METHODS

from .recipe_file import check_names, join_texts, nearest, of_kind, parse_rows
from .settings import DataSettings, EvaluationSettings, LoraSettings, RunSettings, TrainingSettings

# the row that has the name of its file alone
_ALONE = "default"
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
    """How one row of a paper is trained and measured.

    Attributes:
        name: "bike/t6a-vcs".
        method: folder of `kinoclip.methods`.
        title: what the row shows.
        table: where the paper prints it.
        dataset: name in the catalog; empty for any data.
        model: config fields.
        data: every field of `DataSettings`.
        training: how the weights are changed.
        evaluation: every field of `EvaluationSettings`.
        runs: the runs behind a number.
        paper: numbers, as the paper prints them.
        caveats: what a reader of the paper's number should know.
        start: the CLIP, or the recipe whose result is trained further.
    """

    name: str
    method: str
    title: str
    table: str
    dataset: str
    model: dict[str, Any]
    data: dict[str, Any]
    training: TrainingSettings
    evaluation: dict[str, Any]
    runs: RunSettings
    paper: dict[str, Any]
    caveats: tuple[str, ...]
    start: str

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> Self:
        """Check the content of a row and build the recipe.

        Raises:
            ValueError: an unknown key, a value of the wrong kind, or settings that exclude each other; the message names them.
        """
        texts = {"method": "", "title": "", "table": "", "dataset": "", "start": ""}
        check_names(name, content, [*texts, *_SECTIONS, "caveats", "note"])
        for key in texts:
            texts[key] = of_kind(name, key, content.get(key, ""), str)
        if texts["method"] not in METHODS:
            raise ValueError(f"{name}: there is no method {texts['method']!r}. Use one of {', '.join(METHODS)}.")
        sections = {key: dict(of_kind(name, key, content.get(key, {}), dict)) for key in _SECTIONS}
        caveats = join_texts(content.get("caveats", []), content.get("note", []))
        recipe = cls(
            **texts,
            name=name,
            model=sections["model"],
            data=asdict(_build(name, "data", DataSettings, sections["data"])),
            training=_build_training(name, sections["training"]),
            evaluation=asdict(_build(name, "evaluation", EvaluationSettings, sections["evaluation"])),
            runs=_build(name, "runs", RunSettings, sections["runs"]),
            paper=sections["paper"],
            caveats=tuple(of_kind(name, "caveats", caveat, str) for caveat in caveats),
        )
        recipe._check_training()
        recipe._check_evaluation()
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Return the content that `from_dict` takes, without the name."""
        content = asdict(self)
        del content["name"]
        return {**content, "caveats": list(self.caveats)}

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """Return a recipe with other settings, by dotted name: `{"training.epochs": 2, "model.num_frames": 4}`.

        Raises:
            ValueError: an unknown name, or a value that is not allowed.
        """
        content = self.to_dict()
        for path, value in settings.items():
            *way, last = path.split(".")
            table = content
            for part in way:
                table = table.get(part) if isinstance(table, dict) else None  # type: ignore[assignment]
            open_ended = way in (["model"], ["paper"], ["training", "groups"])
            if not isinstance(table, dict) or (last not in table and not open_ended):
                raise ValueError(f"{self.name} has no setting {path!r}.{nearest(path, _all_names(content))}")
            table[last] = value
        return type(self).from_dict(self.name, content)

    def strict(self) -> Self:
        """Return the recipe to the letter of the paper: the strict settings of its method, under its own model fields."""
        config = _check_model(self.name, self.method, self.model)
        wrapped = getattr(config, "recognizer_config", None)
        strict = [getattr(one, "strict_settings", {}) for one in (wrapped, config)]
        return type(self).from_dict(self.name, {**self.to_dict(), "model": {**strict[0], **strict[1], **self.model}})

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
                f"{self.name}: {self.method} smooths labels inside of its loss (model.label_smoothing = "
                f"{config.label_smoothing}). Set data.label_smoothing = 0, or that to 0."
            )
        if self.training.objective == "captions" and not config.reads_text:
            raise ValueError(f'{self.name}: the model reads no text. Set training.objective = "candidates".')
        if self.training.objective == "candidates" and config.loss != "cross_entropy":
            raise ValueError(
                f"{self.name}: the loss {config.loss!r} compares the videos of a batch with each other, and "
                'training.objective = "candidates" compares each video with all classes. Set model.loss = "cross_entropy", or '
                'training.objective = "captions".'
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
                    f"{self.name}: evaluation.{key} = {self.evaluation[key]!r} scores the attributes branch. Set data.attributes."
                )
            if phrases and not protocol.reads_attributes:
                raise ValueError(
                    f"{self.name}: evaluation.{key} = {self.evaluation[key]!r} reads no attributes. Leave data.attributes out, or "
                    "use a protocol that does, such as 'bike_fused'."
                )
        if rules.class_lists and find_protocol(rules.protocol).classes != "all":
            raise ValueError(
                f"{self.name}: {rules.protocol!r} draws its own sets of classes. Leave evaluation.class_lists out."
            )
        if self.name in (*rules.mean_of, rules.gain_over):
            raise ValueError(f"{self.name} cannot be compared with itself. Name other recipes.")
        own = [key for key in ("class_lists", "data", "gain_over") if self.evaluation[key]]
        own += ["runs"] if self.runs != RunSettings() else []
        if rules.mean_of and own:
            raise ValueError(f"{self.name}: a mean of other recipes measures nothing itself. Leave out {own[0]}.")


def load_recipe(name: str | Path) -> Recipe:
    """Load a recipe by name, or the row "default" of your own TOML file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: there is no recipe of that name, or its content is invalid.
    """
    name = str(name)
    if name.endswith(".toml"):
        return Recipe.from_dict(
            Path(name).stem, parse_rows(Path(name).read_text(encoding="utf-8"), name).get(_ALONE, {})
        )
    known = _all_rows()
    if name not in known:
        raise ValueError(
            f"There is no recipe {name!r}.{nearest(name, list(known))} `kinoclip recipes` lists all of them."
        )
    return Recipe.from_dict(name, known[name])


def recipe_names() -> list[str]:
    """Return the names of all recipes of this package."""
    return list(_all_rows())


@cache
def _all_rows() -> dict[str, dict[str, Any]]:
    rows = {}
    for file in sorted((files("kinoclip.training") / "recipes").iterdir(), key=lambda file: file.name):
        stem, _, ending = file.name.rpartition(".")
        if ending == "toml":
            for row, content in parse_rows(file.read_text(encoding="utf-8"), file.name).items():
                rows[stem if row == _ALONE else f"{stem}/{row}"] = content
    return rows


def _build(name: str, section: str, kind: type, values: dict[str, Any]) -> Any:
    check_names(name, values, [field.name for field in fields(kind)], prefix=f"{section}.")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}, [{section}]: {error}") from error


def _build_training(name: str, values: dict[str, Any]) -> TrainingSettings:
    lora = of_kind(name, "training.lora", values.get("lora", {}), dict)
    values["lora"] = _build(name, "training.lora", LoraSettings, dict(lora))
    built: TrainingSettings = _build(name, "training", TrainingSettings, values)
    return built


def _check_model(name: str, method: str, model: dict[str, Any]) -> Any:
    """Build the config that the fields give, on towers of the usual sizes."""
    try:
        return METHODS[method].config.from_clip_fields({}, **model)
    except (StrictDataclassError, ValueError) as error:
        raise ValueError(f"{name}, [model]: {' '.join(str(error).split())}") from error


def _all_names(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in content.items():
        names += _all_names(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]
    return names
