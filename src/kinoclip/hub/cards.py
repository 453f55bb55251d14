"""The card of a published folder: what the model is, what was measured, and, apart from that, what the paper prints."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import AutoProcessor, AutoVideoProcessor

from kinoclip.conversion import naming
from kinoclip.evaluation.report import Report
from kinoclip.inference.loading import has_tokenizer, read_config
from kinoclip.inference.profile import profile
from kinoclip.methods import METHODS, Method
from kinoclip.recognizer_config import RecognizerConfig
from kinoclip.training.recipe import Recipe, load_recipe
from kinoclip.video_processing import RecognizerVideoProcessor

from .card_facts import base_model, describe_report, describe_rows, model_facts, report_results, training_facts

REPORTS = "reports"
_TEMPLATE = Path(__file__).with_name("card.md")
_MARK = re.compile(r"<!-- kinoclip (\w+): what stands below is yours and is kept -->")
# what this module writes into the head of a card; everything else there is its owner's
_OWN_KEYS = ("base_model", "language", "library_name", "model-index", "pipeline_tag", "tags")


class Paper(NamedTuple):
    """What the docstring of a method's modeling file says of its paper."""

    short: str
    title: str
    authors: str
    venue: str
    link: str
    summary: str
    differences: str


@dataclass(frozen=True)
class Subject:
    """What a card is about.

    Attributes:
        source: how the model is loaded: hub id or folder.
        config: of the model.
        videos: its video processor.
        templates: the sentences around a label.
        reports: what was measured.
        recipes: rows of a paper to compare with.
        training: content of `training.json`.
        notes: sentences to put first.
        license: what is to say of the weights.
        clip: hub id of the model that it was made from.
        processor_class: the Auto class that loads its processor.
    """

    source: str
    config: RecognizerConfig
    videos: RecognizerVideoProcessor
    templates: Sequence[str]
    reports: Sequence[Report] = ()
    recipes: Sequence[Recipe] = ()
    training: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    license: str | None = None
    clip: str | None = None
    processor_class: str = "AutoProcessor"


def model_card(
    folder: str | Path,
    *,
    reports: Sequence[str | Path] = (),
    recipe: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,
) -> ModelCard:
    """Make the card of a folder from what it holds; what its owner wrote into its README.md is kept.

    Args:
        folder: as `kinoclip convert` and `kinoclip train` write it.
        reports: JSON files of `kinoclip evaluate`, beside those in the folder's `reports/`.
        recipe: name of the paper's row that the model is to be compared with.
        repo_id: where it is published; the folder's name when left out.
        license: of the weights, such as "apache-2.0".

    Raises:
        ValueError: a report of another method, a row of another method, or a README.md that was edited in its generated part.
    """
    folder = Path(folder)
    config = read_config(str(folder))
    processor = read_processor(folder)
    place = folder / "README.md"
    written = place.read_text(encoding="utf-8") if place.is_file() else ""
    subject = Subject(
        source=repo_id or folder.name,
        config=config,
        videos=getattr(processor, "video_processor", processor),
        templates=getattr(processor, "templates", ()),
        reports=[*read_reports(folder, reports, config.model_type).values()],
        recipes=[] if recipe is None else [_fitting(load_recipe(recipe), config)],
        training=read_training(folder),
        license=license or (ModelCard(written, ignore_metadata_errors=True).data.get("license") if written else None),
        processor_class="AutoProcessor" if hasattr(processor, "video_processor") else "AutoVideoProcessor",
    )
    return keep_own(make_card(subject), written, str(place))


def make_card(subject: Subject) -> ModelCard:
    """Write the card of a subject anew."""
    config = subject.config
    paper, wrapped = read_paper(config), getattr(config, "recognizer_config", None)
    name = subject.source.rpartition("/")[2]
    clip = subject.clip or base_model(subject.training.get("start", ""))
    profiles = [profile(config, flops=convention) for convention in ("full", "paper")]
    head = ModelCardData(
        license=subject.license,
        language=["en", "zh"] if getattr(config, "chinese_branch", False) else ["en"],
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
        rows=_rows(subject.recipes),
        training=training_facts(subject.training),
        license=f"The weights: {subject.license}."
        if subject.license
        else "The weights keep that of what they were made from.",
    )
    return ModelCard(f"{card.content.rstrip()}\n\n{_mark(card.text)}\n")


def keep_own(card: ModelCard, written: str, where: str) -> ModelCard:
    """Keep what a person wrote into an earlier card: the text below the mark, and keys of the head that are not ours.

    A card without the mark is a person's from end to end; its text goes below the mark.

    Raises:
        ValueError: the generated part was edited, so that writing it anew would lose something.
    """
    if not written.strip():
        return card
    old = ModelCard(written, ignore_metadata_errors=True)
    found = _MARK.search(old.text)
    own = old.text if found is None else old.text[found.end() :]
    if found is not None and _mark(old.text[: found.start()]) != found.group():
        raise ValueError(
            f"{where} was edited above the line `{found.group()}`, where it is written anew each time. Move your text below "
            "that line, or delete the file."
        )
    data = {key: value for key, value in old.data.to_dict().items() if key not in _OWN_KEYS and value is not None}
    for key, value in data.items():
        if card.data.get(key) is None:
            card.data[key] = value
    card.text = f"{card.text.rstrip()}\n\n{own.strip()}\n" if own.strip() else card.text
    return card


def has_own_text(card: ModelCard) -> bool:
    """Tell whether a person wrote something into a card."""
    found = _MARK.search(card.text)
    return found is None or bool(card.text[found.end() :].strip())


def read_paper(config: Any) -> Paper:
    """Read the title, the people and the differences from the docstring of the modeling file."""
    head, people, summary, *rest = (sys.modules[find_method(config).model.__module__].__doc__ or "").split("\n\n")
    short, _, title = head.rstrip(".").partition(": ")
    authors, venue, link = " ".join(people.split()).rstrip(".").split("; ")
    return Paper(short, title, authors, venue, link, " ".join(summary.split()), "\n\n".join(rest).strip())


def find_method(config: Any) -> Method:
    """Give the classes of a config's method.

    Raises:
        ValueError: it is not of this package.
    """
    for method in METHODS.values():
        if method.config.model_type == config.model_type:
            return method
    raise ValueError(f"A {config.model_type!r} model is none of this package, which has {', '.join(METHODS)}.")


def read_processor(folder: Path) -> Any:
    """Load the processor of a folder, or the video processor of a model that reads no text.

    Raises:
        ValueError: one of its files is missing or damaged.
    """
    whole = (folder / "processor_config.json").is_file()
    with naming(f"The processor or the tokenizer in {folder}"):
        kind = AutoProcessor if whole else AutoVideoProcessor
        processor = kind.from_pretrained(str(folder), trust_remote_code=False)
    # in the place of a tokenizer that is missing, Transformers makes one of two tokens and says nothing
    if hasattr(processor, "tokenizer") and not has_tokenizer(folder):
        raise ValueError(
            f"{folder} lacks its tokenizer. Save the processor there: `processor.save_pretrained({str(folder)!r})`."
        )
    return processor


def read_training(folder: Path) -> dict[str, Any]:
    """Read what `kinoclip train` says of its run, or give nothing."""
    place = folder / "training.json"
    return dict(json.loads(place.read_text(encoding="utf-8"))) if place.is_file() else {}


def read_reports(folder: Path, given: Sequence[str | Path], method: str) -> dict[str, Report]:
    """Read the reports of a folder and further ones, by file name; of the same data and protocol the given one counts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file is no report, or one of another method.
    """
    found = {}
    for path in (*sorted((folder / REPORTS).glob("*.json")), *map(Path, given)):
        if not path.is_file():
            raise FileNotFoundError(f"There is no report {path}. Make one with `kinoclip evaluate --output {path}`.")
        report = Report.load(path)
        if report.method != method:
            raise ValueError(
                f"{path} measured a {report.method!r} model, and this is a {method!r}. Give its own report."
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
            f"{recipe.name} is a row of {expected!r}, and the folder holds a {config.model_type!r} model."
        )
    if not recipe.paper:
        raise ValueError(f"{recipe.name} has no number of a paper to compare with.")
    return recipe


def _rows(recipes: Sequence[Recipe]) -> dict[str, Any] | None:
    printed = [recipe for recipe in recipes if recipe.paper]
    if not printed:
        return None
    readme = any("README" in recipe.table for recipe in printed)
    return {"source": "the paper or its README" if readme else "the paper", **describe_rows(printed)}


def _mark(text: str) -> str:
    """Give the line that ends the generated part; it names the text above, so that an edit is noticed."""
    digest = hashlib.blake2b("\n".join(text.split()).encode(), digest_size=6).hexdigest()
    return f"<!-- kinoclip {digest}: what stands below is yours and is kept -->"
