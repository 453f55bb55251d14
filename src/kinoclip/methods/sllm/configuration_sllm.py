"""The config of SLLM."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from kinoclip.recognizer_config import RecognizerConfig, check_settings

# settings of the wrapped recognizer that its wrapper repeats
_WRAPPED = ("fusion", "fusion_rule", "gather_features", "initializer_range", "loss")


@strict
class SllmConfig(RecognizerConfig):
    """The config of SLLM around any recognizer of this package.

    `fusion`, `fusion_rule`, `gather_features`, `initializer_range` and `loss` are those of the wrapped recognizer. Given here
    too, they must agree with it.

    Args:
        recognizer_config: of the recognizer that is wrapped.
        num_frames: T, frames that are sampled, of which every r-th is encoded; that of the wrapped recognizer when left out.
        rate: r, every r-th of the `num_frames` sampled frames is encoded.
        restored_per_gap: how many frames are restored between two encoded ones: "all" r - 1, "one" in the middle of the gap or
            "none" (Table 12).
        restoration: "ffres" blends two directions of a small transformer over the pair (code); "attention" those of attention
            without parameters (eq. 7); "placeholders" lets the transformer fill learned placeholders between the pair (Table
            13); "frozen_encoder" encodes the frames with a frozen copy instead (Table 11), so that it takes all T frames.
        pair_output: what one direction gives: the "mean" of its two tokens (code), or its "first" token.
        restorer_layers: depth of the transformer, or how many times eq. 7 is applied.
        restoration_loss: "kl" between softmaxed features (code), or "none".
        restoration_weight: of that loss beside the matching loss.
        teacher: which encoder makes the targets: the "live" one (code), or a "frozen" copy (paper).
        stop_gradient: keep the gradient of the restoration loss out of the targets.
    """

    model_type = "kinoclip_sllm"
    sub_configs_defaults = {"recognizer_config": SubConfigSpec(AutoConfig, model_type="kinoclip_text4vis")}
    shim_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "SllmConfig",
        "AutoModel": "SllmModel",
        "AutoModelForVideoClassification": "SllmModel",
    }

    strict_settings: ClassVar[dict[str, Any]] = {
        "restoration": "attention",
        "pair_output": "first",
        "teacher": "frozen",
    }

    recognizer_config: dict[str, Any] | PreTrainedConfig | None = None
    num_frames: int | None = None
    fusion_rule: Literal["probabilities", "scores"] | None = None
    gather_features: bool | None = None
    initializer_range: float | int | None = None
    loss: Literal["symmetric_kl", "cross_entropy"] | None = None
    rate: int = 2
    restored_per_gap: Literal["all", "one", "none"] = "all"
    restoration: Literal["ffres", "attention", "placeholders", "frozen_encoder"] = "ffres"
    pair_output: Literal["mean", "first"] = "mean"
    restorer_layers: int = 3
    restoration_loss: Literal["kl", "none"] = "kl"
    restoration_weight: float | int = 1.0
    teacher: Literal["live", "frozen"] = "live"
    stop_gradient: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        wrapped = self.recognizer_config
        for name in _WRAPPED:
            given, found = getattr(self, name), getattr(wrapped, name)
            if given is not None and given != found:
                raise ValueError(
                    f"{name} is {given!r}, but {found!r} in recognizer_config, where it counts. Set it there alone."
                )
            setattr(self, name, found)
        if self.num_frames is None:
            self.num_frames = wrapped.num_frames
        if self.candidate_shapes is None and not wrapped.reads_text:  # the rows of a classifier keep their names
            self.id2label, self.label2id = wrapped.id2label, wrapped.label2id

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        if self.rate < 2:
            raise ValueError(f"rate is {self.rate}. Keep every second frame or fewer: 2, 3 or 4.")
        if not isinstance(self.recognizer_config, RecognizerConfig) or isinstance(self.recognizer_config, SllmConfig):
            raise ValueError("recognizer_config must be that of a recognizer of this package, and not SLLM's own.")
        reason = getattr(self.recognizer_config, "unrestorable_reason", None)
        if reason is not None:
            raise ValueError(f"SLLM restores one vector for each frame, but {reason}")

    @classmethod
    def settings(cls) -> list[str]:
        """Name the fields that a user may choose here; the others are settings of the wrapped recognizer."""
        return [name for name in super().settings() if name not in _WRAPPED]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields without those of the wrapped recognizer, which it holds itself."""
        content: dict[str, Any] = super().to_dict()
        return {name: value for name, value in content.items() if name not in _WRAPPED}

    def encoded_frames(self, num_frames: int) -> int:
        """Give how many of the frames that are sampled are decoded and encoded: every r-th."""
        return num_frames if self.restoration == "frozen_encoder" else -(-num_frames // self.rate)

    @classmethod
    def from_clip_fields(cls, clip: dict[str, Any], **settings: Any) -> "SllmConfig":
        """Return the config around a recognizer on a CLIP; `recognizer` names its method, "text4vis" when left out.

        `num_frames` counts for both; what is not a setting of SLLM is one of the recognizer.
        """
        wrapped: Any = type(AutoConfig.for_model(f"kinoclip_{settings.pop('recognizer', 'text4vis')}"))
        outer = {name: settings.pop(name) for name in cls.settings() if name in settings}
        check_settings(cls, outer)
        settings |= {name: outer[name] for name in ("num_frames",) if name in outer}
        return cls(recognizer_config=wrapped.from_clip_fields(clip, **settings), **outer)

    @property
    def reads_text(self) -> bool:
        """Whether the wrapped recognizer does."""
        return bool(self.recognizer_config.reads_text)

    @property
    def frame_size(self) -> int:
        """Pixels on a side of the frames that go in."""
        return int(self.recognizer_config.frame_size)

    @property
    def text_config(self) -> Any:
        """The text tower of the wrapped recognizer."""
        return self.recognizer_config.text_config

    @property
    def vision_config(self) -> Any:
        """The vision tower of the wrapped recognizer."""
        return self.recognizer_config.vision_config

    @property
    def projection_dim(self) -> int:
        """The width of the shared space of the wrapped recognizer."""
        return self.recognizer_config.projection_dim
