"""Train a recognizer by a recipe: read `train` from top to bottom."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kinoclip.data.coverage import Coverage
from kinoclip.data.samples import class_names
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.processing import RecognizerProcessor

from .batching import update_batches
from .freezing import choose_trained, merge_adapters
from .interrupting import Interruption
from .output import RESULT, RunFolder, write_json
from .preparing import keep_labelled, read_phrases
from .processes import check_processes
from .recipe import Recipe
from .run import reset_peak_memory, say
from .setup import Setup, make_accelerator, set_up
from .starting import label_texts, start_model

if TYPE_CHECKING:
    import datasets
    from accelerate import Accelerator

_PACKAGES = ("kinoclip", "torch", "transformers", "accelerate", "datasets", "av")


@dataclass(frozen=True)
class TrainingResult:
    """What a run gave; `training.json` in its folder says it too, and with what.

    Attributes:
        output: the folder, ready to load and to publish.
        updates: of the weights.
        history: for each epoch its losses and validation.
        best: update, epoch and value of the best validation, whose weights were saved; None where the last epoch is published.
        failures: name of a video that could not be read to the reason.
    """

    output: Path
    updates: int
    history: list[dict[str, Any]]
    best: dict[str, Any] | None
    failures: dict[str, str]


def train(
    recipe: Recipe,
    dataset: datasets.Dataset,
    output: str | Path,
    *,
    start: str | Path | None = None,
    validation: datasets.Dataset | None = None,
    accelerator: Accelerator | None = None,
    resume: bool = False,
    num_workers: int = 0,
    save_every: int | None = None,
    trackers: Sequence[str] = (),
    features: str | Path | None = None,
) -> TrainingResult:
    """Train a recognizer and write it as a folder that can be loaded and published.

    Args:
        recipe: everything that decides on the result.
        dataset: what is trained on, as `kinoclip.data.load_videos` gives it.
        output: a new folder, or with `resume` that of a run.
        start: a CLIP or a recognizer (folder or hub id), or "mini"; the recipe's own when left out.
        validation: videos that are measured after an epoch. They select the epoch whose weights are saved, unless
            `evaluation.selection` is "last".
        accelerator: precision and processes; made from the recipe when left out.
        resume: continue from the last checkpoint, bit by bit as if the run had not stopped.
        num_workers: processes that decode, for each process that trains.
        save_every: updates between checkpoints; there is one after each epoch anyway.
        trackers: of accelerate: "tensorboard", "wandb", "trackio", ...
        features: where features of frozen encoders are kept (`training.cache_features`); in `output` when left out.

    Raises:
        ValueError: settings, data and start do not fit together; the message says why.
        RuntimeError: another run writes to `output`, or fewer processes came up than were asked for.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint; SIGTERM ends the process then, unless somebody else handles it.
    """
    dataset = keep_labelled(dataset, recipe.training.multi_label)
    if validation is None and recipe.evaluation["selection"] != "last" and recipe.training.epochs:
        raise ValueError(
            f"evaluation.selection is {recipe.evaluation['selection']!r}, but there are no validation videos. Give some, or set it "
            'to "last".'
        )
    phrases = None if validation is None else read_phrases(recipe, validation)
    labels = class_names(dataset)
    accelerator = accelerator or make_accelerator(recipe, output, trackers)
    check_processes(accelerator.num_processes)
    reset_peak_memory(accelerator.device)
    record = _record(recipe, start, labels, dataset, validation)
    with RunFolder(output, record, resume, accelerator.is_main_process) as folder, Interruption() as interruption:
        if folder.result is not None:
            say(f"{folder.path} holds a finished run.")
            return _result(folder)
        parts = set_up(recipe, dataset, labels, start, accelerator, folder, features)
        run = parts.run
        if resume and run.restore() and accelerator.is_main_process:
            say(f"resumed after {run.progress.update} updates, in epoch {run.progress.epoch + 1}")
        if trackers:
            accelerator.init_trackers("kinoclip", config=_flat(recipe.to_dict()))
        while run.progress.epoch < recipe.training.epochs:
            _train_epoch(parts, interruption, num_workers, save_every)
            _end_epoch(parts, recipe, validation, phrases, num_workers)
            run.save()
            if run.progress.epoch < recipe.training.epochs and _any_process(interruption, accelerator):
                interruption.stop()
        weights = run.best_weights()
        if accelerator.is_main_process:
            _publish(folder, recipe, labels, start, parts.processor, weights)
            facts = {"validation": _cover(validation), "training": _cover(dataset)}
            write_json(folder.path / RESULT, _describe(parts, record, facts))
        if trackers:
            accelerator.end_training()
        accelerator.wait_for_everyone()
        progress = run.progress
        return TrainingResult(folder.path, progress.update, progress.history, progress.best, progress.failures)


def _train_epoch(parts: Setup, interruption: Interruption, num_workers: int, save_every: int | None) -> None:
    """Take the updates that are left of an epoch; stop after one of them with a checkpoint when somebody asks."""
    run, accelerator = parts.run, parts.run.accelerator
    progress = run.progress
    batches = update_batches(
        parts.samples, parts.plan, progress.epoch, accelerator.process_index, progress.done, num_workers
    )
    began = time.monotonic()
    with _progress_bar(parts) as bar:
        for micro_batches in batches:
            losses = parts.step(micro_batches, progress.update)
            if run.average is not None:
                run.average.update_parameters(run.recognizer)
            progress.count(losses, time.monotonic() - began)
            began = time.monotonic()
            _note_failures(parts, micro_batches)
            if accelerator.trackers:
                accelerator.log({**losses, "lr": run.scheduler.get_last_lr()[-1]}, step=progress.update)
            bar.set_postfix(loss=f"{sum(losses.values()):.4f}", refresh=False)
            bar.update()
            stops = _any_process(interruption, accelerator)
            if stops or (save_every and progress.update % save_every == 0):
                run.save()
            if stops:
                interruption.stop()


def _end_epoch(
    parts: Setup,
    recipe: Recipe,
    validation: datasets.Dataset | None,
    phrases: dict[str, list[str]] | None,
    num_workers: int,
) -> None:
    """Measure where it is due, and keep the weights if they are the best that the selection knows."""
    run, rules = parts.run, recipe.evaluation_settings
    epoch = run.progress.epoch + 1
    facts: dict[str, Any] = {"lr": run.scheduler.get_last_lr()[-1]}
    is_due = epoch % rules.every == 0 or epoch == recipe.training.epochs
    if validation is not None and is_due:
        model = run.evaluated
        report = evaluate(
            model,
            parts.processor,
            validation,
            rules.validation_protocol,
            labels=parts.texts if model.config.reads_text else None,
            attributes=phrases,
            accelerator=run.accelerator,
            batch_size=rules.batch_size,
            num_workers=num_workers,
        )
        _note_unmeasured(parts, report.failures)
        metric = rules.metric if rules.metric in report.metrics else next(iter(report.metrics))
        facts |= {"metrics": report.metrics, "metric": metric}
        if rules.selection != "last":
            run.save_best(report.metrics[metric])
    run.gather_failures()
    ended = run.progress.end_epoch(**facts)
    if run.accelerator.trackers:
        run.accelerator.log({"epoch": epoch, **facts.get("metrics", {})}, step=run.progress.update)
    if run.accelerator.is_main_process:
        measured = f", {facts['metric']} {facts['metrics'][facts['metric']]:.4f}" if "metric" in facts else ""
        say(f"epoch {epoch} of {recipe.training.epochs}: loss {ended['loss']:.4f}{measured}")


def _publish(
    folder: RunFolder,
    recipe: Recipe,
    labels: Sequence[str],
    start: str | Path | None,
    processor: RecognizerProcessor,
    weights: dict[str, Tensor],
) -> None:
    """Build the model once more, plain and whole, and write it with these weights."""
    model, _ = start_model(recipe, labels, start)
    adapters = choose_trained(model, recipe.training)
    model.load_state_dict(weights)
    if adapters is not None:
        merge_adapters(adapters)
    encoded = processor.encode_labels(label_texts(recipe, labels)) if model.config.reads_text else {}
    folder.publish(model, processor, labels, encoded)


def _record(
    recipe: Recipe,
    start: str | Path | None,
    labels: Sequence[str],
    dataset: datasets.Dataset,
    validation: datasets.Dataset | None,
) -> dict[str, Any]:
    """Give what a run is made with; a resumed one must have the same."""
    found = [None if part is None else [len(part), _cover(part).get("fingerprint")] for part in (dataset, validation)]
    names = dict(zip(("training", "validation"), found, strict=True))
    chosen = str(recipe.start if start is None else start)
    return {"name": recipe.name, "recipe": recipe.to_dict(), "start": chosen, "labels": list(labels), "videos": names}


def _cover(dataset: datasets.Dataset | None) -> dict[str, Any]:
    return {} if dataset is None else Coverage.of(dataset).to_dict()


def _describe(parts: Setup, record: dict[str, Any], coverage: dict[str, Any]) -> dict[str, Any]:
    """Return the content of `training.json`: settings, history, cost, coverage and versions of a finished run."""
    run, seconds = parts.run, parts.run.progress.seconds
    parameters = {True: 0, False: 0}
    for parameter in run.recognizer.parameters():
        parameters[parameter.requires_grad] += parameter.numel()
    return {
        **record,
        "updates": run.progress.update,
        "history": run.progress.history,
        "best": run.progress.best,
        "failures": run.progress.failures,
        "coverage": coverage,
        "batch_size": parts.plan.batch_size,
        "processes": run.accelerator.num_processes,
        "device": str(run.accelerator.device),
        "trained_parameters": parameters[True],
        "frozen_parameters": parameters[False],
        "precision": run.accelerator.mixed_precision,
        "seconds": round(seconds, 3),
        "training_videos_per_second": round(run.progress.update * parts.plan.batch_size / seconds, 3)
        if seconds
        else None,
        "memory_mb": round(run.progress.memory_mb, 1),
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _result(folder: RunFolder) -> TrainingResult:
    found = folder.result or {}
    fields = {name: found.get(name) for name in ("updates", "history", "best", "failures")}
    return TrainingResult(folder.path, **fields)  # type: ignore[arg-type]


def _note_failures(parts: Setup, micro_batches: Sequence[dict[str, Any]]) -> None:
    """Remember the videos that could not be read, and say so once of each."""
    dataset, known = parts.samples.dataset, parts.run.progress.failures
    for row, why in (failure for batch in micro_batches for failure in batch["failed"]):
        name = str(dataset[row].get("name") or f"video {row}")
        if name not in known:
            known[name] = why
            say(f"another video takes the place of one that cannot be read: {why}")


def _note_unmeasured(parts: Setup, failures: dict[str, str]) -> None:
    """Remember the videos of the validation that could not be read, and say so once of each."""
    known = parts.run.progress.failures
    for name, why in failures.items():
        if name not in known and parts.run.accelerator.is_main_process:
            say(f"{name} is in no measurement: {why}")
        known[name] = why


def _any_process(interruption: Interruption, accelerator: Accelerator) -> bool:
    asked = interruption.asked is not None
    if accelerator.num_processes == 1:
        return asked
    total: Tensor = accelerator.reduce(torch.tensor(float(asked), device=accelerator.device), "sum")
    return bool(total > 0)


def _progress_bar(parts: Setup) -> Any:
    from tqdm import tqdm

    progress, accelerator = parts.run.progress, parts.run.accelerator
    return tqdm(
        desc=f"epoch {progress.epoch + 1}",
        total=parts.plan.updates_per_epoch,
        initial=progress.done,
        unit="update",
        file=sys.stderr,
        disable=not accelerator.is_main_process or not sys.stderr.isatty(),
    )


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Give nested settings under dotted names, as trackers want them."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        simple = value if isinstance(value, int | float | str | bool) else str(value)
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: simple}
    return flat
