"""The table of models: the rows of papers that each checkpoint stands for, plain CLIPs, and the embedded model, with their cost."""

import re
import runpy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from kinoclip.evaluation.protocols import find_protocol
from kinoclip.hub.cards import cell, dataset_name, read_paper, read_reports
from kinoclip.inference.profile import CLIP_SHAPES, Profile, profile, profile_config
from kinoclip.methods import METHODS
from kinoclip.methods.auto import PLAIN_CLIP_METHOD, find_model
from kinoclip.modeling.configuration import RecognizerConfig
from kinoclip.modeling.names import EMBEDDED_RECOGNIZER

ROOT = Path(__file__).parents[2]
_CARDS = runpy.run_path(str(ROOT / "examples" / "hub_cards" / "write_cards.py"))
_COUNTED: dict[str, Profile] = {}  # by the JSON of a config; counting takes a second
_PLAIN = "CLIP, zero-shot"
_HEAD = (
    "Method",
    "Backbone",
    "Row or data",
    "Printed, %",
    "Measured, %",
    "GMAC",
    "Parameters, M",
    "Frames",
    "Views",
    "Weights",
    "License",
)


@cache
def table_of_models() -> str:
    """Return the table as Markdown, with links as in `docs/choosing_a_model.md`."""
    papers = (line for name, row in _CARDS["read_checkpoints"]().items() for line in describe_checkpoint(name, row))
    lines = [_HEAD, ["---"] * len(_HEAD), *describe_clips(), *papers, *describe_embedded()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe_checkpoint(name: str, row: dict[str, Any]) -> Iterator[list[str]]:
    """Yield a line for each row of a paper that a checkpoint stands for. Nothing was measured with them."""
    for number, one in enumerate(row["rows"]):
        # the first row of a subject defines its model
        subject = _CARDS["plan"](name, {**row, "rows": [one]})
        recipe = subject.recipes[0]
        views = find_protocol(recipe.evaluation_settings.protocol)
        metric = next(key for key in recipe.paper if re.search("top1|map", key))
        printed = f"{recipe.paper[metric]}{' mAP' * ('map' in metric)}"
        weights = "convert" if row.get("convert") and number == 0 else "train"
        yield [
            _method(subject.config),
            _clip_name(subject.clip),
            f"{cell(recipe.title)}<br>`{one}`",
            printed,
            "",
            *_cost(subject.config),
            f"{views.num_clips} x {views.num_crops}",
            f"[{weights}](../hub_cards/{name}/README.md)",
            row.get("license", ""),
        ]


def describe_clips() -> Iterator[list[str]]:
    """Yield a line for each of OpenAI's ViTs, which classify zero-shot."""
    for shape in CLIP_SHAPES:
        patch = shape.partition("-")[0].replace("vitb", "base-patch").replace("vitl", "large-patch")
        hub_id = f"openai/clip-vit-{patch}{shape.partition('vitl14')[2]}"
        config = profile_config(PLAIN_CLIP_METHOD, clip=shape, temporal_head="none")
        data = f"any labels<br>`{hub_id}`"
        yield [_PLAIN, _clip_name(hub_id), data, "", "", *_cost(config), "1 x 1", "on the Hub", "MIT"]


def describe_embedded() -> Iterator[list[str]]:
    """Yield a line for each measurement of the embedded model."""
    config = METHODS[PLAIN_CLIP_METHOD].config.from_pretrained(find_model(EMBEDDED_RECOGNIZER))
    folder = ROOT / "hub_cards" / f"{PLAIN_CLIP_METHOD}-{EMBEDDED_RECOGNIZER}"
    for report in read_reports(folder, [], config.model_type).values():
        where = f"{cell(dataset_name(report))}, {report.num_videos} procedural videos"
        measured = f"{100 * report.metrics['top1']:.1f}"
        source = "[in the package](embedded_model.md)"
        yield [_method(config), "embedded", where, "", measured, *_cost(config), "1 x 1", source, "Apache-2.0"]


def _method(config: RecognizerConfig) -> str:
    wrapped = getattr(config, "recognizer_config", None)
    around = "" if wrapped is None else f" around {read_paper(wrapped).short}"
    name = config.model_type.removeprefix("kinoclip_")
    return f"[{read_paper(config).short}](methods/{name}.md){around}"


def _clip_name(hub_id: str | None) -> str:
    """Return openai/clip-vit-large-patch14-336 as ViT-L/14-336; a method without CLIP has a ResNet."""
    if hub_id is None:
        return "ResNet-50"
    size, patch = hub_id.partition("clip-vit-")[2].split("-patch")
    return f"ViT-{size[0].upper()}/{patch}"


def _cost(config: RecognizerConfig) -> list[str]:
    key = config.to_json_string()
    if key not in _COUNTED:
        _COUNTED[key] = profile(config)
    counted = _COUNTED[key]
    return [f"{counted.gmacs:.1f}", f"{counted.parameters / 1e6:.1f}", str(config.num_frames)]
