"""The config and the processor of DSTPR."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.methods.dstpr.prompt_kinds import PROMPT_KINDS
from kinoclip.methods.dstpr.reparameterization import MIXERS
from kinoclip.modeling.configuration import ClipRecognizerConfig, check_numbers
from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.text.templates import TEMPLATES

# values of fields that are None: without a preset, and with "count_54M", the candidate that comes nearest to the printed 54.2
# million parameters, whose `reparam_width` is a third of CLIP's width
_PRESETS: dict[str, dict[str, Any]] = {
    "none": {"reparam": "r2plus1d", "st_kernel_2d": False, "st_mid": "width", "freeze_cls_proj": False},
    "count_54M": {"reparam": "r2plus1d", "st_kernel_2d": True, "st_mid": "r2plus1d", "freeze_cls_proj": True},
}


@strict
class DstprConfig(ClipRecognizerConfig):
    """The config of DSTPR; each ablation of the paper, and each choice it leaves open, is a field.

    Args:
        temporal_prompts: add prompts to the layers of the vision tower (`TP`, Table 7); otherwise it is CLIP's own.
        class_prompts: one prompt for each frame, its projected class token after attention over the frames (eq. 8).
        num_global_prompts: S, learned prompts that are the same for all frames (Fig. 5c); 0 for none.
        interchange: one prompt for each of the `num_frames` frames, its projected class token plus a learned slot, added
            to all frames ("shared"); "own" puts each frame's own token in every slot, the other reading of eq. 9.
        prompt_layers: "all" layers have prompts, or those with these numbers, counted from 0.
        temporal_embedding: add a learned vector for each frame to all its tokens (eq. 1); None does where there are
            temporal prompts.
        reparam: the network that re-encodes the prompts (Table 3), one of `MIXERS`: "mlp", "lstm", "transformer", "r2plus1d",
            "c3d" or "tada"; "none" is `TP` alone in Table 7.
        reparam_bottleneck: put the network between two linear layers, down and up; without them it has the full width, as
            the LSTM and the transformer of Table 3, which have no last layer that starts at zero.
        reparam_width: inner width of that network; None is half of the vision tower's width.
        st_kernel_spatial: how many prompts a convolution covers, an odd number.
        st_kernel_2d: make that kernel a square, whose outer columns cover padding only; for the parameter count.
        st_mid: channels between the spatial and the temporal convolution: the "width", or as many as keep the parameters
            of a 3-D convolution, which is the rule of "r2plus1d".
        st_norm: the norm between them.
        reparam_shared: one network for all layers.
        reparam_residual: add the output of the network to the prompts (Table 4), or replace them.
        reparam_zero_init: initialize its last linear layer with zeros, if there is a residual.
        reparam_preset: "count_54M" sets `reparam="r2plus1d"`, a third of the width, `st_kernel_2d`, `st_mid="r2plus1d"` and
            `freeze_cls_proj`, which comes near to the 54.2 million parameters of Table 6. Another value of one of these
            fields is then an error.
        freeze_cls_proj: keep the projection of class tokens as it is initialized, at random, as Vita-CLIP's code does.
        frame_aggregation: weigh the frames by the "word"s of each candidate (eq. 6-7), or average them ("mean").
        word_tokens: "all" positions of the text including padding, as in BIKE's code; the "valid" ones, from the start to
            the end token; or those of the "label".
        renormalize_video: normalize the weighed video to unit length, so that its scores are cosines.
        temperature: divides the cosines in the weights and in the answer; not learned.
        chinese_word_weights: weigh the frames by Chinese words for the Chinese vote, instead of by English ones.
        learnable_text_context: train an offset on the first words of the template; the paper freezes the text side.
        text_context_length: number of those tokens; "This is a video about" has five.
        loss_targets: "uniform" over the matches (eq. 15-16), or "softmax" of ten times the matches (BIKE's code).
        fusion_weight: lambda of eq. 18, the weight of the English names in the answer, from 0 to 1. It determines `fusion`;
            None follows from `fusion`, or is 0.5. If both are set they must agree.
    """

    model_type = "kinoclip_dstpr"
    later_fields: ClassVar[dict[str, Any]] = {**ClipRecognizerConfig.later_fields, "reparam_bottleneck": True}
    strict_settings: ClassVar[dict[str, Any]] = {"word_tokens": "label", "renormalize_video": True}

    # Architecture: prompts
    temporal_prompts: bool = True
    class_prompts: bool = True
    num_global_prompts: int = 8
    interchange: Literal["shared", "own", "none"] = "shared"
    prompt_layers: Literal["all"] | list[int] = "all"
    temporal_embedding: bool | None = None
    # Architecture: reparameterization
    reparam: str | None = None
    reparam_bottleneck: bool = True
    reparam_width: int | None = None
    st_kernel_spatial: int = 3
    st_kernel_2d: bool | None = None
    st_mid: Literal["width", "r2plus1d"] | None = None
    st_norm: Literal["batch", "layer", "none"] = "batch"
    reparam_shared: bool = False
    reparam_residual: bool = True
    reparam_zero_init: bool = True
    reparam_preset: Literal["none", "count_54M"] | None = "none"  # configs saved before 0.2 have None
    freeze_cls_proj: bool | None = None
    # Architecture: aggregation
    frame_aggregation: Literal["word", "mean"] = "word"
    word_tokens: Literal["all", "valid", "label"] = "all"  # paper, eq. 6: "label"
    renormalize_video: bool = False  # paper, eq. 15-16: True
    temperature: float | int = 0.01
    # Text
    chinese_word_weights: bool = False
    learnable_text_context: bool = False
    text_context_length: int = 5
    # Loss
    loss_targets: Literal["uniform", "softmax"] = "uniform"
    # Inference
    fusion_weight: float | int | None = None
    fusion_rule: Literal["probabilities", "scores"] = "scores"

    def __post_init__(self, **kwargs: Any) -> None:
        english, chinese = ((self.fusion or {}).get(name, 0) for name in ("video", "chinese"))
        names = english + chinese
        implied = english / names if names > 0 else 0.5
        if self.fusion_weight is None:
            self.fusion_weight = implied
        elif names > 0 and abs(self.fusion_weight - implied) > 1e-6:
            raise ValueError(
                f"fusion_weight must be {implied:g}, the English share in fusion={self.fusion}, got {self.fusion_weight}. "
                "Leave one of the two out."
            )
        super().__post_init__(**kwargs)
        self.reparam_preset = self.reparam_preset or "none"
        preset = dict(_PRESETS[self.reparam_preset])
        if self.reparam_preset == "count_54M":
            preset["reparam_width"] = self.vision_config.hidden_size // 3
        for name, value in preset.items():
            found = getattr(self, name)
            if found is None:
                setattr(self, name, value)
            elif self.reparam_preset != "none" and found != value:
                raise ValueError(
                    f"{name} must be {value!r} with reparam_preset={self.reparam_preset!r}, got {found!r}. Leave one of the "
                    "two out."
                )

    def set_fusion(self, weights: Mapping[str, float]) -> None:
        """Set the weights of the branches, and the share of the English names in them."""
        names = weights["video"] + weights["chinese"]
        self.fusion_weight = weights["video"] / names if names else 0.5
        super().set_fusion(weights)

    def default_fusion(self) -> dict[str, float | int] | None:
        """Return the weights of the branches: the names by `fusion_weight`, attributes 0.3 as in BIKE."""
        weight: Any = self.fusion_weight
        if not 0 <= weight <= 1:
            return None  # an error in `validate_architecture`
        share, rest = (1.0, {}) if self.attributes == "none" else (0.7, {"attributes": 0.3})
        return {"video": share * weight, "chinese": share * (1 - weight), **rest}

    @property
    def prompted_layers(self) -> list[int]:
        """Numbers of the layers with prompts."""
        if not self.temporal_prompts:
            return []
        layers = range(self.vision_config.num_hidden_layers)
        return list(layers) if self.prompt_layers == "all" else list(self.prompt_layers)

    @property
    def embeds_time(self) -> bool:
        """Whether there is a learned vector for each frame."""
        return self.temporal_prompts if self.temporal_embedding is None else self.temporal_embedding

    @property
    def reads_label_words(self) -> bool:
        """Whether frames are weighed by the words of the label alone."""
        return self.word_tokens == "label"

    @property
    def unrestorable_reason(self) -> str | None:
        """Why SLLM cannot wrap it, or None."""
        if not self.temporal_prompts or self.interchange == "none":
            return None
        return (
            f"this DSTPR exchanges prompts between exactly {self.num_frames} frames, and SLLM encodes fewer. "
            'Set interchange="none"; the other prompts take any number of frames.'
        )

    @property
    def changed_layers(self) -> str | None:
        """The prompts, if there are any."""
        return "temporal_prompts" if self.temporal_prompts else None

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        self._check_prompts()
        weight: Any = self.fusion_weight
        if not 0 <= weight <= 1:
            raise ValueError(f"fusion_weight must be from 0 to 1, got {self.fusion_weight}.")
        if self.chinese_word_weights and (not self.chinese_branch or self.frame_aggregation != "word"):
            raise ValueError('chinese_word_weights=True needs chinese_branch=True and frame_aggregation="word".')
        check_numbers(self, "temperature", above=0)
        check_numbers(self, "text_context_length", at_least=1)

    def _check_prompts(self) -> None:
        check_numbers(self, "num_global_prompts", at_least=0)
        if self.temporal_prompts and not any(kind.is_on(self) for kind in PROMPT_KINDS.values()):
            raise ValueError("temporal_prompts=True needs a kind of prompts that is on. Set temporal_prompts=False.")
        count = self.vision_config.num_hidden_layers
        layers = self.prompted_layers
        if len(set(layers)) < len(layers) or not set(layers) <= set(range(count)):
            raise ValueError(
                f"prompt_layers must be different numbers from 0 to {count - 1}, got {self.prompt_layers}."
            )
        if self.st_kernel_spatial < 1 or self.st_kernel_spatial % 2 == 0:
            raise ValueError(f"st_kernel_spatial must be odd, such as 1, 3 or 5, got {self.st_kernel_spatial}.")
        if self.reparam not in ("none", *MIXERS):
            raise ValueError(f"reparam must be one of none, {', '.join(MIXERS)}, got {self.reparam!r}.")
        width = self.reparam_width
        if not self.reparam_bottleneck:
            if self.reparam in ("none", "mlp") or width is not None or self.reparam_zero_init:
                raise ValueError(
                    "reparam_bottleneck=False needs another network than an MLP, no reparam_width, and reparam_zero_init=False."
                )
            width = self.vision_config.hidden_size
        step = 1 if self.reparam == "none" else MIXERS[str(self.reparam)].width_step
        if width is not None and (width < step or width % step):
            raise ValueError(f"reparam_width must be a multiple of {step} with reparam={self.reparam!r}, got {width}.")


class DstprProcessor(RecognizerProcessor):
    """Labels and files to the inputs of DSTPR; its sentence (Table 5) and its sparse sampling are BIKE's."""

    default_templates: ClassVar[tuple[str, ...]] = (TEMPLATES["bike"],)
    default_sampling: ClassVar[str] = "segment_start_closed"
