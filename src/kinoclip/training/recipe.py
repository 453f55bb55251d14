"""Recipes: a row of a paper as data, read from `recipes/*.toml`.

A file holds one table for each row of its method's papers. `[defaults]` is what all of them share; a row may be `like` another
row of its file. The row "default" goes by the name of the file alone: `finetune`.

    [defaults]
    method = "bike"                     # folder of `kinoclip.methods`
    dataset = "kinetics400"             # name in the catalog, or "" for any
    start = "openai/clip-vit-base-patch32"      # a CLIP, or the recipe whose result is trained further: "bike/t1-l14-16f"
    [defaults.model]                    # fields of the method's config; `recognizer = "text4vis"` says what SLLM wraps
    num_frames = 8
    [defaults.data]                     # fields of `DataSettings`
    [defaults.training]                 # fields of `TrainingSettings`
    [defaults.evaluation]               # fields of `EvaluationSettings`

    [t6a-vcs]
    table = "Table 6a"
    title = "K400, B/32, 8 frames: saliency, no temporal transformer"
    caveats = ["the paper does not say ..."]
    [t6a-vcs.model]
    temporal_head = "none"
    [t6a-vcs.paper]                     # numbers as the paper prints them, in its unit; names are yours
    top1 = 78.5

    [t6a-transformer]
    like = "t6a-vcs"
    ...

Every key is checked: an unknown one is an error that names the nearest known one, and a value of the wrong kind says so.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from huggingface_hub.errors import StrictDataclassError

from kinoclip.methods import METHODS

from .settings import DataSettings, EvaluationSettings, LoraSettings, TrainingSettings

_DEFAULTS, _ALONE = "defaults", "default"
_SECTIONS: dict[str, type | None] = {
    "model": None,  # checked by the method's config
    "data": DataSettings,
    "training": TrainingSettings,
    "evaluation": EvaluationSettings,
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
        _check_keys(name, content, [*texts, *_SECTIONS, "caveats"])
        for key in texts:
            texts[key] = _of_kind(name, key, content.get(key, ""), str)
        if texts["method"] not in METHODS:
            raise ValueError(f"{name}: there is no method {texts['method']!r}. Use one of {', '.join(METHODS)}.")
        sections = {key: dict(_of_kind(name, key, content.get(key, {}), dict)) for key in _SECTIONS}
        caveats = _of_kind(name, "caveats", content.get("caveats", []), list)
        recipe = cls(
            **texts,
            name=name,
            model=sections["model"],
            data=asdict(_build(name, "data", DataSettings, sections["data"])),
            training=_build_training(name, sections["training"]),
            evaluation=asdict(_build(name, "evaluation", EvaluationSettings, sections["evaluation"])),
            paper=sections["paper"],
            caveats=tuple(_of_kind(name, "caveats", caveat, str) for caveat in caveats),
        )
        recipe._check_together()
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """Give all of it, as `from_dict` takes it, without the name."""
        content = asdict(self)
        del content["name"]
        return {**content, "caveats": list(self.caveats)}

    def with_settings(self, settings: Mapping[str, Any]) -> Self:
        """Change settings by dotted name: `{"training.epochs": 2, "model.num_frames": 4}`.

        Raises:
            ValueError: an unknown name, or a value that is not allowed.
        """
        content = self.to_dict()
        for path, value in settings.items():
            *way, last = path.split(".")
            table = content
            for part in way:
                table = table.get(part) if isinstance(table, dict) else None  # type: ignore[assignment]
            open_ended = way in (["model"], ["paper"])
            if not isinstance(table, dict) or (last not in table and not open_ended):
                raise ValueError(f"{self.name} has no setting {path!r}.{_hint(path, _all_names(content))}")
            table[last] = value
        return replace(type(self).from_dict(self.name, content))

    @property
    def data_settings(self) -> DataSettings:
        """`data`, with its fields as attributes."""
        return DataSettings(**self.data)

    @property
    def evaluation_settings(self) -> EvaluationSettings:
        """`evaluation`, with its fields as attributes."""
        return EvaluationSettings(**self.evaluation)

    def _check_together(self) -> None:
        """Check settings against each other, and the model's against its config."""
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


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe by name, or the row "default" of your own TOML file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: there is no recipe of that name, or it does not hold.
    """
    name = str(name)
    if name.endswith(".toml"):
        return Recipe.from_dict(Path(name).stem, _rows(Path(name).read_text(encoding="utf-8"), name).get(_ALONE, {}))
    known = _all_rows()
    if name not in known:
        raise ValueError(
            f"There is no recipe {name!r}.{_hint(name, list(known))} `kinoclip recipes` lists all of them."
        )
    return Recipe.from_dict(name, known[name])


def recipe_names() -> list[str]:
    """Name all recipes of this package."""
    return list(_all_rows())


@cache
def _all_rows() -> dict[str, dict[str, Any]]:
    rows = {}
    for file in sorted((files("kinoclip.training") / "recipes").iterdir(), key=lambda file: file.name):
        stem, _, ending = file.name.rpartition(".")
        if ending == "toml":
            for row, content in _rows(file.read_text(encoding="utf-8"), file.name).items():
                rows[stem if row == _ALONE else f"{stem}/{row}"] = content
    return rows


def _rows(text: str, source: str) -> dict[str, dict[str, Any]]:
    """Give the rows of a file, each over what it is `like` and the file's defaults."""
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"{source} is no TOML file: {error}.") from error
    defaults = content.pop(_DEFAULTS, {})
    whole: dict[str, dict[str, Any]] = {}
    for row, given in content.items():
        own = dict(_of_kind(source, row, given, dict))
        like = own.pop("like", None)
        if like is not None and like not in whole:
            raise ValueError(f"{source}: {row} is like {like!r}, and no row above it has that name.")
        # numbers and doubts of another row are not this one's
        base = defaults if like is None else {k: v for k, v in whole[like].items() if k not in ("paper", "caveats")}
        whole[row] = _merge(base, own)
    return whole


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = deepcopy(dict(base))
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _build(name: str, section: str, kind: type, values: dict[str, Any]) -> Any:
    _check_keys(name, values, [field.name for field in fields(kind)], f"{section}.")
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}, [{section}]: {error}") from error


def _build_training(name: str, values: dict[str, Any]) -> TrainingSettings:
    lora = _of_kind(name, "training.lora", values.get("lora", {}), dict)
    values["lora"] = _build(name, "training.lora", LoraSettings, dict(lora))
    built: TrainingSettings = _build(name, "training", TrainingSettings, values)
    return built


def _check_model(name: str, method: str, model: dict[str, Any]) -> Any:
    """Build the config that the fields give, on towers of the usual sizes."""
    try:
        return METHODS[method].config.from_clip_fields({}, **model)
    except (StrictDataclassError, ValueError) as error:
        raise ValueError(f"{name}, [model]: {' '.join(str(error).split())}") from error


def _check_keys(name: str, given: Mapping[str, Any], known: list[str], prefix: str = "") -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"{name}: there is no setting {prefix + key!r}.{_hint(key, known)}")


def _of_kind(name: str, key: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(
            f"{name}: {key} is {value!r}. It is a {'text' if kind is str else 'table' if kind is dict else 'list'}."
        )
    return value


def _hint(key: str, known: list[str]) -> str:
    close = get_close_matches(key, known, n=1, cutoff=0.4)
    ends = [other for other in known if other.rpartition(".")[2] == key.rpartition(".")[2]]
    nearest = (ends or close)[:1]
    return f" The nearest known one is {nearest[0]!r}." if nearest else ""


def _all_names(content: Mapping[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in content.items():
        names += _all_names(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [prefix + key]
    return names
