"""Everything that a run needs, built from its recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kinoclip.data.samples import VideoSamples
from kinoclip.processing import RecognizerProcessor
from kinoclip.recognizer import VideoRecognizer

from .batching import BatchPlan
from .features import FeatureSamples
from .freezing import choose_trained
from .objective import Objective
from .optimizer import parameter_groups
from .output import RunFolder
from .preparing import encode_attributes
from .recipe import Recipe
from .run import Run, say
from .schedule import build_scheduler
from .settings import TrainingSettings
from .sharding import prepare
from .starting import label_texts, start_model
from .step import UpdateStep

if TYPE_CHECKING:
    import datasets
    from accelerate import Accelerator


@dataclass(frozen=True)
class Setup:
    """What the loop works with.

    Attributes:
        run: the weights, and how far they are.
        step: changes them.
        samples: what they are trained on.
        plan: in which batches.
        processor: of the model.
        texts: what the model reads for each class.
    """

    run: Run
    step: UpdateStep
    samples: VideoSamples
    plan: BatchPlan
    processor: RecognizerProcessor
    texts: list[str]


def make_accelerator(recipe: Recipe, output: str | Path, trackers: Sequence[str] = ()) -> Accelerator:
    """Give the accelerator of a recipe; how many processes there are is the launcher's to say."""
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState, is_initialized
    from accelerate.utils import ProjectConfiguration

    settings, precision = recipe.training, recipe.training.precision
    if precision == "fp16" and not torch.accelerator.is_available():
        precision = "no"
        say("training.precision is fp16, which a CPU does not have: training in float32.")
    if is_initialized() and AcceleratorState().mixed_precision != precision:
        AcceleratorState._reset_state()  # of an earlier run in this process
    # a method freezes what takes no part in its loss; whoever unfreezes everything trains unused weights too
    unused = DistributedDataParallelKwargs(find_unused_parameters=settings.freeze == "nothing")
    accelerator = Accelerator(
        mixed_precision=precision,
        log_with=list(trackers) or None,
        project_config=ProjectConfiguration(str(output), logging_dir=str(Path(output) / "logs")),
        kwargs_handlers=[unused],
    )
    if len(accelerator.log_with) < len(trackers):  # accelerate leaves out what is not installed
        there = [str(getattr(tracker, "value", tracker)) for tracker in accelerator.log_with]
        missing = [tracker for tracker in trackers if tracker not in there]
        raise ImportError(f"The tracker {missing[0]} is not installed: pip install {missing[0]}.")
    return accelerator


def set_up(
    recipe: Recipe,
    dataset: datasets.Dataset,
    labels: Sequence[str],
    start: str | Path | None,
    accelerator: Accelerator,
    folder: RunFolder,
    features: str | Path | None,
) -> Setup:
    """Build the model and all that trains it."""
    settings = recipe.training
    model, processor = start_model(recipe, labels, start)
    model.to(accelerator.device)
    choose_trained(model, settings)
    texts = label_texts(recipe, labels)
    attributes = encode_attributes(recipe, dataset, processor)
    objective = Objective(model, processor, recipe, texts, attributes)
    samples = _samples(recipe, dataset, model, processor)
    if settings.cache_features:
        samples = _cached(samples, model, Path(features or folder.path / "features"), accelerator)
    plan = _plan(recipe, len(samples), accelerator)
    if settings.activation_checkpointing:
        model.activation_checkpointing_enable()
    optimizer = build_optimizer(model, settings)
    scheduler = build_scheduler(
        optimizer,
        settings.warmup_epochs,
        settings.epochs,
        plan.updates_per_epoch,
        refresh_every=settings.refresh_every,
        final_scale=settings.final_lr_scale,
    )
    # before the precision of the accelerator wraps it
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema)) if settings.ema else None
    prepared, prepared_optimizer = prepare(accelerator, model, optimizer, plan.size)
    step = UpdateStep(accelerator, prepared, prepared_optimizer, scheduler, objective, settings)
    run = Run(accelerator, folder, prepared, prepared_optimizer, scheduler, average)
    return Setup(run, step, samples, plan, processor, texts)


def build_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """Build the optimizer of the trained parameters, as the official loops set it up."""
    groups = parameter_groups(
        model,
        settings.lr,
        settings.backbone_scale,
        settings.weight_decay,
        decays=None if settings.decay_vectors else _decays,
        rates=settings.groups,
    )
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=settings.momentum)
    first, second = settings.betas
    return torch.optim.AdamW(groups, betas=(first, second), eps=settings.eps)


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Check whether a parameter decays where vectors do not. Source: X-CLIP's `utils/optimizer.py`, `set_weight_decay`."""
    return parameter.ndim > 1 and "position_embedding" not in name


def _samples(
    recipe: Recipe, dataset: datasets.Dataset, model: VideoRecognizer, processor: RecognizerProcessor
) -> VideoSamples:
    videos: Any = getattr(processor, "video_processor", processor)
    discarded = "discarded_pixel_values" in model.loss_inputs and videos.keep_every > 1
    options = recipe.data_settings.augmentation_options()
    return VideoSamples(dataset, videos, discarded=discarded, seed=recipe.training.seed, **options)


def _cached(samples: VideoSamples, model: VideoRecognizer, folder: Path, accelerator: Accelerator) -> FeatureSamples:
    cached = FeatureSamples(samples, folder, model)
    cached.fill(model, accelerator.process_index, accelerator.num_processes)
    accelerator.wait_for_everyone()
    return cached


def _plan(recipe: Recipe, count: int, accelerator: Accelerator) -> BatchPlan:
    settings = recipe.training
    plan = BatchPlan.fitting(
        count,
        settings.batch_size,
        accumulation=settings.accumulation,
        processes=accelerator.num_processes,
        repeat=recipe.data["repeat"],
        seed=settings.seed,
    )
    if plan.batch_size < settings.batch_size and accelerator.is_main_process:
        say(f"{plan.batch_size} videos per update instead of {settings.batch_size}, since there are {plan.count}.")
    return plan
