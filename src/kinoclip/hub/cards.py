"""Model cards: the model, its measured results, and, separately, the numbers printed in the paper."""

import hashlib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.utils import yaml_dump  # type: ignore[attr-defined]

from kinoclip.data.coverage import Coverage
from kinoclip.data.files import is_hub_id
from kinoclip.evaluation.report import SELECTIONS, Report
from kinoclip.inference.profile import Profile, profile
from kinoclip.methods import METHODS, find_method
from kinoclip.methods.auto import load_processor, read_config
from kinoclip.modeling.configuration import RecognizerConfig
from kinoclip.modeling.video_processing import RecognizerVideoProcessor
from kinoclip.training.recipe import Recipe, load_recipe, recipe_names

REPORTS = "reports"
_TEMPLATE = Path(__file__).with_name("card.md")
_MARK = re.compile(r"<!-- kinoclip (\w+): what stands below is yours and is kept -->")
# Metadata keys that are generated; the others belong to the owner of the card.
_OWN_KEYS = ("base_model", "language", "library_name", "model-index", "pipeline_tag", "tags")
_METRICS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "mean_class_accuracy": "mean class accuracy",
    "map": "mean average precision",
}
_SHOWN_LABELS, _SHOWN_CLASSES = 10, 5


class Paper(NamedTuple):
    """Facts of a paper, from the docstring of the modeling file."""

    short: str
    title: str
    authors: str
    venue: str
    link: str
    summary: str
    differences: str


@dataclass(frozen=True)
class Subject:
    """Input of a card."""

    source: str  # hub id or folder, as used for loading
    config: RecognizerConfig
    videos: RecognizerVideoProcessor
    templates: Sequence[str]  # around a label
    reports: Sequence[Report] = ()  # measured results
    recipes: Sequence[Recipe] = ()  # rows of a paper to compare with
    training: dict[str, Any] = field(default_factory=dict)  # content of `training.json`
    notes: Sequence[str] = ()  # sentences above the facts
    license: str | None = None  # of the weights
    clip: str | None = None  # hub id of the base model
    processor_class: str = "AutoProcessor"  # the Auto class of the processor


def model_card(
    folder: str | Path,
    *,
    reports: Sequence[str | Path] = (),
    recipe: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,
) -> ModelCard:
    """Generate the card of a folder; text of the owner in its README.md is kept.

    Args:
        folder: as `kinoclip convert` and `kinoclip train` write it.
        reports: JSON files of `kinoclip evaluate`, in addition to those in `reports/` of the folder.
        recipe: name of the recipe whose printed numbers the card shows.
        repo_id: where it is published; the name of the folder by default.
        license: of the weights, such as "apache-2.0".

    Raises:
        ValueError: a report or recipe of another method, or a README.md whose generated part was edited.
    """
    folder = Path(folder)
    config = read_config(str(folder))
    processor = load_processor(str(folder), needs_tokenizer=True)
    place = folder / "README.md"
    written = place.read_text(encoding="utf-8") if place.is_file() else ""
    subject = Subject(
        source=repo_id or folder.name,
        config=config,
        videos=processor.video_processor,
        templates=getattr(processor, "templates", ()),
        reports=[*read_reports(folder, reports, config.model_type).values()],
        recipes=[] if recipe is None else [_fitting(load_recipe(recipe), config)],
        training=read_training(folder),
        license=license or (ModelCard(written, ignore_metadata_errors=True).data.get("license") if written else None),
        processor_class="AutoProcessor" if (folder / "processor_config.json").is_file() else "AutoVideoProcessor",
    )
    return keep_own(make_card(subject), written, str(place))


def make_card(subject: Subject) -> ModelCard:
    """Generate the card of a subject."""
    config = subject.config
    paper, wrapped = read_paper(config), getattr(config, "recognizer_config", None)
    name = subject.source.rpartition("/")[2]
    clip = subject.clip or base_model(subject.training.get("start", ""))
    profiles = [profile(config, flops=convention) for convention in ("full", "paper")]
    head = ModelCardData(
        license=subject.license,
        language=["en", "zh"] if getattr(config, "chinese_text_config", None) is not None else ["en"],
        library_name="transformers",
        pipeline_tag="video-classification",
        base_model=clip,
        tags=["kinoclip", "video", "action-recognition", *(["clip"] if config.reads_text else []), config.model_type],
        model_name=name,
        eval_results=[EvalResult(**one) for report in subject.reports for one in report_results(report)] or None,
    )
    if head.eval_results is None:
        head.pop("model_name")
    card = ModelCard.from_template(
        head,
        template_path=str(_TEMPLATE),
        name=name,
        source=subject.source,
        paper=paper,
        around="" if wrapped is None else f" around {read_paper(wrapped).short}",
        notes=subject.notes,
        facts=model_facts(config, subject.videos, subject.templates, profiles),
        own_labels=config.candidate_shapes is not None or not config.reads_text,
        processor_class=subject.processor_class,
        reads_text=config.reads_text,
        num_frames=subject.videos.num_frames,
        reports=[describe_report(report) for report in subject.reports],
        rows=describe_rows(subject.recipes),
        training=training_facts(subject.training),
        license=f"The weights: {subject.license}."
        if subject.license
        else "The weights keep the license of the checkpoint they were made from.",
    )
    return ModelCard(f"{card.content.rstrip()}\n\n{_mark(card.text)}\n")


def keep_own(card: ModelCard, written: str, where: str) -> ModelCard:
    """Merge the owner's text below the mark, and metadata that is not generated, from an earlier card.

    The whole text of a card without the mark belongs to the owner and moves below the mark. A generated part that was
    edited is a `ValueError`, since the edit would be lost.
    """
    if not written.strip():
        return card
    old = ModelCard(written, ignore_metadata_errors=True)
    found = _MARK.search(old.text)
    own = old.text if found is None else old.text[found.end() :]
    if found is not None and _mark(old.text[: found.start()]) != found.group():
        raise ValueError(
            f"{where} was edited above the line `{found.group()}`, in the generated part. Move your text below that line, or "
            "delete the file."
        )
    data = {key: value for key, value in old.data.to_dict().items() if key not in _OWN_KEYS and value is not None}
    for key, value in data.items():
        if card.data.get(key) is None:
            card.data[key] = value
    card.text = f"{card.text.rstrip()}\n\n{own.strip()}\n" if own.strip() else card.text
    return card


def has_own_text(card: ModelCard) -> bool:
    """Return whether a card has text of its owner."""
    found = _MARK.search(card.text)
    return found is None or bool(card.text[found.end() :].strip())


def read_paper(config: Any) -> Paper:
    """Parse title, authors and differences from the docstring of the modeling file."""
    head, people, summary, *rest = (sys.modules[find_method(config).model.__module__].__doc__ or "").split("\n\n")
    short, _, title = head.rstrip(".").partition(": ")
    authors, venue, link = " ".join(people.split()).rstrip(".").split("; ")
    return Paper(short, title, authors, venue, link, " ".join(summary.split()), "\n\n".join(rest).strip())


def read_training(folder: Path) -> dict[str, Any]:
    """Read `training.json` of `kinoclip train`, or return an empty dict."""
    place = folder / "training.json"
    return dict(json.loads(place.read_text(encoding="utf-8"))) if place.is_file() else {}


def read_reports(folder: Path, given: Sequence[str | Path], method: str) -> dict[str, Report]:
    """Read the reports of a folder and the given ones, which override those of the same data and protocol.

    A file that does not exist is a `FileNotFoundError`, one that is not a report of this method a `ValueError`.
    """
    found = {}
    for path in (*sorted((folder / REPORTS).glob("*.json")), *map(Path, given)):
        if not path.is_file():
            raise FileNotFoundError(
                f"The report {path} does not exist. Make it with `kinoclip evaluate --output {path}`."
            )
        report = Report.load(path)
        if report.method != method:
            raise ValueError(
                f"{path} is a report of a {report.method!r} model, got a {method!r} model. Pass its own report."
            )
        split = report.settings.get("coverage", {}).get("split")
        parts = [report.dataset, split, report.protocol["name"]]
        name = "-".join(re.sub(r"[^\w.]+", "_", str(part)) for part in parts if part)
        found[f"{name}.json"] = report
    return dict(sorted(found.items()))


def _fitting(recipe: Recipe, config: RecognizerConfig) -> Recipe:
    expected = METHODS[recipe.method].config.model_type
    if expected != config.model_type:
        raise ValueError(
            f"{recipe.name} is a recipe of {expected!r}, but the folder holds a {config.model_type!r} model."
        )
    if not recipe.paper:
        raise ValueError(f"{recipe.name} has no printed numbers to compare with.")
    return recipe


def _mark(text: str) -> str:
    """Return the line that ends the generated part, with a hash that reveals edits."""
    digest = hashlib.blake2b("\n".join(text.split()).encode(), digest_size=6).hexdigest()
    return f"<!-- kinoclip {digest}: what stands below is yours and is kept -->"


def model_facts(
    config: RecognizerConfig, videos: RecognizerVideoProcessor, templates: Sequence[str], profiles: Sequence[Profile]
) -> dict[str, str]:
    """Describe the model, its sampling, its cost and its labels."""
    full, paper = profiles
    ordinal = {2: "2nd", 3: "3rd"}.get(videos.keep_every, f"{videos.keep_every}th")
    kept = f", of which every {ordinal} is decoded" if videos.keep_every > 1 else ""
    facts = {
        "model type": f"`{config.model_type}`",
        "frames": f"{videos.num_frames} of a clip{kept}, sampled by the rule `{videos.sampling}`",
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
        "parameters": f"{_short(full.parameters / 1e6)} M used for a video, "
        f"{_short(full.trainable_parameters / 1e6)} M of them trained",
        "cost of one view": f"{_short(full.gmacs)} GMAC in all; {_short(paper.gmacs)} without attention and projections, as some "
        "papers count",
        "labels": _labels(config),
        "prompt templates": ", ".join(f"`{cell(one)}`" for one in templates),
    }
    return {fact: value for fact, value in facts.items() if value}


def _settings(config: Any) -> str:
    """List the settings that differ from the defaults, also those of a wrapped recognizer."""
    if config is None:
        return ""
    plain = type(config)()
    names = [name for name in config.settings() if name not in ("num_frames", "projection_dim")]
    changed = {name: getattr(config, name) for name in names if getattr(config, name) != getattr(plain, name)}
    own = ", ".join(f"`{name} = {cell(value)}`" for name, value in changed.items())
    return ", ".join(filter(None, [own, _settings(getattr(config, "recognizer_config", None))]))


def _labels(config: RecognizerConfig) -> str:
    if config.candidate_shapes is None and config.reads_text:
        return "any; none stored"
    names = [str(name) for name in (config.id2label or {}).values()]
    if names == [f"LABEL_{number}" for number in range(len(names))]:  # the default of Transformers
        return f"{len(names)} classes without names"
    more = f" and {len(names) - _SHOWN_LABELS} more" if len(names) > _SHOWN_LABELS else ""
    own = f"{len(names)} stored: {cell(', '.join(names[:_SHOWN_LABELS]))}{more}"
    return f"{own}; and any others" if config.reads_text and getattr(config, "text_tower", True) else own


def describe_report(report: Report) -> dict[str, Any]:
    """Describe metrics, intervals, protocol and data of a report."""
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
        f"`{report.model}`: {report.num_videos} videos scored, {len(report.failures)} unreadable; the data has {coverage.describe()}.",
        f"Protocol `{report.protocol['name']}`: {report.protocol['title']}; {frames} frames by `{rule}`.",
        f"Weights: {SELECTIONS[selection]}." if selection else "",
        f"Prompt templates: {templates}." if templates else "",
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
    """Return the name of the data: the known data set, and the name in the report."""
    known = report.settings.get("coverage", {}).get("dataset")
    if known and report.dataset.startswith(f"{known}/"):  # the task of a benchmark
        return report.dataset
    return "/".join(dict.fromkeys(name for name in (known, report.dataset) if name)) or "unnamed videos"


def report_results(report: Report) -> Iterator[dict[str, Any]]:
    """Yield the metrics of a report as entries of the Hub's `model-index`."""
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


def eval_results(report: Report, name: str) -> str:
    """Return the metrics of a report as YAML for `.eval_results/`, which leaderboards of the Hub read.

    Args:
        report: of `kinoclip evaluate`.
        name: of its file in the folder of reports.
    """
    how = f"{report.protocol['title']}; {report.num_videos} videos; {REPORTS}/{name}"
    entries = [
        EvalResultEntry(
            dataset_id=one["dataset_type"],
            task_id=f"{report.protocol['name']}.{metric}",
            value=one["metric_value"],
            notes=how,
        )
        for metric, one in zip(report.metrics, report_results(report), strict=True)
    ]
    return str(yaml_dump(eval_result_entries_to_yaml(entries)))


def describe_rows(recipes: Sequence[Recipe]) -> dict[str, Any] | None:
    """Return rows that a paper prints, with numbers in its units, and the caveats that all of them share."""
    printed = [recipe for recipe in recipes if recipe.paper]
    if not printed:
        return None
    source = "the paper or its README" if any("README" in recipe.table for recipe in printed) else "the paper"
    first = printed[0].caveats if len(printed) > 1 else ()
    shared = [caveat for caveat in first if all(caveat in recipe.caveats for recipe in printed)]
    return {"source": source, "rows": [_describe_row(recipe, shared) for recipe in printed], "caveats": shared}


def _describe_row(recipe: Recipe, shared: Sequence[str]) -> dict[str, str]:
    return {
        "name": recipe.name,
        "place": recipe.table,
        "title": cell(recipe.title),
        "numbers": ", ".join(f"{name} {value}" for name, value in recipe.paper.items()),
        "caveats": cell("; ".join(caveat for caveat in recipe.caveats if caveat not in shared)),
    }


def training_facts(training: dict[str, Any]) -> dict[str, str]:
    """Describe the training, if `training.json` exists."""
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
        "parameters": f"{training['trained_parameters'] / 1e6:.1f} M trained, {training['frozen_parameters'] / 1e6:.1f} M frozen",
        "published weights": SELECTIONS.get(selection, ""),
        "best epoch": f"{best['epoch'] + 1}, where the validation metric was {best['value']:.4f}" if best else "",
        "took": f"{training['seconds'] / 60:.1f} minutes on {training['processes']} x {training['device']}",
        "versions": ", ".join(f"{name} {version}" for name, version in training["versions"].items()),
    }
    return {fact: value for fact, value in facts.items() if value}


def base_model(start: str) -> str | None:
    """Return the hub id of a start, following the starts of recipes, or None."""
    while start in recipe_names():
        start = load_recipe(start).start
    return start if is_hub_id(start) else None


def start_name(start: str) -> str:
    """Return the name of a start without local folders."""
    return start if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", start) else start.rstrip("/").rpartition("/")[2]


def cell(value: Any) -> str:
    """Return a value as the text of a table cell."""
    return " ".join(str(value).replace("|", "\\|").split())


def _short(number: float) -> str:
    return f"{number:.1f}" if number >= 10 else f"{number:.2g}"
