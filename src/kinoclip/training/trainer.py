"""Train a recognizer by a recipe: read `train` from top to bottom."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers.utils.generic import flatten_dict

from kinoclip.data.coverage import Coverage, content_fingerprint, find_mistakes
from kinoclip.data.samples import VideoSamples, class_names
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.storage import claimed, write_json
from kinoclip.training.batches import BatchPlan, FeatureSamples, UnreadSamples, update_batches
from kinoclip.training.build_model import build_model, freeze_parameters, label_texts
from kinoclip.training.checkpoints import TrainingState, reset_peak_memory
from kinoclip.training.data import drop_unlabelled, encode_attributes, load_attributes
from kinoclip.training.objective import Objective
from kinoclip.training.optimization import build_optimizer, build_scheduler
from kinoclip.training.recipe import Recipe
from kinoclip.training.run_folder import (
    CHECKPOINTS,
    RECORD,
    RESULT,
    SignalHandler,
    claim_folder,
    log,
    remove_leftovers,
    save_model,
)
from kinoclip.training.update_step import UpdateStep, is_deepspeed, is_sharded, prepare

if TYPE_CHECKING:
    import datasets
    from accelerate import Accelerator

_PACKAGES = ("kinoclip", "torch", "transformers", "accelerate", "datasets", "av")
# parts of a recipe that the weights do not depend on: a run continues when they change
_UNTRAINED = ("recipe.title", "recipe.table", "recipe.paper", "recipe.caveats", "recipe.runs")


@dataclass(frozen=True)
class TrainingResult:
    """The result of a run; `training.json` in its folder holds it too, with all settings."""

    output: Path  # the folder, ready to load and to publish
    updates: int  # of the weights
    history: list[dict[str, Any]]  # losses and validation of each epoch
    best: dict[str, Any] | None  # update, epoch and value of the published weights; None: those of the last epoch
    failures: dict[str, str]  # name of a video that could not be read to the reason


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
        recipe: all settings that the result depends on.
        dataset: training videos, from `kinoclip.data.load_videos`.
        output: a new folder, or with `resume` that of a run.
        start: a CLIP or a recognizer (folder or hub id), or "mini"; the recipe's own by default.
        validation: videos that are measured after an epoch. They select the epoch whose weights are saved, unless
            `evaluation.selection` is "last".
        accelerator: precision and processes; built from the recipe by default.
        resume: continue from the last checkpoint, bit by bit as if the run had not stopped.
        num_workers: processes that decode, for each training process.
        save_every: updates between checkpoints, in addition to one after each epoch.
        trackers: of accelerate: "tensorboard", "wandb", "trackio", ...
        features: folder for the features of frozen encoders (`training.cache_features`); inside `output` by default.

    Raises:
        ValueError: settings, data and start do not fit together, or all videos have one label.
        RuntimeError: another process writes to `output`, or fewer processes started than launched.
        KeyboardInterrupt: on Ctrl-C, after a checkpoint. SIGTERM ends the process after a checkpoint, unless it is handled.
    """
    dataset = drop_unlabelled(dataset, recipe.training.multi_label)
    mistakes = find_mistakes(dataset)
    if validation is None and recipe.evaluation["selection"] != "last" and recipe.training.epochs:
        raise ValueError(
            f"evaluation.selection is {recipe.evaluation['selection']!r}, which needs validation videos. Pass some, or set it "
            'to "last".'
        )
    attributes = None if validation is None else load_attributes(recipe, validation)
    accelerator = accelerator or make_accelerator(recipe, output, trackers)
    if accelerator.num_processes < int(os.environ.get("WORLD_SIZE", "1")):
        raise RuntimeError(
            f"The launcher started {os.environ['WORLD_SIZE']} processes, but this one found no others. Without GPUs set "
            "ACCELERATE_USE_CPU=true."
        )
    reset_peak_memory(accelerator.device)
    record = _describe_run(recipe, start, dataset, validation)
    folder = Path(output)
    claim = (
        claim_folder(folder, RECORD, record, resume=resume, may_differ=_UNTRAINED)
        if accelerator.is_main_process
        else nullcontext()
    )
    with claim, SignalHandler() as signals:
        if (folder / RESULT).is_file():
            log(f"{folder} holds a finished run.")
            result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            return TrainingResult(folder, *(result.get(name) for name in ("updates", "history", "best", "failures")))
        if accelerator.is_main_process:
            for mistake in mistakes:
                log(f"training data: {mistake}")
            remove_leftovers(folder)
        trainer = Trainer(recipe, dataset, start, accelerator, folder, features)
        state = trainer.state
        if resume and state.restore() and accelerator.is_main_process:
            log(f"resumed after {state.progress.update} updates, in epoch {state.progress.epoch + 1}")
        if trackers:
            accelerator.init_trackers("kinoclip", config=_flatten(recipe.to_dict()))
        while state.progress.epoch < recipe.training.epochs:
            trainer.train_epoch(signals, num_workers, save_every)
            trainer.end_epoch(validation, attributes, num_workers)
            state.save()
            if state.progress.epoch < recipe.training.epochs and trainer.is_stopped(signals):
                signals.stop()
        weights = state.best_weights()
        if accelerator.is_main_process:
            trainer.publish(start, weights)
            write_json(folder / RESULT, {**record, **trainer.describe(dataset, validation)}, owns=claimed)
        if trackers:
            accelerator.end_training()
        accelerator.wait_for_everyone()
        progress = state.progress
        return TrainingResult(folder, progress.update, progress.history, progress.best, progress.failures)


def make_accelerator(recipe: Recipe, output: str | Path, trackers: Sequence[str] = ()) -> Accelerator:
    """Build the accelerator of a recipe; the launcher decides on the number of processes."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, is_initialized
    from accelerate.utils import ProjectConfiguration

    settings, precision = recipe.training, recipe.training.precision
    if precision == "fp16" and not torch.accelerator.is_available():
        precision = "no"
        log("training.precision is fp16, which CPUs do not support: training in float32.")
    if is_initialized() and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # this process has trained with another precision before
    # a method freezes what its loss does not use; with everything trained, some parameters get no gradient
    unused = DistributedDataParallelKwargs(find_unused_parameters=settings.freeze == "nothing")
    accelerator = Accelerator(
        mixed_precision=precision,
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(str(output), logging_dir=str(Path(output) / "logs")),
        kwargs_handlers=[unused],
    )
    if len(accelerator.log_with) < len(trackers):  # accelerate skips trackers that are not installed
        installed = [str(getattr(tracker, "value", tracker)) for tracker in accelerator.log_with]
        missing = [tracker for tracker in trackers if tracker not in installed]
        raise ImportError(f"The tracker {missing[0]} is not installed: pip install {missing[0]}.")
    return accelerator


class Trainer:
    """The model of a run, its data and its optimizer; see `train` for the arguments."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: datasets.Dataset,
        start: str | Path | None,
        accelerator: Accelerator,
        folder: Path,
        features: str | Path | None,
    ):
        self.recipe, self.accelerator, self.folder = recipe, accelerator, folder
        self.labels = class_names(dataset)
        self.texts = label_texts(recipe, self.labels)
        settings = recipe.training
        model, self.processor = build_model(recipe, self.labels, start)
        model.to(accelerator.device)
        freeze_parameters(model, settings)
        attributes = encode_attributes(recipe, dataset, self.processor)
        objective = Objective(model, self.processor, recipe, self.texts, attributes)
        self.features = Path(features or folder / "features")
        self.samples = self._load_samples(dataset, model, objective.reads_videos)
        is_frozen = objective.trained_branch == "attributes" and settings.freeze != "nothing"
        is_whole = not is_sharded(accelerator) and not is_deepspeed(accelerator)
        self.keeps_validation = (is_frozen or settings.cache_features) and is_whole
        self.validation: FeatureSamples | None = None
        self.plan = self._plan_batches()
        if settings.activation_checkpointing:
            model.activation_checkpointing_enable()
        optimizer = build_optimizer(model, settings)
        scheduler = build_scheduler(
            optimizer,
            settings.warmup_epochs,
            settings.epochs,
            self.plan.updates_per_epoch,
            refresh_every=settings.refresh_every,
            final_scale=settings.final_lr_scale,
        )
        # copied before the accelerator wraps the model for its precision
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema)) if settings.ema else None
        prepared, prepared_optimizer = prepare(accelerator, model, optimizer, self.plan.size)
        self.step = UpdateStep(accelerator, prepared, prepared_optimizer, scheduler, objective, settings)
        self.state = TrainingState(accelerator, folder / CHECKPOINTS, prepared, prepared_optimizer, scheduler, average)

    def _load_samples(self, dataset: datasets.Dataset, model: VideoRecognizer, reads_videos: bool) -> VideoSamples:
        recipe, videos = self.recipe, self.processor.video_processor
        discarded = "discarded_pixel_values" in model.further_inputs and videos.keep_every > 1
        options = recipe.data_settings.sample_options()
        samples = VideoSamples(dataset, videos, discarded=discarded, seed=recipe.training.seed, **options)
        if not reads_videos:
            return UnreadSamples(samples)
        return self._store_features(samples, model) if recipe.training.cache_features else samples

    def _store_features(self, samples: VideoSamples, model: VideoRecognizer) -> FeatureSamples:
        stored = FeatureSamples.filled(
            samples, self.features, model, self.accelerator.process_index, self.accelerator.num_processes
        )
        self.accelerator.wait_for_everyone()
        return stored

    def _keep(self, samples: VideoSamples) -> VideoSamples:
        """Return the features of the validation videos, which are decoded and encoded once in a run."""
        if self.validation is None:
            self.validation = self._store_features(samples, self.state.recognizer)
        return self.validation

    def _plan_batches(self) -> BatchPlan:
        settings = self.recipe.training
        plan = BatchPlan.fitting(
            len(self.samples),
            settings.batch_size,
            accumulation=settings.accumulation,
            processes=self.accelerator.num_processes,
            repeat=self.recipe.data["repeat"],
            seed=settings.seed,
        )
        if plan.batch_size < settings.batch_size and self.accelerator.is_main_process:
            log(f"{plan.batch_size} videos per update instead of {settings.batch_size}, since there are {plan.count}.")
        return plan

    def train_epoch(self, signals: SignalHandler, num_workers: int, save_every: int | None) -> None:
        """Take the remaining updates of an epoch; stop after an update, with a checkpoint, on a signal."""
        from tqdm import tqdm

        state, accelerator, progress = self.state, self.accelerator, self.state.progress
        batches = update_batches(
            self.samples, self.plan, progress.epoch, accelerator.process_index, progress.done, num_workers
        )
        is_shown = accelerator.is_main_process and sys.stderr.isatty()
        began = time.monotonic()
        with tqdm(
            desc=f"epoch {progress.epoch + 1}",
            total=self.plan.updates_per_epoch,
            initial=progress.done,
            unit="update",
            disable=not is_shown,
        ) as bar:
            for micro_batches in batches:
                losses = self.step(micro_batches, progress.update)
                if state.average is not None:
                    state.average.update_parameters(state.recognizer)
                progress.count(losses, time.monotonic() - began)
                began = time.monotonic()
                self._log_failures(micro_batches)
                if accelerator.trackers:
                    accelerator.log({**losses, "lr": state.scheduler.get_last_lr()[-1]}, step=progress.update)
                bar.set_postfix(loss=f"{sum(losses.values()):.4f}", refresh=False)
                bar.update()
                stops = self.is_stopped(signals)
                if stops or (save_every and progress.update % save_every == 0):
                    state.save()
                if stops:
                    signals.stop()

    def _log_failures(self, micro_batches: Sequence[dict[str, Any]]) -> None:
        """Record the training videos that could not be read, and log each once."""
        known = self.state.progress.failures
        for row, reason in (failure for batch in micro_batches for failure in batch["failed"]):
            name = str(self.samples.dataset[row].get("name") or f"video {row}")
            if name not in known:
                known[name] = reason
                log(f"a video that cannot be read is replaced by another: {reason}")

    def end_epoch(
        self, validation: datasets.Dataset | None, attributes: dict[str, list[str]] | None, num_workers: int
    ) -> None:
        """Measure the validation videos if it is time, save the weights if they are the best, and log the epoch."""
        state, accelerator, rules = self.state, self.accelerator, self.recipe.evaluation_settings
        epoch, epochs = state.progress.epoch + 1, self.recipe.training.epochs
        facts: dict[str, Any] = {"lr": state.scheduler.get_last_lr()[-1]}
        if validation is not None and (epoch % rules.every == 0 or epoch == epochs):
            model = state.evaluated
            report = evaluate(
                model,
                self.processor,
                validation,
                rules.validation_protocol,
                labels=self.texts if model.config.reads_text else None,
                attributes=attributes,
                accelerator=accelerator,
                batch_size=rules.batch_size,
                num_workers=num_workers,
                replace_samples=self._keep if self.keeps_validation else None,
            )
            for name, reason in report.failures.items():
                if name not in state.progress.failures and accelerator.is_main_process:
                    log(f"{name} is in no metric: {reason}")
                state.progress.failures[name] = reason
            metric = rules.metric if rules.metric in report.metrics else next(iter(report.metrics))
            facts |= {"metrics": report.metrics, "metric": metric}
            if rules.selection != "last":
                state.save_best(report.metrics[metric])
        state.gather_failures()
        entry = state.progress.end_epoch(**facts)
        if accelerator.trackers:
            accelerator.log({"epoch": epoch, **facts.get("metrics", {})}, step=state.progress.update)
        if accelerator.is_main_process:
            measured = f", {facts['metric']} {facts['metrics'][facts['metric']]:.4f}" if "metric" in facts else ""
            log(f"epoch {epoch} of {epochs}: loss {entry['loss']:.4f}{measured}")

    def is_stopped(self, signals: SignalHandler) -> bool:
        """Return whether any process has received a signal."""
        received = signals.received is not None
        if self.accelerator.num_processes == 1:
            return received
        total: Tensor = self.accelerator.reduce(torch.tensor(float(received), device=self.accelerator.device), "sum")
        return bool(total > 0)

    @torch.no_grad()
    def publish(self, start: str | Path | None, weights: dict[str, Tensor]) -> None:
        """Build a plain model with these weights, merge adapters, and save it with the classes as its own candidates."""
        model, _ = build_model(self.recipe, self.labels, start)
        adapters = freeze_parameters(model, self.recipe.training)
        model.load_state_dict(weights)
        if adapters is not None:
            adapters.merge_and_unload()
        model.eval()
        if model.config.reads_text:
            model.set_candidates(self.labels, model.encode_text(**self.processor.encode_labels(self.texts)))
        save_model(self.folder, model, self.processor)

    def describe(self, dataset: datasets.Dataset, validation: datasets.Dataset | None) -> dict[str, Any]:
        """Return the history, cost, coverage and versions of a finished run, for `training.json`."""
        progress, accelerator = self.state.progress, self.accelerator
        recognizer = self.state.recognizer
        trained = recognizer.num_parameters(only_trainable=True)
        videos = progress.update * self.plan.batch_size
        return {
            "updates": progress.update,
            "history": progress.history,
            "best": progress.best,
            "failures": progress.failures,
            "coverage": {"validation": _coverage(validation), "training": _coverage(dataset)},
            "batch_size": self.plan.batch_size,
            "processes": accelerator.num_processes,
            "device": str(accelerator.device),
            "trained_parameters": trained,
            "frozen_parameters": recognizer.num_parameters() - trained,
            "precision": accelerator.mixed_precision,
            "seconds": round(progress.seconds, 3),
            "training_videos_per_second": round(videos / progress.seconds, 3) if progress.seconds else None,
            "memory_mb": round(progress.memory_mb, 1),
            "versions": {package: version(package) for package in _PACKAGES},
        }


def _describe_run(
    recipe: Recipe, start: str | Path | None, dataset: datasets.Dataset, validation: datasets.Dataset | None
) -> dict[str, Any]:
    """Return the settings and data of a run, for `run.json`; a resumed run must have the same."""
    parts = {"training": dataset, "validation": validation}
    return {
        "name": recipe.name,
        "recipe": recipe.to_dict(),
        "start": str(recipe.start if start is None else start),
        "labels": class_names(dataset),
        "videos": {
            name: None if part is None else [len(part), Coverage.of(part).fingerprint, content_fingerprint(part)]
            for name, part in parts.items()
        },
    }


def _coverage(dataset: datasets.Dataset | None) -> dict[str, Any]:
    return {} if dataset is None else Coverage.of(dataset).to_dict()


def _flatten(content: dict[str, Any]) -> dict[str, Any]:
    """Return nested settings by dotted name, for trackers."""
    flat = {name: value for name, value in flatten_dict(content).items() if value != {}}
    return {name: value if isinstance(value, int | float | str | bool) else str(value) for name, value in flat.items()}
