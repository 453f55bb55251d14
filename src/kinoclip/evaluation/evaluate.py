"""Measure a recognizer on a data set under a named protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from statistics import harmonic_mean
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from kinoclip.data.coverage import Coverage
from kinoclip.data.samples import ReadableSamples, VideoSamples, class_names, collate_readable
from kinoclip.evaluation.class_lists import class_ids
from kinoclip.evaluation.fusion import calibrate_fusion, check_calibration
from kinoclip.evaluation.metrics import running_mean_average_precision
from kinoclip.evaluation.protocols import PROTOCOLS, Protocol, evaluate_classes, find_protocol, half_class_splits
from kinoclip.evaluation.report import Report, describe_classes, measure, summarize
from kinoclip.evaluation.scoring import READS, ViewOutputs, score_probability, score_views
from kinoclip.methods.candidates import ChineseNames, encode_candidates, set_chinese_names
from kinoclip.modeling.layers.text_features import ensemble
from kinoclip.modeling.outputs import FrameFeatures, RecognitionOutput, TextFeatures
from kinoclip.modeling.recognizer import VideoRecognizer, evaluation_mode
from kinoclip.modeling.video_processing import frame_inputs
from kinoclip.text.labels import as_labels, match_key

if TYPE_CHECKING:
    from accelerate import Accelerator

Row = tuple[int, dict[str, Tensor]]


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
    replace_samples: Callable[[VideoSamples], VideoSamples] | None = None,
    calibrate: bool = False,
) -> Report:
    """Measure how well a model classifies the videos of a data set.

    Videos that cannot be read are listed in the report and are in no metric. With several processes each video is scored by
    exactly one of them, and all return the same report.

    Args:
        model: a recognizer; its training mode is restored.
        processor: its processor.
        dataset: columns `video`, `label` and optionally `name`, from `kinoclip.data.load_videos`.
        protocol: one of `PROTOCOLS`, by name or itself.
        labels: texts for the classes, in the order of their ids; by default the class names of the data set.
        attributes: phrases that describe each video, best first, by its name, for a model with an attributes branch. The
            processor's `num_attributes` of them are read.
        chinese: second names of the classes, for a model with a branch that reads them: a packaged set, a file, or class to
            name.
        class_lists: sets of classes that are scored separately too, by name (`find_class_lists`). Adds NAME_top1 for each
            set, and the mean and deviation over sets; with "base" and "novel" their harmonic mean.
        selection: how the weights were selected, one of `SELECTIONS`, for the report.
        accelerator: of the processes that share the work.
        batch_size: videos per step.
        num_workers: processes that decode.
        name: of the model, for the report.
        dataset_name: for the report.
        report: callback, called with the number of videos of each batch.
        replace_samples: called with the samples of the videos; returns those that are used, such as with stored features.
        calibrate: measure also how the metric depends on the weights of the branches (`calibrate_fusion`), in the setting
            "fusion" of the report.

    The metrics of a model with several branches include those of each branch alone, BRANCH_top1 or BRANCH_map: the mean
    over the views of its probabilities.

    Raises:
        ValueError: no video could be read, the model cannot read the classes, attributes are missing or not read, or there
            is nothing to calibrate.
    """
    rules = find_protocol(protocol) if isinstance(protocol, str) else protocol
    protocol_name = next((key for key, known in PROTOCOLS.items() if known == rules), rules.title)
    _check_attributes(model, rules, protocol_name, attributes is not None)
    if calibrate:
        check_calibration(model.unwrap().config.fusion, rules)
    classes = class_names(dataset)
    labels = None if labels is None else as_labels(labels)
    if labels is not None and len(labels) != len(classes):
        raise ValueError(f"There must be one label for each of {len(classes)} classes, got {len(labels)} labels.")
    sets = {key: class_ids(key, names, classes) for key, names in (class_lists or {}).items()}
    with evaluation_mode(model):
        texts = classes if labels is None else labels
        if chinese is None:
            text, columns = find_candidates(model, processor, texts)
        else:
            processor, columns = copy(processor), None  # its Chinese names are replaced
            chinese_names = set_chinese_names(model, processor, chinese, name)
            text = encode_candidates(model, processor, texts, name=name, chinese=chinese_names)
        collected = collect_views(
            model,
            processor.video_processor,
            dataset,
            rules,
            text,
            attribute_ids=None if attributes is None else _encode_attributes(processor, dataset, attributes),
            accelerator=accelerator,
            batch_size=batch_size,
            num_workers=num_workers,
            report=report,
            replace_samples=replace_samples,
        )
    views = _select(collected.views, columns)
    targets = read_targets(dataset, collected.indices, len(classes))
    metrics, intervals, scores = _score(views, targets, rules, sets, batch_size)
    metric = "top1" if targets.ndim == 1 else "map"
    for number, branch in enumerate(collected.branches):
        alone: Any = views.branch_logits
        metrics[f"{branch}_{metric}"] = measure(score_probability(alone[:, :, number]), targets)[0][metric]
    fusion = None
    if calibrate:
        fusion = calibrate_fusion(model.unwrap().config, collected.branches, views, targets, rules)
    names = _video_names(dataset)
    failures = {names[row]: reason for row, reason in sorted(collected.failures.items())}
    videos = processor.video_processor
    return Report(
        model=name or str(model.config.name_or_path),
        method=model.config.model_type,
        dataset=dataset_name,
        protocol={"name": protocol_name, **asdict(rules)},
        metrics=metrics,
        intervals=intervals,
        per_class=describe_classes(classes, scores, targets),
        num_videos=len(collected.indices),
        failures=failures,
        settings={
            "selection": selection,
            "num_attributes": None if attributes is None else processor.num_attributes,
            "coverage": Coverage.of(dataset).with_undecodable(list(failures)).to_dict(),
            "templates": list(getattr(processor, "templates", ())),
            "device": model.device.type,
            "dtype": str(model.dtype).removeprefix("torch."),
            "chinese_labels": bool(getattr(processor, "chinese", None)),
            **({} if fusion is None else {"fusion": fusion}),
            **{key: getattr(videos, key) for key in ("num_frames", "sampling", "keep_every")},
            "versions": {package: version(package) for package in ("kinoclip", "torch", "transformers", "av")},
        },
        scores=scores,
        targets=targets,
        names=tuple(names[row] for row in collected.indices),
    )


@dataclass(frozen=True)
class Collected:
    """The outputs of a pass over a data set, in its order."""

    indices: list[int]  # rows that could be read
    views: ViewOutputs  # outputs that the scoring rule reads, on the CPU
    failures: dict[int, str]  # row to the reason why its video could not be read
    branches: tuple[str, ...] = ()  # names of several branches, of `ViewOutputs.branch_logits`


def collect_views(
    model: VideoRecognizer,
    video_processor: Any,
    dataset: Any,
    protocol: Protocol,
    text: TextFeatures,
    *,
    attribute_ids: Tensor | None = None,
    accelerator: Accelerator | None = None,
    batch_size: int = 8,
    num_workers: int = 0,
    report: Callable[[int], None] | None = None,
    replace_samples: Callable[[VideoSamples], VideoSamples] | None = None,
) -> Collected:
    """Run a model on all views of all videos; videos are not read if only the attributes branch is scored.

    See `evaluate` for the arguments. `attribute_ids` (N, L) are the tokens of the attributes of each video. No readable video is
    a `ValueError`.
    """
    process, processes = (0, 1) if accelerator is None else (accelerator.process_index, accelerator.num_processes)
    names = READS[protocol.scoring]
    videos = VideoSamples(dataset, _with_views(video_processor, protocol))
    samples: Any = [{"index": index, "failed": []} for index in range(len(videos))]
    if names != ("attribute_scores",):
        samples = ReadableSamples(videos if replace_samples is None else replace_samples(videos))
    own = Subset(samples, range(process, len(samples), processes))
    loader = DataLoader(own, batch_size, num_workers=num_workers, collate_fn=collate_readable)
    rows: list[Row] = []
    failures: dict[int, str] = {}
    branches: tuple[str, ...] = ()
    for batch in loader:
        failures |= dict(batch["failed"])
        if "index" in batch:
            found, branches = _run_batch(model, batch, text, attribute_ids, names)
            rows += found
        if report is not None:
            report(len(batch["failed"]) + len(batch.get("index", ())))
    if processes > 1:
        from accelerate.utils import gather_object

        parts = gather_object([(rows, failures, branches)])
        rows = [row for part, *_ in parts for row in part]
        failures = {index: reason for _, part, _ in parts for index, reason in part.items()}
        branches = max((part for *_, part in parts), key=len)  # a process without videos knows none
    if not rows:
        first = next(iter(failures.values()), "the data set is empty")
        raise ValueError(f"None of the {len(dataset)} videos could be read; the first: {first}")
    rows.sort(key=lambda row: row[0])
    stacked = {name: torch.stack([tensors[name] for _, tensors in rows]) for name in rows[0][1]}
    embeds = text.embeds.float().cpu()
    # a single template is not normalized: some official rules depend on the length of its embedding
    class_embeds = embeds[0] if len(embeds) == 1 else ensemble(embeds)
    views = ViewOutputs(**stacked, class_embeds=class_embeds, template_embeds=embeds)
    return Collected([index for index, _ in rows], views, failures, branches)


@torch.inference_mode()
def _run_batch(
    model: VideoRecognizer,
    batch: dict[str, Any],
    text: TextFeatures,
    attribute_ids: Tensor | None,
    names: tuple[str, ...],
) -> tuple[list[Row], tuple[str, ...]]:
    """Return the outputs of each video of a batch, and the names of the branches if there are several."""
    videos = len(batch["index"])
    inputs: dict[str, Any] = frame_inputs(batch, model.device)
    if "pixel_values_videos" in inputs:
        inputs["pixel_values_videos"] = inputs["pixel_values_videos"].to(model.dtype)
    if "frames" in batch:
        features = {name: tensor.to(model.device) for name, tensor in batch["frames"].items()}
        inputs["frame_features"] = FrameFeatures(**features)
    if attribute_ids is not None:  # the same for all views of a video
        frames = (
            inputs["frame_features"][0] if "frames" in batch else inputs.get("pixel_values_videos", batch["index"])
        )
        ids = attribute_ids[batch["index"]].repeat_interleave(len(frames) // videos, 0)
        inputs["attribute_input_ids"] = ids.to(model.device)
    output: RecognitionOutput = model(**inputs, text_features=text)
    encoded, embeds = output.frames, output.video_embeds
    if embeds is not None and embeds.ndim == 3 and encoded:  # the pooling depends on the candidate
        embeds = encoded.embeds.mean(1)
    found: dict[str, Any] = {
        "logits": output.logits,
        "scores": output.votes.get("video"),
        "attribute_scores": output.votes.get("attributes"),
        "video_embeds": embeds,
        "frame_embeds": None if encoded is None else encoded.embeds,
    }
    branches = output.branch_logits or {}
    if len(branches) > 1:
        found["branch_logits"], names = torch.stack(list(branches.values()), 1), (*names, "branch_logits")
    views = {name: found[name].float().cpu().unflatten(0, (videos, -1)) for name in names}
    if "attribute_scores" in views:
        views["attribute_scores"] = views["attribute_scores"][:, 0]  # the same for all views
    rows = [(int(index), {name: views[name][i] for name in names}) for i, index in enumerate(batch["index"])]
    return rows, tuple(branches) if len(branches) > 1 else ()


def _with_views(video_processor: Any, protocol: Protocol) -> Any:
    changed = copy(video_processor)
    changed.num_clips, changed.num_crops = protocol.num_clips, protocol.num_crops
    changed.sampling = protocol.sampling or changed.sampling
    if protocol.full_side:
        changed.size = {"shortest_edge": changed.crop_size["height"]}
        changed.crops_along_long_side = True
    return changed


def _check_attributes(model: VideoRecognizer, rules: Protocol, name: str, is_given: bool) -> None:
    """Check that attributes are given exactly where protocol and model read them."""
    if is_given and not rules.reads_attributes:
        known = ", ".join(key for key, rules in PROTOCOLS.items() if rules.reads_attributes)
        raise ValueError(f"The protocol {name!r} does not read attributes. Leave them out, or use one of {known}.")
    if rules.needs_attributes and not is_given:
        raise ValueError(f"The protocol {name!r} scores the attributes of the videos. Pass attributes.")
    if is_given and "attribute_input_ids" not in model.used_inputs():
        raise ValueError("The model has no attributes branch. Leave attributes out.")


def _encode_attributes(processor: Any, dataset: Any, attributes: Mapping[str, Sequence[str]]) -> Tensor:
    """Tokenize the attributes of each video: (N, L)."""
    names = _video_names(dataset)
    missing = [name for name in names if name not in attributes]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(names)} videos have no attributes, first {missing[0]}. Find them first."
        )
    ids: Tensor = processor.encode_attributes([attributes[name] for name in names])
    return ids


@torch.inference_mode()
def find_candidates(
    model: VideoRecognizer, processor: Any, names: Sequence[str]
) -> tuple[TextFeatures, list[int] | None]:
    """Return the text features of classes, and None; or those of the checkpoint, and the column of each class in them.

    Classes that the checkpoint neither has nor can read, none, or duplicates are a `ValueError`.
    """
    own = model.candidates()
    known: dict[int, str] = {} if own is None else model.config.id2label  # type: ignore[assignment]
    columns = {match_key(label): column for column, label in known.items()}
    missing = [name for name in names if match_key(name) not in columns]
    if own is not None and not missing:
        return own, [columns[match_key(name)] for name in names]
    if not processor.reads_text:
        raise ValueError(
            f"The model carries no class {missing[0]!r} ({len(missing)} of {len(names)} are missing) and has no tokenizer to "
            "read new ones. Evaluate it on its own classes."
        )
    return encode_candidates(model, processor, names), None


def read_targets(dataset: Any, indices: Sequence[int], num_classes: int) -> Tensor:
    """Return the labels of some rows: (N,) class ids, or (N, K) multi-hot if videos have several."""
    labels = list(dataset.select_columns(["label"]).select(indices)["label"])
    if not labels or not isinstance(labels[0], list | tuple):
        return torch.tensor(labels, dtype=torch.long)
    targets = torch.zeros(len(labels), num_classes, dtype=torch.long)
    for row, ids in enumerate(labels):
        targets[row, list(ids)] = 1
    return targets


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
        metrics |= {f"{name}_top1": split["top1"] for name, split in zip(sets, found, strict=True)}
        if {"base", "novel"} <= sets.keys():
            metrics["harmonic_mean"] = harmonic_mean([metrics["base_top1"], metrics["novel_top1"]])
        metrics |= summary
    return metrics, intervals, scores


def _score_sets(
    views: ViewOutputs, targets: Tensor, rules: Protocol, sets: Sequence[Sequence[int]], prefix: str
) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Score each set of classes separately; return the accuracies, and the metrics over sets, named with the prefix."""
    if targets.ndim == 2:
        raise ValueError("Sets of classes need videos with one label each.")

    def score(rows: Tensor, kept: Tensor) -> Tensor:
        return score_views(_select(views, kept.tolist(), rows), rules.scoring)

    found = [evaluate_classes(score, targets, classes) for classes in sets]
    over = summarize(found)
    return found, {
        f"{prefix}_{top}_{value}": over[top][value] for top in ("top1", "top5") for value in ("mean", "std")
    }


def _select(views: ViewOutputs, columns: Sequence[int] | None, rows: Tensor | None = None) -> ViewOutputs:
    """Select candidates and videos; None selects all."""
    video_axes = {"logits": 2, "scores": 2, "attribute_scores": 1, "video_embeds": None, "frame_embeds": None}
    video_axes["branch_logits"] = 3
    changed: dict[str, Tensor] = {}
    for name, axis in {**video_axes, "class_embeds": 0, "template_embeds": 1}.items():
        tensor: Tensor | None = getattr(views, name)
        if tensor is None:
            continue
        if rows is not None and name in video_axes:
            tensor = tensor[rows]
        if columns is not None and axis is not None:
            tensor = tensor.index_select(axis, torch.tensor(columns))
        changed[name] = tensor
    return replace(views, **changed)


def _video_names(dataset: Any) -> list[str]:
    if "name" not in dataset.column_names:
        return [f"row {index}" for index in range(len(dataset))]
    return [str(name) for name in dataset.select_columns(["name"])["name"]]
