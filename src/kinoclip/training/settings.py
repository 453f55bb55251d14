"""The settings of a recipe, checked when they are read."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_type_hints

from huggingface_hub.dataclasses import type_validator

from kinoclip.data.augmentation import ClipAugmentation

Number = float | int


class Settings:
    """Fields that are checked against their annotations, and then against each other."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            type_validator(name, getattr(self, name), kind)
        self.check()

    def check(self) -> None:
        """Check what annotations cannot express."""

    def _at_least(self, lowest: int, *names: str) -> None:
        for name in names:
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}, got {getattr(self, name)}.")

    def _share(self, *names: str) -> None:
        for name in names:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be a share from 0 to below 1, got {getattr(self, name)}.")


@dataclass(frozen=True)
class DataSettings(Settings):
    """Which videos are read, and how they are augmented: `[data]` of a recipe."""

    # Frames and augmentation
    sampling: str | None = None  # rule of `sample_indices`, in evaluation too; None: that of the method
    motion: str | None = None  # what sampling = "motion" follows, see `RecognizerVideoProcessor`; None: pixels
    motion_exponent: Number = 0.5  # 0 samples evenly, 1 follows the motion
    augmentation: Literal["none", "resized_crop", "multi_scale_crop", "center_crop"] = "resized_crop"
    flip: bool = True  # this and the next five are options of `ClipAugmentation`
    grayscale: Number = 0.2
    color_jitter: Number = 0.0
    randaugment: list[int] | None = None
    erasing: Number = 0.0
    rotation: Number = 0.0
    random_frames: bool | None = None  # sample frames at random; None: where there is an augmentation
    normalization: Literal["clip", "imagenet"] | None = None  # mean and deviation of pixels; None: that of the method
    # Targets
    mixup: Number = 0.0  # alpha of mixup between the videos of a micro-batch; 0: none
    cutmix: Number = 0.0  # alpha of cutmix; with both, each step draws one of them
    label_smoothing: Number = 0.0  # share of the target that all classes have alike; ALT smooths inside its own loss
    # Texts
    templates: str | list[str] | None = None  # sentences around a label, or the name of one; None: the method's
    label_style: Literal["paper", "words"] = "paper"  # labels as the data set spells them, or spelled out
    descriptions: str | None = None  # a sentence for each label, read together with it: packaged set or file (SLLM)
    corpus: str | list[str] | None = (
        None  # entities to align with: packaged corpus, a benchmark's, file; or several (ALT)
    )
    # second names for the Chinese branch, in any language: a set ("hmdb51", "hmdb51/english", ...; also a benchmark's) or a file
    chinese_labels: str | None = None
    chinese_clip: str | None = None  # folder or hub id of the tower that reads them; "mini": Chinese for KinoShapes
    second_templates: list[str] | None = None  # sentences around second names; None: the names alone
    # use all second names of a label: a caption draws one, as it draws a template; otherwise they are averaged
    all_names: bool = False
    # Attributes branch (BIKE)
    attributes: str | None = None  # file of `kinoclip attributes`, or a benchmark to find them by the embedded CLIP
    test_attributes: str | None = None  # the same for measured videos, if in another file, as BIKE's authors have it
    attribute_clip: str | None = None  # folder or hub id of the CLIP that gives the text tower; None: the model's own
    num_attributes: int = 5  # phrases of a video that are read, best first
    attribute_template: str | None = None  # sentence around the phrases, or the name of one; None: the method's
    # Parts of the data set
    shots: int = 0  # training videos kept of each class; 0: all
    shot_list: str | None = None  # file of the training videos (`kinoclip.data.splits.write_list`), instead of a draw
    repeat: int = 1  # passes over the videos in one epoch, for few shots
    classes: Literal["all", "base"] = "all"  # base: train on the first half, for base-to-novel generalization
    fold: int = 1  # of UCF101 and HMDB51
    segments: bool = False  # train on annotated intervals instead of whole videos (ActivityNet, Charades)
    train_split: str = "train"
    # selects the epoch with `evaluation.selection = "validation"`; where it is missing or the test split, a share of
    # the training videos is held out instead
    validation_split: str = "validation"
    test_split: str | None = None  # of the reported number, or "all" videos; None: the split that papers report on
    held_out: Number = 0.1  # share of the training videos of each class that is held out for validation

    def check(self) -> None:
        """Check numbers."""
        self._at_least(0, "mixup", "cutmix", "shots")
        self._at_least(1, "repeat", "fold", "num_attributes")
        self._share("label_smoothing")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be a share above 0 and below 1, got {self.held_out}.")
        if self.shots and self.shot_list is not None:
            raise ValueError("shots and shot_list exclude each other. Set shots = 0 to train on the videos of a list.")

    def sample_options(self) -> dict[str, Any]:
        """Return the options of `VideoSamples`."""
        names = ("flip", "grayscale", "color_jitter", "randaugment", "erasing", "rotation")
        changes = {name: getattr(self, name) for name in names}
        augmentation = None if self.augmentation == "none" else ClipAugmentation(self.augmentation, **changes)
        return {"sampling": self.sampling, "random_frames": self.random_frames, "augmentation": augmentation}


@dataclass(frozen=True)
class LoraSettings(Settings):
    """Low-rank adapters on CLIP's towers, merged before the model is saved: `[training.lora]`."""

    rank: int = 0  # 0: no adapters
    alpha: Number = 16  # the output of an adapter is multiplied by alpha / rank
    targets: list[str] = field(default_factory=lambda: ["q_proj", "v_proj"])  # ends of names of adapted linear layers
    dropout: Number = 0.0  # before each adapter

    def check(self) -> None:
        """Check numbers."""
        self._at_least(0, "rank", "dropout")
        if self.rank and not self.targets:
            raise ValueError("targets is empty. Name the layers that get adapters, such as q_proj.")


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """How the weights are trained: `[training]` of a recipe."""

    # Batches and loss
    epochs: int = 30  # passes over the data; 0 only writes the model that the recipe starts from
    batch_size: int = 256  # videos per update, over all processes and micro-batches
    accumulation: int = 1  # micro-batches per update, to save memory
    # for losses that compare the videos of a batch: that of the whole "batch", as if it were computed at once, with a
    # second forward pass; or the mean over "micro_batches", as in the official loops
    accumulated_loss: Literal["batch", "micro_batches"] = "batch"
    objective: Literal["candidates", "captions"] = "candidates"  # match a video with all classes, or batch captions
    multi_label: Literal["share", "yes_no"] = "share"  # labels share the target, or each class is a binary question
    # Parameters
    freeze: Literal["method", "nothing", "towers"] = "method"  # what the method freezes, nothing, or CLIP's towers too
    lora: LoraSettings = field(default_factory=LoraSettings)  # adapters instead of training CLIP's towers
    # Optimizer
    optimizer: Literal["adamw", "sgd"] = "adamw"
    lr: Number = 5e-5  # learning rate of new modules
    backbone_scale: Number = 0.1  # learning rate of CLIP's parameters, as a share of `lr`
    # learning rates of modules, such as {"decoder": 8e-4}: of all parameters with that word in their dotted name; the
    # first match counts, before `lr` and `backbone_scale`
    groups: dict[str, Number] = field(default_factory=dict)
    weight_decay: Number = 0.2
    decay_vectors: bool = True  # decay biases, norms, scales and position embeddings too, as in the official loops
    betas: list[Number] = field(default_factory=lambda: [0.9, 0.999])  # of AdamW
    eps: Number = 1e-8  # of AdamW
    momentum: Number = 0.9  # of SGD
    clip_norm: Number | None = None  # maximum norm of the gradient; None: no clipping
    # Learning rate schedule
    warmup_epochs: Number = 5  # the rate rises from 0, then falls along a cosine
    refresh_every: int = 1  # updates between changes of the rate; 10 in the official loops
    final_lr_scale: Number = 0.0  # the last rate as a share of the highest
    # Computation
    precision: Literal["no", "bf16", "fp16"] = "no"  # "no": float32; a CPU trains in float32 instead of float16
    activation_checkpointing: bool = False  # recompute activations instead of storing them
    ema: Number = 0.0  # decay of the moving average of the weights that is evaluated and saved; 0: none
    cache_features: bool = False  # store the features of each video; needs a frozen encoder and no augmentation
    seed: int = 0

    def check(self) -> None:
        """Check numbers."""
        self._at_least(1, "batch_size", "accumulation", "refresh_every")
        self._at_least(0, "epochs", "lr", "backbone_scale", "weight_decay", "warmup_epochs", "final_lr_scale", "seed")
        self._share("momentum", "ema")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size must be divisible by accumulation, got {self.batch_size} and {self.accumulation}."
            )
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must be two numbers from 0 to below 1, got {self.betas}.")
        if any(rate < 0 for rate in self.groups.values()):
            raise ValueError(f"groups must be learning rates of at least 0, got {self.groups}.")
        if self.clip_norm is not None and self.clip_norm <= 0:
            raise ValueError(f"clip_norm must be above 0, got {self.clip_norm}. Leave it out for no clipping.")


@dataclass(frozen=True)
class EvaluationSettings(Settings):
    """How the result is measured: `[evaluation]` of a recipe."""

    protocol: str = "single_view"  # of `kinoclip.evaluation`, for the number that the paper prints
    validation_protocol: str = "single_view"  # after an epoch
    # published weights: of the "last" epoch; of the best epoch on "validation" videos that are not trained on; or of
    # the best epoch on the "test" videos of the reported number, which is biased upwards
    selection: Literal["last", "validation", "test"] = "last"
    metric: str = "top1"  # selects the best epoch: top1, top5, mean_class_accuracy or map
    every: int = 1  # epochs between validations; the last epoch is always measured
    class_lists: list[str] = field(default_factory=list)  # sets of classes scored separately, see `find_class_list`
    data: list[str] = field(default_factory=list)  # further data sets to measure, such as "kinoshapes/unseen"
    mean_of: list[str] = field(default_factory=list)  # recipes whose results are averaged; such a row trains nothing
    gain_over: str = ""  # the recipe that `top1_gain` is the difference to
    explained: int = 0  # clips of KinoFigures by whose truth explanations are measured (`reasons.REASONS`)
    batch_size: int = 8  # videos per step

    def check(self) -> None:
        """Check numbers."""
        self._at_least(1, "every", "batch_size")
        self._at_least(0, "explained")


@dataclass(frozen=True)
class RunSettings(Settings):
    """How many runs a number is averaged over: `[runs]` of a recipe."""

    seeds: int = 1  # runs with seeds `training.seed`, `training.seed + 1`, ...; few-shot draws differ with the seed
    # learning rates of which the best on validation videos with the first seed is taken for all seeds; empty: `training.lr`
    rates: list[Number] = field(default_factory=list)
    folds: list[int] = field(default_factory=list)  # folds that are trained and tested in turn; empty: `data.fold`

    def check(self) -> None:
        """Check numbers."""
        self._at_least(1, "seeds")
        if any(fold < 1 for fold in self.folds):
            raise ValueError(f"folds must be at least 1, got {self.folds}.")
