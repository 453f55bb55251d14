"""Measure a recognizer on a data set under a named protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from importlib.metadata import version
from statistics import harmonic_mean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kinoclip.data.coverage import Coverage
from kinoclip.data.samples import class_names
from kinoclip.inference.classify import ChineseNames, Classifier
from kinoclip.metrics import running_mean_average_precision
from kinoclip.outputs import RecognitionOutput, TextFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.text.labels import match_key

from .class_lists import class_ids
from .collecting import Collected, Step, collect_views
from .protocols import PROTOCOLS, Protocol, SplitSummary, evaluate_splits, find_protocol, half_class_splits
from .report import Report, describe_classes, measure
from .scoring import ViewOutputs, score_views

if TYPE_CHECKING:
    from accelerate import Accelerator


def evaluate(
    model: VideoRecognizer,
    processor: Any,
    dataset: Any,
    protocol: str | Protocol = "single_view",
    *,
    labels: Sequence[str] | None = None,
    attributes: Mapping[str, Sequence[str]] | None = None,
    chinese: ChineseNames | None = None,
    class_lists: Mapping[str, Sequence[str]] | None = None,
    selection: str = "",
    accelerator: Accelerator | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    name: str = "",
    dataset_name: str = "",
    report: Callable[[int], None] | None = None,
) -> Report:
    """Measure how well a model names the videos of a data set.

    Videos that cannot be read are listed in the report and are in no metric. With several processes each video is scored by
    exactly one of them, and all get the same report.

    Args:
        model: a recognizer; it is left in the mode it came in.
        processor: its processor, or its video processor alone for a checkpoint with its own labels.
        dataset: columns `video`, `label` and, if there is one, `name`, as `kinoclip.data.load_videos` gives them.
        protocol: one of `PROTOCOLS`, by name or itself.
        labels: what the classes are called before the model, in the order of their ids; the data set's names when left out.
        attributes: phrases that describe each video, best first, by its name, for a model with an attributes branch. The
            processor's `num_attributes` of them are read.
        chinese: Chinese names of the classes, for a model with a Chinese branch: a packaged set, a file, or class to name.
        class_lists: sets of classes that are scored by themselves beside all classes, by name (`find_class_lists`). Adds
            NAME_top1 for each set, and the mean and deviation over sets; with "base" and "novel" their harmonic mean.
        selection: how the weights were selected, one of `SELECTIONS`, for the report.
        accelerator: its processes share the work.
        batch_size: videos per step.
        num_workers: processes that decode.
        name: of the model, for the report.
        dataset_name: likewise.
        report: called with the number of videos of each batch.

    Raises:
        ValueError: no video could be read, the model cannot name the classes, or attributes are missing or not read.
    """
    rules = find_protocol(protocol) if isinstance(protocol, str) else protocol
    _check_attributes(model, rules, _name_of(protocol), attributes is not None)
    classes = class_names(dataset)
    if labels is not None and len(labels) != len(classes):
        raise ValueError(
            f"There are {len(labels)} names for {len(classes)} classes. Give one for each, in their order."
        )
    sets = {key: class_ids(key, names, classes) for key, names in (class_lists or {}).items()}
    was_training = model.training
    model.eval()
    try:
        if chinese is None:
            text, columns = find_candidates(model, processor, classes if labels is None else labels)
        else:
            classifier = Classifier(model, copy(processor), name, chinese=chinese)
            classifier.set_labels(classes if labels is None else labels)
            text, columns, processor = classifier.text, None, classifier.processor
        collected = collect_views(
            model,
            getattr(processor, "video_processor", processor),
            dataset,
            rules,
            text,
            step=None if attributes is None else _with_attributes(model, processor, dataset, text, attributes),
            accelerator=accelerator,
            batch_size=batch_size,
            num_workers=num_workers,
            report=report,
        )
    finally:
        model.train(was_training)
    views = _choose(collected.views, columns)
    targets = read_targets(dataset, collected.indices, len(classes))
    metrics, intervals, scores = _score(views, targets, rules, sets, batch_size)
    return Report(
        model=name or str(model.config.name_or_path),
        method=model.config.model_type,
        dataset=dataset_name,
        protocol={"name": _name_of(protocol), **asdict(rules)},
        metrics=metrics,
        intervals=intervals,
        per_class=describe_classes(classes, scores, targets),
        num_videos=len(collected.indices),
        failures={_video_names(dataset, [row])[0]: why for row, why in sorted(collected.failures.items())},
        settings={
            "selection": selection,
            "num_attributes": None if attributes is None else processor.num_attributes,
            **_settings(processor, dataset, collected),
        },
        scores=scores,
        targets=targets,
        names=tuple(_video_names(dataset, collected.indices)),
    )


def _check_attributes(model: VideoRecognizer, rules: Protocol, name: str, is_given: bool) -> None:
    """Check that attributes are given where the protocol needs them, and only where protocol and model read them."""
    if is_given and not rules.reads_attributes:
        known = ", ".join(key for key, rules in PROTOCOLS.items() if rules.reads_attributes)
        raise ValueError(f"The protocol {name!r} does not read attributes. Leave them out, or use one of {known}.")
    if rules.needs_attributes and not is_given:
        raise ValueError(f"The protocol {name!r} scores the attributes of the videos. Give them.")
    if is_given and "attribute_input_ids" not in model.used_branch_inputs():
        raise ValueError("The model has no attributes branch. Leave attributes out.")


def _with_attributes(
    model: VideoRecognizer, processor: Any, dataset: Any, text: TextFeatures, attributes: Mapping[str, Sequence[str]]
) -> Step:
    """Return a step in which the attributes of each video vote too, the same for all its views."""
    names = _video_names(dataset, range(len(dataset)))
    missing = [name for name in names if name not in attributes]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} videos have no attributes, first {missing[0]}. Find them first."
        )

    def step(pixels: Tensor | None, rows: list[int]) -> RecognitionOutput:
        ids = processor.encode_attributes([attributes[names[row]] for row in rows]).to(model.device)
        ids = ids.repeat_interleave(1 if pixels is None else len(pixels) // len(rows), 0)
        output: RecognitionOutput = model(pixel_values_videos=pixels, text_features=text, attribute_input_ids=ids)
        return output

    return step


@torch.inference_mode()
def find_candidates(
    model: VideoRecognizer, processor: Any, names: Sequence[str]
) -> tuple[TextFeatures, list[int] | None]:
    """Give the text features of classes, and None; or those that the checkpoint carries, and where each class stands there.

    Raises:
        ValueError: the checkpoint knows other classes and cannot read new ones, or `names` is empty or holds one twice.
    """
    own = model.candidates()
    if own is not None:
        known: dict[int, str] = model.config.id2label  # type: ignore[assignment]
        places = {match_key(label): i for i, label in known.items()}
        if all(match_key(name) in places for name in names):
            return own, [places[match_key(name)] for name in names]
    if not hasattr(processor, "encode_labels"):
        missing = [name for name in names if own is None or match_key(name) not in places]
        raise ValueError(
            f"The model carries no class {missing[0]!r} ({len(missing)} of {len(names)} are missing) and has no tokenizer to "
            "read new ones. Evaluate it on its own classes."
        )
    inputs = {key: tensor.to(model.device) for key, tensor in processor.encode_labels(list(names)).items()}
    return model.encode_text(**inputs), None


def read_targets(dataset: Any, indices: Sequence[int], num_classes: int) -> Tensor:
    """Give the labels of some rows: (N,) class ids, or (N, K) multi-hot where videos have several."""
    column = dataset.select_columns(["label"]).select(indices)["label"]
    found = list(column)
    if found and isinstance(found[0], list | tuple):
        hot = torch.zeros(len(found), num_classes, dtype=torch.long)
        for row, ids in enumerate(found):
            hot[row, list(ids)] = 1
        return hot
    return torch.tensor(found, dtype=torch.long)


def _score(
    views: ViewOutputs, targets: Tensor, rules: Protocol, sets: Mapping[str, Sequence[int]], batch_size: int
) -> tuple[dict[str, float], dict[str, Any], Tensor]:
    scores = score_views(views, rules.scoring)
    metrics, intervals = measure(scores, targets)
    if rules.running_map:
        metrics["running_map"] = running_mean_average_precision(scores, targets, batch_size)
    if rules.classes == "halves":
        metrics |= _score_sets(views, targets, rules, half_class_splits(scores.shape[1]), "half")[1]
    if sets:
        found, summary = _score_sets(views, targets, rules, list(sets.values()), "list")
        metrics |= {f"{name}_top1": split.top1 for name, split in zip(sets, found.splits, strict=True)}
        if {"base", "novel"} <= sets.keys():
            metrics["harmonic_mean"] = harmonic_mean([metrics["base_top1"], metrics["novel_top1"]])
        metrics |= summary
    return metrics, intervals, scores


def _score_sets(
    views: ViewOutputs, targets: Tensor, rules: Protocol, sets: Sequence[Sequence[int]], word: str
) -> tuple[SplitSummary, dict[str, float]]:
    """Score each set of classes by itself; return the accuracies, and the metrics over sets with names that begin with `word`."""
    if targets.ndim == 2:
        raise ValueError("Sets of classes are scored on videos with one label each.")
    found = evaluate_splits(
        lambda rows, kept: score_views(_choose(views, kept.tolist(), rows), rules.scoring), targets, sets
    )
    values = ("top1_mean", "top1_std", "top5_mean", "top5_std")
    return found, {f"{word}_{value}": getattr(found, value) for value in values}


def _choose(views: ViewOutputs, columns: Sequence[int] | None, rows: Tensor | None = None) -> ViewOutputs:
    """Keep some candidates and some videos of what a model returned; None keeps all."""
    per_video = {"logits": 2, "scores": 2, "attribute_scores": 1, "video_embeds": None, "frame_embeds": None}
    changed: dict[str, Tensor] = {}
    for name, axis in {**per_video, "class_embeds": 0, "template_embeds": 1}.items():
        tensor: Tensor | None = getattr(views, name)
        if tensor is None:
            continue
        if rows is not None and name in per_video:
            tensor = tensor[rows]
        if columns is not None and axis is not None:
            tensor = tensor.index_select(axis, torch.tensor(columns))
        changed[name] = tensor
    return replace(views, **changed)


def _settings(processor: Any, dataset: Any, collected: Collected) -> dict[str, Any]:
    video_processor = getattr(processor, "video_processor", processor)
    coverage = Coverage.of(dataset).with_undecodable(_video_names(dataset, sorted(collected.failures)))
    return {
        "coverage": coverage.to_dict(),
        "templates": list(getattr(processor, "templates", ())),
        "chinese_labels": bool(getattr(processor, "chinese", None)),
        "num_frames": video_processor.num_frames,
        "sampling": video_processor.sampling,
        "keep_every": video_processor.keep_every,
        "versions": {package: version(package) for package in ("kinoclip", "torch", "transformers", "av")},
    }


def _video_names(dataset: Any, indices: Sequence[int]) -> list[str]:
    if "name" not in dataset.column_names:
        return [f"row {index}" for index in indices]
    return [str(name) for name in dataset.select_columns(["name"]).select(indices)["name"]]


def _name_of(protocol: str | Protocol) -> str:
    if isinstance(protocol, str):
        return protocol
    return next((name for name, known in PROTOCOLS.items() if known == protocol), protocol.title)
