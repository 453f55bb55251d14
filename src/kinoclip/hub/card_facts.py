"""The tables of a card, as text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from kinoclip.data.coverage import Coverage
from kinoclip.evaluation.report import SELECTIONS, Report
from kinoclip.inference.profile import Profile
from kinoclip.recognizer_config import RecognizerConfig
from kinoclip.training.recipe import Recipe, load_recipe, recipe_names
from kinoclip.video_processing import RecognizerVideoProcessor

_METRICS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "map": "mean average precision",
}
_SHOWN_LABELS, _SHOWN_CLASSES = 10, 5


def model_facts(
    config: RecognizerConfig, videos: RecognizerVideoProcessor, templates: Sequence[str], profiles: Sequence[Profile]
) -> dict[str, str]:
    """Say what the model is, how it looks at a video, what it costs and what it can name."""
    full, paper = profiles
    kept = f", of which every {_ordinal(videos.keep_every)} is decoded" if videos.keep_every > 1 else ""
    facts = {
        "model type": f"`{config.model_type}`",
        "frames": f"{videos.num_frames} of a clip{kept}, chosen by the rule `{videos.sampling}`",
        "views": f"clips x crops: {videos.num_clips} x {videos.num_crops}",
        "pixels": f"short side to {videos.size['shortest_edge']}, crop of {videos.crop_size['height']} x "
        f"{videos.crop_size['width']}",
    }
    vision, text = getattr(config, "vision_config", None), getattr(config, "text_config", None)
    if vision is not None and hasattr(vision, "patch_size"):
        facts["vision tower"] = (
            f"{vision.num_hidden_layers} layers of width {vision.hidden_size}, patch {vision.patch_size}"
        )
    if config.reads_text and text is not None:
        facts["text tower"] = f"{text.num_hidden_layers} layers of width {text.hidden_size}"
    facts |= {
        "settings other than the defaults": _settings(config),
        "parameters": f"{_short(full.parameters / 1e6)} M that a video passes through, "
        f"{_short(full.trainable_parameters / 1e6)} M of them trained by the method",
        "cost of one view": f"{_short(full.gmacs)} GMAC in all; {_short(paper.gmacs)} without attention and projections, as some "
        "papers count",
        "labels": _labels(config),
        "sentences around a label": ", ".join(f"`{cell(one)}`" for one in templates),
    }
    return {fact: value for fact, value in facts.items() if value}


def _settings(config: Any) -> str:
    """List the settings that differ from the defaults, of what SLLM wraps too."""
    if config is None:
        return ""
    plain = type(config)()
    names = [name for name in config.settings() if name not in ("num_frames", "projection_dim")]
    changed = {name: getattr(config, name) for name in names if getattr(config, name) != getattr(plain, name)}
    own = ", ".join(f"`{name} = {cell(value)}`" for name, value in changed.items())
    return ", ".join(filter(None, [own, _settings(getattr(config, "recognizer_config", None))]))


def _labels(config: RecognizerConfig) -> str:
    if config.candidate_shapes is None and config.reads_text:
        return "any; it carries none of its own"
    names = [str(name) for name in (config.id2label or {}).values()]
    if names == [f"LABEL_{number}" for number in range(len(names))]:  # what Transformers calls them
        return f"{len(names)} classes without names"
    more = f" and {len(names) - _SHOWN_LABELS} more" if len(names) > _SHOWN_LABELS else ""
    own = f"{len(names)} of its own: {cell(', '.join(names[:_SHOWN_LABELS]))}{more}"
    return f"{own}; and any others" if config.reads_text and getattr(config, "text_tower", True) else own


def describe_report(report: Report) -> dict[str, Any]:
    """Say what was measured, how surely, and on what."""
    coverage = Coverage(**report.settings.get("coverage", {}))
    rows = []
    for name, value in report.metrics.items():
        low, high = report.intervals.get(name, (None, None))
        interval = "" if low is None else f"{low:.1%} to {high:.1%}"
        rows.append({"name": _METRICS.get(name, name), "value": f"{value:.2%}", "interval": interval})
    versions = ", ".join(f"{name} {one}" for name, one in report.settings.get("versions", {}).items())
    frames, rule = report.settings.get("num_frames"), report.settings.get("sampling")
    selection = report.settings.get("selection")
    templates = ", ".join(f"`{one}`" for one in report.settings.get("templates", ()))
    how = [
        f"Of `{report.model}`: {report.num_videos} videos were scored, {len(report.failures)} could not be read; found were {coverage.describe()}.",
        f"Protocol `{report.protocol['name']}`: {report.protocol['title']}; {frames} frames by `{rule}`.",
        f"Weights: {SELECTIONS[selection]}." if selection else "",
        f"Labels in {templates}." if templates else "",
        _weakest(report),
        f"Fingerprint of the data: `{coverage.fingerprint or 'none'}`. Versions: {versions}.",
    ]
    split = f", {coverage.split} split" if coverage.split else ""
    return {"title": dataset_name(report) + split, "rows": rows, "how": "\n".join(line for line in how if line)}


def _weakest(report: Report) -> str:
    value = "accuracy" if "accuracy" in (report.per_class or [{}])[0] else "average_precision"
    known = sorted((row[value], row["label"]) for row in report.per_class if row.get(value) is not None)
    worst = ", ".join(f"{label} {share:.0%}" for share, label in known[:_SHOWN_CLASSES])
    return f"Weakest of {len(known)} classes: {worst}." if known else ""


def dataset_name(report: Report) -> str:
    """Name the data of a report: the data set that it is known as, and what the report calls it."""
    known = report.settings.get("coverage", {}).get("dataset")
    return "/".join(dict.fromkeys(name for name in (known, report.dataset) if name)) or "videos without a name"


def report_results(report: Report) -> Iterator[dict[str, Any]]:
    """Give the metrics of a report as the `model-index` of the Hub has them."""
    coverage = report.settings.get("coverage", {})
    name = dataset_name(report)
    how = {
        "protocol": report.protocol["name"],
        "videos": report.num_videos,
        "fingerprint": coverage.get("fingerprint", ""),
    }
    for metric, value in report.metrics.items():
        yield {
            "task_type": "video-classification",
            "dataset_type": re.sub(r"[^\w/.-]+", "-", name),
            "dataset_name": name,
            "dataset_split": coverage.get("split"),
            "metric_type": "accuracy" if metric in ("top1", "top5") else metric,
            "metric_name": _METRICS.get(metric, metric),
            "metric_value": round(value, 6),
            "metric_args": how,
        }


def describe_rows(recipes: Sequence[Recipe]) -> dict[str, Any]:
    """Return rows of a paper with their numbers, in the paper's units, and the caveats that all of them share."""
    first = recipes[0].caveats if len(recipes) > 1 else ()
    shared = [caveat for caveat in first if all(caveat in recipe.caveats for recipe in recipes)]
    return {"rows": [_describe_row(recipe, shared) for recipe in recipes], "caveats": shared}


def _describe_row(recipe: Recipe, shared: Sequence[str]) -> dict[str, str]:
    return {
        "name": recipe.name,
        "place": recipe.table,
        "title": cell(recipe.title),
        "numbers": ", ".join(f"{name} {value}" for name, value in recipe.paper.items()),
        "caveats": cell("; ".join(caveat for caveat in recipe.caveats if caveat not in shared)),
    }


def training_facts(training: dict[str, Any]) -> dict[str, str]:
    """Say how the weights were trained; nothing where nobody knows."""
    if not training:
        return {}
    settings = training["recipe"]["training"]
    videos = training["videos"]["training"]
    best, selection = training.get("best"), training["recipe"].get("evaluation", {}).get("selection", "")
    facts = {
        "recipe": f"`{training['name']}`",
        "started from": f"`{start_name(training['start'])}`" if training["start"] else "random weights",
        "videos": f"{videos[0]} of {len(training['labels'])} classes, fingerprint `{videos[1]}`",
        "unreadable videos": str(len(training["failures"])),
        "epochs": f"{settings['epochs']}, {training['updates']} updates of {training['batch_size']} videos",
        "parameters": f"{training['trained_parameters'] / 1e6:.1f} M trained, {training['frozen_parameters'] / 1e6:.1f} M not",
        "published weights": SELECTIONS.get(selection, ""),
        "best epoch": f"{best['epoch'] + 1}, where the validation metric was {best['value']:.4f}" if best else "",
        "took": f"{training['seconds'] / 60:.1f} minutes on {training['processes']} x {training['device']}",
        "versions": ", ".join(f"{name} {version}" for name, version in training["versions"].items()),
    }
    return {fact: value for fact, value in facts.items() if value}


def base_model(start: str) -> str | None:
    """Give the hub id that a start leads to, if there is one: a recipe's start is what its own start leads to."""
    while start in recipe_names():
        start = load_recipe(start).start
    return start if re.fullmatch(r"[\w.-]+/[\w.-]+", start) else None


def start_name(start: str) -> str:
    """Name what a run started from, without the folders of whoever ran it."""
    return start if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", start) else start.rstrip("/").rpartition("/")[2]


def cell(value: Any) -> str:
    """Give a value as the text of a table's cell."""
    return " ".join(str(value).replace("|", "\\|").split())


def _ordinal(number: int) -> str:
    return {2: "2nd", 3: "3rd"}.get(number, f"{number}th")


def _short(number: float) -> str:
    return f"{number:.1f}" if number >= 10 else f"{number:.2g}"
