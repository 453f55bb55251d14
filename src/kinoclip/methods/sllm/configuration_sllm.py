"""The config and the processor of SLLM."""

from typing import Any, ClassVar, Literal, Self

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from kinoclip.modeling.configuration import RecognizerConfig, check_settings
from kinoclip.modeling.processing import RecognizerProcessor

# settings of the wrapped recognizer that are repeated here
_WRAPPED = ("fusion", "fusion_rule", "gather_features", "initializer_range", "loss")


@strict
class SllmConfig(RecognizerConfig):
    """The config of SLLM around any recognizer of this package.

    `fusion`, `fusion_rule`, `gather_features`, `initializer_range` and `loss` are those of the wrapped recognizer; a value
    passed here must agree with it.

    Args:
        recognizer_config: of the recognizer that is wrapped.
        num_frames: T, frames that are sampled, of which every r-th is encoded; None is that of the wrapped recognizer.
        rate: r, every r-th of the `num_frames` sampled frames is encoded.
        restored_per_gap: how many frames are restored between two encoded ones: "all" r - 1, "one" in the middle of the gap or
            "none" (Table 12).
        restoration: a row of `restorers.RESTORERS`: "ffres" blends two directions of a small transformer over the pair;
            "attention" those of attention without parameters; "placeholders" fills learned placeholders between the pair with
            the transformer (Table 13); "linear" interpolates and "nearest" repeats, as controls. Or "frozen_encoder", which
            encodes the frames with a frozen copy instead (Table 11), so that it takes all T frames.
        time_aware: restore each frame for its time between its neighbors, not for its number in the gap; random and motion
            sampling leave uneven gaps.
        pair_output: the output of one direction: the "mean" of its two tokens, or its "first" token.
        restorer_layers: depth of the transformer, or how many times eq. 7 is applied.
        restoration_loss: a row of `restorers.RESTORATION_LOSSES`: "kl" between softmaxed features, "mse" or "cosine"; or
            "none".
        restoration_weight: of that loss relative to the matching loss.
        teacher: the encoder of the targets: the "live" one, or a "frozen" copy.
        stop_gradient: keep the gradient of the restoration loss out of the targets.
    """

    model_type = "kinoclip_sllm"
    sub_configs: ClassVar[dict[str, Any]] = {"recognizer_config": AutoConfig}
    strict_settings: ClassVar[dict[str, Any]] = {
        "restoration": "attention",
        "pair_output": "first",
        "teacher": "frozen",
    }

    # Architecture
    recognizer_config: dict[str, Any] | PreTrainedConfig | None = None
    num_frames: int | None = None
    rate: int = 2
    restored_per_gap: Literal["all", "one", "none"] = "all"
    restoration: str = "ffres"  # paper, eq. 7: "attention"
    pair_output: Literal["mean", "first"] = "mean"  # paper, eq. 6: "first"
    restorer_layers: int = 3
    time_aware: bool = False
    # Loss
    restoration_loss: str = "kl"
    restoration_weight: float | int = 1.0
    teacher: Literal["live", "frozen"] = "live"  # paper: "frozen"
    stop_gradient: bool = True
    # Those of the wrapped recognizer
    fusion_rule: Literal["probabilities", "scores"] | None = None
    gather_features: bool | None = None
    initializer_range: float | int | None = None
    loss: Literal["symmetric_kl", "cross_entropy"] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if not isinstance(self.recognizer_config, PreTrainedConfig):
            content = {"model_type": "kinoclip_text4vis", **(self.recognizer_config or {})}
            self.recognizer_config = AutoConfig.for_model(**content)
        super().__post_init__(**kwargs)
        wrapped = self.recognizer_config
        for name in _WRAPPED:
            given, found = getattr(self, name), getattr(wrapped, name)
            if given is not None and given != found:
                raise ValueError(
                    f"{name} must be {found!r} as in recognizer_config, got {given!r}. Set it in recognizer_config only."
                )
            setattr(self, name, found)
        if self.num_frames is None:
            self.num_frames = wrapped.num_frames
        if self.candidate_shapes is None and not wrapped.reads_text:  # the rows of a classifier keep their names
            self.id2label, self.label2id = wrapped.id2label, wrapped.label2id

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        from kinoclip.methods.sllm.restorers import RESTORATION_LOSSES, RESTORERS  # slow to import

        for name, known in (
            ("restoration", (*RESTORERS, "frozen_encoder")),
            ("restoration_loss", (*RESTORATION_LOSSES, "none")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.rate < 2:
            raise ValueError(f"rate must be at least 2 (every second frame is kept), got {self.rate}.")
        if not isinstance(self.recognizer_config, RecognizerConfig) or isinstance(self.recognizer_config, SllmConfig):
            raise ValueError("recognizer_config must be that of a recognizer of this package other than SLLM.")
        reason = self.recognizer_config.unrestorable_reason
        if reason is not None:
            raise ValueError(f"SLLM restores one vector for each frame, but {reason}")

    @classmethod
    def settings(cls) -> list[str]:
        """Return the names of the fields that a user may choose here; the others belong to the wrapped recognizer."""
        return [name for name in super().settings() if name not in _WRAPPED]

    def with_settings(self, **changes: Any) -> Self:
        """Return a copy with other settings; those that SLLM does not have are changed in the wrapped recognizer."""
        own = {name: changes.pop(name) for name in self.settings() if name in changes}
        check_settings(type(self), own)
        inner = self.recognizer_config.with_settings(**changes)
        return type(self)(**{**self.to_dict(), **own, "recognizer_config": inner})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields without those of the wrapped recognizer."""
        content: dict[str, Any] = super().to_dict()
        return {name: value for name, value in content.items() if name not in _WRAPPED}

    @property
    def keep_every(self) -> int:
        """Every how many sampled frames one is decoded; the frozen encoder needs the others too."""
        return 1 if self.restoration == "frozen_encoder" else self.rate

    @property
    def restored_frames(self) -> int:
        """Number of frames that are restored between two kept ones."""
        return {"all": self.rate - 1, "one": 1, "none": 0}[self.restored_per_gap]

    @classmethod
    def from_clip_fields(cls, clip: dict[str, Any], **settings: Any) -> Self:
        """Build the config around a recognizer on a CLIP; `recognizer` names its method, by default "text4vis".

        `num_frames` is a setting of both; settings that SLLM does not have are those of the recognizer.
        """
        wrapped: Any = type(AutoConfig.for_model(f"kinoclip_{settings.pop('recognizer', 'text4vis')}"))
        outer = {name: settings.pop(name) for name in cls.settings() if name in settings}
        check_settings(cls, outer)
        settings |= {name: outer[name] for name in ("num_frames",) if name in outer}
        return cls(recognizer_config=wrapped.from_clip_fields(clip, **settings), **outer)

    @property
    def reads_text(self) -> bool:
        """Whether the wrapped recognizer reads text."""
        return bool(self.recognizer_config.reads_text)

    @property
    def frame_size(self) -> int:
        """Height and width of the input frames, in pixels."""
        return int(self.recognizer_config.frame_size)

    @property
    def text_config(self) -> Any:
        """Config of the text tower of the wrapped recognizer."""
        return self.recognizer_config.text_config

    @property
    def vision_config(self) -> Any:
        """Config of the vision tower of the wrapped recognizer."""
        return self.recognizer_config.vision_config

    @property
    def projection_dim(self) -> int:
        """Width of the shared space of the wrapped recognizer."""
        return self.recognizer_config.projection_dim


class SllmProcessor(RecognizerProcessor):
    """The processor of the wrapped recognizer, which decodes the kept frames only."""

    @classmethod
    def for_config(cls, config: Any, tokenizer: Any | None, **options: Any) -> RecognizerProcessor:
        """Build the processor of the wrapped recognizer and skip frames; see `RecognizerProcessor.for_config`."""
        wrapped: Any = PROCESSOR_MAPPING[type(config.recognizer_config)]
        base = wrapped.for_config(config.recognizer_config, tokenizer, **options)
        videos = base.video_processor
        videos.num_frames = config.num_frames
        videos.keep_every = config.keep_every
        videos.return_frame_times = config.time_aware
        if tokenizer is None:
            return base
        saved = ("templates", "context_length", "return_word_mask", "attribute_template", "num_attributes")
        return cls(videos, tokenizer, **{name: getattr(base, name) for name in saved})
