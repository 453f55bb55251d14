"""Measure the settings of a model on labelled videos: accuracy and time per video, as `kinoclip classify` has them."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import torch

from kinoclip.data.coverage import Coverage
from kinoclip.data.samples import VideoSamples, class_names, row_source
from kinoclip.evaluation.evaluate import read_targets
from kinoclip.evaluation.report import measure
from kinoclip.inference.batch_job import ClassifyJob
from kinoclip.inference.budget import Curve, Point, Setting, describe_environment
from kinoclip.inference.classifier import Classifier
from kinoclip.modeling.checkpoints import first_line
from kinoclip.text.labels import match_key

# a pass over few videos is repeated for so long
_SECONDS = 3.0
_BACKENDS = ("onnxruntime", "openvino", "openvino-int8")
Choices = Sequence[Sequence[dict[str, Any]]]


@dataclass(frozen=True)
class _DataJob(ClassifyJob):
    """A job on the rows of a data set, whose videos are named by their numbers."""

    rows: Any = field(default=(), kw_only=True)

    def find(self, video: str) -> tuple[Any, dict[str, Any]]:
        return row_source(self.rows[int(video)])


def measure_curve(
    model: str,
    dataset: Any,
    *,
    source: str,
    device: str = "auto",
    isolate: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> Curve:
    """Measure settings: the saved one, and step by step those next to a setting that no other one beats.

    Backends and data types are compared at the saved setting, and only those that are not beaten there are tried with other
    settings. What the model or the backend cannot do is reported and left out.

    Args:
        model: see `load_recognizer`.
        dataset: of `kinoclip.data.load_videos`.
        source: name of the data set.
        device: see `choose_device`.
        isolate: see `ClassifyJob`.
        report: callback, called with a line for each setting.

    Raises:
        ValueError: the model as it is saved cannot classify the videos.
    """
    saved = Classifier.load(model, device=device)
    rows = VideoSamples(dataset, saved.video_processor).dataset
    choices, first = find_choices(saved), Setting(saved.video_processor.num_frames, saved.video_processor.num_clips)
    point, metric = _measure_setting(saved, first, rows, isolate)
    report(str(point))
    coverage = Coverage.of(dataset)
    data = {"source": source, "split": coverage.split, "videos": len(rows), "fingerprint": coverage.fingerprint}
    curve, seen = Curve(model, metric, data, describe_environment(), (point,)), {first}
    new = _neighbors(first, choices)
    while new := [setting for setting in dict.fromkeys(new) if setting not in seen]:
        for setting in new:
            seen.add(setting)
            try:
                point, _ = _measure_setting(load_setting(model, setting, device), setting, rows, isolate)
            except (ValueError, ImportError, RuntimeError) as error:
                report(f"left out: {setting}: {first_line(error)}")
                continue
            report(str(point))
            curve = replace(curve, points=(*curve.points, point))
        new = [setting for point in curve.front for setting in _neighbors(point.setting, choices[:-1])]
    # the fastest of many is the fastest by chance too, so those that can be chosen are measured again
    again = set[Setting]()
    while once := [point for point in (curve.points[0], *curve.front) if point.setting not in again]:
        setting = once[0].setting
        again.add(setting)
        point, _ = _measure_setting(load_setting(model, setting, device), setting, rows, isolate)
        report(str(point))
        curve = replace(curve, points=tuple(point if each == once[0] else each for each in curve.points))
    return curve


def load_setting(model: str, setting: Setting, device: str = "auto") -> Classifier:
    """Load a model with a setting."""
    placed: dict[str, Any] = {"device": device, "dtype": setting.dtype, "backend": setting.backend}
    classifier = Classifier.load(model, settings=setting.fields, **placed)
    classifier.video_processor.num_frames, classifier.video_processor.num_clips = setting.frames, setting.clips
    return classifier


def find_choices(classifier: Classifier) -> list[list[dict[str, Any]]]:
    """Return the values of each field of `Setting` that a model can have, in order; dtype and backend are one choice, the last."""
    model, videos = classifier.model, classifier.video_processor
    choices: list[list[dict[str, Any]]] = [
        [{"frames": videos.num_frames >> halved} for halved in range(videos.num_frames.bit_length())],
        [{"clips": videos.num_clips * factor} for factor in (1, 2, 4)],
    ]
    if not model.uses_torch_threads:  # an export
        return [*choices, [{"dtype": "auto", "backend": "torch"}]]
    rate = getattr(model.config, "rate", None)
    if rate is not None:
        choices.append([{"rate": None if each == rate else each} for each in sorted({rate, 2, 4, 8})])
    inner = getattr(model.config, "recognizer_config", model.config)
    merge_r = getattr(inner, "merge_r", None)
    if isinstance(merge_r, int) and inner.changed_layers is None:
        vision = inner.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        merged = {round(patches * share / vision.num_hidden_layers) for share in (0.25, 0.5, 0.75)}
        choices.append([{"merge_r": None}, *({"merge_r": each} for each in sorted(merged) if each > merge_r)])
    backends = [name for name in _BACKENDS if model.device.type == "cpu" and find_spec(name.partition("-")[0])]
    dtypes = ["auto", *(["float32"] if model.dtype != torch.float32 else [])]
    torch_, exported = [("torch", dtype) for dtype in dtypes], [(backend, "auto") for backend in backends]
    return [*choices, [{"backend": backend, "dtype": dtype} for backend, dtype in (*torch_, *exported)]]


def _neighbors(setting: Setting, choices: Choices) -> list[Setting]:
    """Return the settings that differ in one choice, by the next value, or by any backend."""
    known, found = asdict(setting), []
    for values in choices:
        at = next(number for number, value in enumerate(values) if value.items() <= known.items())
        near = values if "backend" in values[0] else values[max(0, at - 1) : at + 2]
        found += [replace(setting, **value) for value in near]
    return found


def _measure_setting(classifier: Classifier, setting: Setting, rows: Any, isolate: bool) -> tuple[Point, str]:
    """Measure a setting by the job of `kinoclip classify`, after a short one that warms up; return also the name of the metric."""
    keys = [match_key(name) for name in class_names(rows)]
    names = classifier.model.config.id2label or {} if classifier.model.candidates() is not None else {}
    labels = None if {*keys} <= {match_key(str(name)) for name in names.values()} else tuple(class_names(rows))
    job = _DataJob(classifier, labels, top_k=sys.maxsize, isolate=isolate, rows=rows)
    plan = job.plan([str(number) for number in range(len(rows))])
    list(job.label(job.plan(plan.videos[: 4 * plan.batch_size])))
    start, passes, spent = time.perf_counter(), 0, 0.0
    while not passes or spent < _SECONDS:
        records = list(job.label(plan))
        passes, spent = passes + 1, time.perf_counter() - start
    read = [record for record in records if "error" not in record]
    if not read:
        raise ValueError(f"None of {len(rows)} videos could be read; the first: {records[0]['error']['message']}")
    found = [{match_key(p["label"]): p["probability"] for p in record["predictions"]} for record in read]
    scores = torch.tensor([[each[key] for key in keys] for each in found])
    targets = read_targets(rows, [int(record["video"]) for record in read], len(keys))
    metrics, metric = measure(scores, targets)[0], "top1" if targets.ndim == 1 else "map"
    identity = "-".join(job.identity.split("-")[:3])
    return Point(setting, round(metrics[metric], 4), spent / (passes * len(rows)), identity), metric
