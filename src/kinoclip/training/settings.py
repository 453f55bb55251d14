"""The numbers and choices of a training run, each checked when it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from huggingface_hub.dataclasses import type_validator

Number = float | int


class Settings:
    """Values that are checked against their annotations, and then against each other."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            type_validator(name, getattr(self, name), kind)
        self.check()

    def check(self) -> None:
        """Check what annotations cannot say."""


@dataclass(frozen=True)
class DataSettings(Settings):
    """What is read of a data set, and what is done to it: `[data]` of a recipe.

    Args:
        sampling: rule of `sample_indices` for the frames, in evaluation too; None is the method's own.
        augmentation: crop of `ClipAugmentation`; "none" trains on what evaluation sees.
        flip: of `ClipAugmentation`, like the next four.
        grayscale: see there.
        color_jitter: see there.
        randaugment: see there.
        erasing: see there.
        rotation: see there.
        random_frames: draw frames at random; None does where there is an augmentation.
        mixup: alpha of mixup between the videos of a micro-batch, 0 for none.
        cutmix: alpha of cutmix; with both, each step draws one of them.
        label_smoothing: share of the target that all classes have alike. ALT smooths inside of its own loss instead.
        templates: the sentences around a label, or the name of one ("bike"); None is the method's own.
        label_style: labels as the data set spells them ("paper"), or spelled out ("words").
        descriptions: a sentence for each label that is read together with it (SLLM): a packaged set or a file.
        corpus: entities for a method that aligns with them (ALT): a corpus by name ("kinoshapes" is that of the procedural
            benchmark), or a file.
        chinese_labels: Chinese names for a model with a Chinese branch (DSTPR): a packaged set, "kinoshapes" or a file.
        chinese_clip: folder or hub id of the Chinese-CLIP that reads them, or "mini" for KinoShapes.
        attributes: file of phrases for each training video (`kinoclip.text.attributes.write_attributes`), for a model with
            an attributes branch (BIKE).
        test_attributes: the same for the videos that are measured, if they are in another file, as BIKE's authors have it.
        attribute_clip: folder or hub id of the CLIP whose frozen text tower the attributes branch has, instead of the model's.
        num_attributes: phrases of a video that are read, best first, in training and in evaluation.
        attribute_template: the sentence around the phrases of a video, or the name of one ("bike"); None is the method's own.
        normalization: mean and standard deviation of the pixels: those of "clip" or of "imagenet"; None is the method's own.
        shots: videos of each class that are kept for training; 0 for all.
        shot_list: file of the training videos (`kinoclip.data.splits.write_list`), instead of a draw.
        repeat: number of passes over the videos in one epoch (few-shot training).
        classes: train on "all" classes, or on the first half of them ("base"), for base-to-novel generalization.
        fold: of UCF101 and HMDB51.
        segments: train on annotated intervals instead of whole videos (ActivityNet, Charades).
        train_split: split that is trained on, where the data has splits.
        validation_split: split that selects the epoch where `evaluation.selection = "validation"`. Where the data lacks it,
            or it is the test split, a share of the training videos is held out instead.
        test_split: split of the reported number, or "all" videos; None is the one that papers report on this data set.
        held_out: share of the training videos of each class that is held out for validation.
    """

    sampling: str | None = None
    augmentation: Literal["none", "resized_crop", "multi_scale_crop", "center_crop"] = "resized_crop"
    flip: bool = True
    grayscale: Number = 0.2
    color_jitter: Number = 0.0
    randaugment: list[int] | None = None
    erasing: Number = 0.0
    rotation: Number = 0.0
    random_frames: bool | None = None
    mixup: Number = 0.0
    cutmix: Number = 0.0
    label_smoothing: Number = 0.0
    templates: str | list[str] | None = None
    label_style: Literal["paper", "words"] = "paper"
    descriptions: str | None = None
    corpus: str | None = None
    chinese_labels: str | None = None
    chinese_clip: str | None = None
    attributes: str | None = None
    test_attributes: str | None = None
    attribute_clip: str | None = None
    num_attributes: int = 5
    attribute_template: str | None = None
    normalization: Literal["clip", "imagenet"] | None = None
    shots: int = 0
    shot_list: str | None = None
    repeat: int = 1
    classes: Literal["all", "base"] = "all"
    fold: int = 1
    segments: bool = False
    train_split: str = "train"
    validation_split: str = "validation"
    test_split: str | None = None
    held_out: Number = 0.1

    def check(self) -> None:
        """Check numbers."""
        _at_least(self, 0, "mixup", "cutmix", "shots")
        _at_least(self, 1, "repeat", "fold", "num_attributes")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}. It is a share, above 0 and below 1.")
        if self.shots and self.shot_list is not None:
            raise ValueError("shots and shot_list exclude each other. Set shots = 0 to train on the videos of a list.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}. It is a share, from 0 to below 1.")

    def augmentation_options(self) -> dict[str, Any]:
        """Give what `VideoSamples` takes beside the data set and the processor."""
        words = ("flip", "grayscale", "color_jitter", "randaugment", "erasing", "rotation")
        plain = {"sampling": self.sampling, "random_frames": self.random_frames}
        if self.augmentation == "none":
            return plain
        return {"augmentation": self.augmentation, **plain, **{name: getattr(self, name) for name in words}}


@dataclass(frozen=True)
class LoraSettings(Settings):
    """Low-rank adapters on CLIP's towers, merged before the model is saved: `[training.lora]`.

    Args:
        rank: of each adapter; 0 for none.
        alpha: the adapter's output is multiplied by alpha / rank.
        targets: ends of the names of the linear layers that get one.
        dropout: before each adapter.
    """

    rank: int = 0
    alpha: Number = 16
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])
    dropout: Number = 0.0

    def check(self) -> None:
        """Check numbers."""
        _at_least(self, 0, "rank", "dropout")
        if self.rank and not self.targets:
            raise ValueError("targets is empty. Name the layers that get adapters, such as q_proj.")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """How the weights are changed: `[training]` of a recipe.

    Args:
        epochs: passes over the data; 0 only writes what the recipe starts from, to be measured.
        batch_size: videos per update, over all processes and accumulated micro-batches.
        accumulation: micro-batches that an update is computed in, for memory.
        accumulated_loss: of objectives that compare the videos of a batch: the loss of the whole "batch", as if it were
            computed at once, at the price of a second forward pass; or the mean over "micro_batches", as the official loops
            have it.
        objective: "candidates" matches each video with all classes; "captions" with the captions of its batch.
        multi_label: where videos have several labels, they "share" the target, or each class is a "yes_no" question.
        freeze: what is not trained: what the "method" says, "nothing", or also CLIP's "towers".
        optimizer: "adamw", or "sgd" with momentum.
        lr: learning rate of new modules.
        backbone_scale: learning rate of what comes with CLIP, as a share of `lr`.
        groups: learning rates of named modules, such as `{"decoder": 8e-4}`: of all parameters with that word in their dotted
            name. The first matching entry counts, before `lr` and `backbone_scale`.
        weight_decay: on every trained tensor.
        decay_vectors: on biases, norms, scales and position embeddings too, as the official loops have it.
        betas: of AdamW.
        eps: of AdamW.
        momentum: of SGD.
        warmup_epochs: in which the rate rises from 0; then it falls along a cosine.
        refresh_every: updates between changes of the rate; 10 is the stair of the official loops.
        final_lr_scale: the last rate as a share of the highest.
        clip_norm: largest norm of the gradient; None does not clip.
        precision: of the arithmetic; "no" is float32. A CPU has no float16: it trains in float32 instead, and the run says so.
        activation_checkpointing: compute activations twice instead of keeping them.
        ema: decay of an average of the weights that is evaluated and saved in their place; 0 for none.
        cache_features: encode each video once and keep what comes out on disk; needs a frozen encoder and nothing random.
        lora: adapters instead of training CLIP's towers.
        seed: of everything random.
    """

    epochs: int = 30
    batch_size: int = 256
    accumulation: int = 1
    accumulated_loss: Literal["batch", "micro_batches"] = "batch"
    objective: Literal["candidates", "captions"] = "candidates"
    multi_label: Literal["share", "yes_no"] = "share"
    freeze: Literal["method", "nothing", "towers"] = "method"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Number = 5e-5
    backbone_scale: Number = 0.1
    groups: dict[str, Number] = field(default_factory=dict)
    weight_decay: Number = 0.2
    decay_vectors: bool = True
    betas: list[Number] = field(default_factory=lambda: [0.9, 0.999])
    eps: Number = 1e-8
    momentum: Number = 0.9
    warmup_epochs: Number = 5
    refresh_every: int = 1
    final_lr_scale: Number = 0.0
    clip_norm: Number | None = None
    precision: Literal["no", "bf16", "fp16"] = "no"
    activation_checkpointing: bool = False
    ema: Number = 0.0
    cache_features: bool = False
    lora: LoraSettings = field(default_factory=LoraSettings)
    seed: int = 0

    def check(self) -> None:
        """Check numbers."""
        _at_least(self, 1, "batch_size", "accumulation", "refresh_every")
        _at_least(self, 0, "epochs", "lr", "backbone_scale", "weight_decay", "warmup_epochs", "final_lr_scale", "seed")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size is {self.batch_size}, which {self.accumulation} micro-batches do not share evenly. "
                "Choose an accumulation that divides it."
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {self.betas}. AdamW takes two numbers from 0 to below 1.")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}. It is a share, from 0 to below 1.")
        if any(rate < 0 for rate in self.groups.values()):
            raise ValueError(f"groups is {self.groups}. A learning rate is at least 0.")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}. It is a share, from 0 to below 1, such as 0.999.")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm is {self.clip_norm}. It is above 0; leave it out for no clipping.")


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """How the result is measured: `[evaluation]` of a recipe.

    Args:
        protocol: of `kinoclip.evaluation`, for the number that the paper prints.
        validation_protocol: the one after an epoch.
        selection: which weights are published: those of the "last" epoch, of the best epoch on "validation" videos that are
            not trained on, or of the best epoch on the "test" videos of the reported number, which is biased upwards.
        metric: the one that says which epoch was best: top1, top5, mean_class_accuracy or map.
        every: epochs between validations; the last one is always measured.
        class_lists: sets of classes that are scored by themselves, each a packaged list, a file of names, or "base" and
            "novel" (the first and second half of the classes).
        data: data sets that are measured too, such as "kinoshapes/unseen", each as `load_videos` takes it.
        mean_of: recipes whose results are averaged; such a row trains and measures nothing itself.
        gain_over: the recipe that `top1_gain` is the difference to.
        batch_size: videos per step.
    """

    protocol: str = "single_view"
    validation_protocol: str = "single_view"
    selection: Literal["last", "validation", "test"] = "last"
    metric: str = "top1"
    every: int = 1
    class_lists: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    mean_of: list[str] = field(default_factory=list)
    gain_over: str = ""
    batch_size: int = 8

    def check(self) -> None:
        """Check numbers."""
        _at_least(self, 1, "every", "batch_size")


@dataclass(frozen=True)
class RunSettings(Settings):
    """How many runs stand behind a number: `[runs]` of a recipe.

    Args:
        seeds: runs with seeds `training.seed`, `training.seed + 1`, ...; few-shot draws differ with the seed.
        folds: folds of the data set that are trained and tested in turn; empty for `data.fold` alone.
    """

    seeds: int = 1
    folds: list[int] = field(default_factory=list)

    def check(self) -> None:
        """Check numbers."""
        _at_least(self, 1, "seeds")
        if any(fold < 1 for fold in self.folds):
            raise ValueError(f"folds is {self.folds}. Folds count from 1.")


def _at_least(settings: Any, lowest: int, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < lowest:
            raise ValueError(f"{name} is {getattr(settings, name)}. It is at least {lowest}.")
