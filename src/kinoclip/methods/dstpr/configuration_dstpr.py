"""The config of DSTPR."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.clip_recognizer_config import ClipRecognizerConfig

# what fields are where they are left out; a preset has its own values
_DEFAULTS = {"reparam": "r2plus1d", "st_kernel_2d": False, "st_mid": "width", "freeze_cls_proj": False}
# the settings of the candidate that comes nearest to the printed 54.2 million parameters; the width is a third of CLIP's
_COUNT_54M = {"reparam": "r2plus1d", "st_kernel_2d": True, "st_mid": "r2plus1d", "freeze_cls_proj": True}


@strict
class DstprConfig(ClipRecognizerConfig):
    """The config of DSTPR; each ablation of the paper, and each choice it leaves open, is a field.

    Args:
        temporal_prompts: give the layers of the vision tower prompts (`TP`, Table 7); without them it is CLIP's own.
        class_prompts: one prompt for each frame, its projected class token after attention over the frames (eq. 8).
        num_global_prompts: S, learned prompts that are the same for all frames (Fig. 5c); 0 for none.
        interchange: one prompt for each of the `num_frames` frames, its projected class token and a learned slot, given
            to all frames ("shared"); "own" gives each frame its own token in every slot, the other reading of eq. 9;
            "none" leaves them out.
        prompt_layers: "all" layers get prompts, or those with these numbers, the first being 0.
        temporal_embedding: add a learned vector for each frame to all its tokens (eq. 1); None does where there are
            temporal prompts.
        reparam: what re-encodes the prompts (Table 3), or "none" (`TP` alone in Table 7).
        reparam_width: of that network inside, half of the vision tower's width when left out.
        st_kernel_spatial: how many prompts a convolution sees, an odd number.
        st_kernel_2d: make that kernel a square, whose outer columns see padding only; for the parameter count.
        st_mid: channels between the spatial and the temporal convolution: the "width", or as many as keep the parameters
            of a 3-D convolution, which is the rule of "r2plus1d".
        st_norm: what normalizes them.
        reparam_shared: one network for all layers.
        reparam_residual: add what the network gives to the prompts (Table 4), or replace them.
        reparam_zero_init: start its last linear layer at zero, where there is a residual: it then adds nothing at first.
        reparam_preset: "count_54M" sets `reparam="r2plus1d"`, a third of the width, `st_kernel_2d`, `st_mid="r2plus1d"` and
            `freeze_cls_proj`, which comes near to the 54.2 million parameters of Table 6. Another value of one of these
            fields beside it is an error.
        freeze_cls_proj: keep the projection of class tokens as it starts, at random, as Vita-CLIP's code does.
        frame_aggregation: weigh the frames by the "word"s of each candidate (eq. 6-7), or average them ("mean").
        word_tokens: "all" positions of the text, padding too, as in BIKE's code; the "valid" ones, from the start to the
            end token; or those of the "label".
        renormalize_video: bring the weighed video to unit length, so that its scores are cosines.
        chinese_word_weights: weigh the frames by Chinese words for the Chinese vote, instead of by English ones.
        fusion_weight: lambda of eq. 18, the share of the English names in the answer, from 0 to 1; 0.5 when left out. It
            determines `fusion`. Where only `fusion` is given, it follows from that; both given must agree.
        temperature: divides the cosines in the weights and in the answer. Not learned.
        loss_targets: "uniform" over the matches (eq. 15-16), or "softmax" of ten times the matches (BIKE's code).
        learnable_text_context: train an offset on the first words of the template; the paper freezes the text side.
        text_context_length: how many tokens that are; "This is a video about" is five.
    """

    model_type = "kinoclip_dstpr"
    shim_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "DstprConfig",
        "AutoModel": "DstprModel",
        "AutoModelForVideoClassification": "DstprModel",
    }
    strict_settings: ClassVar[dict[str, Any]] = {"word_tokens": "label", "renormalize_video": True}

    temporal_prompts: bool = True
    class_prompts: bool = True
    num_global_prompts: int = 8
    interchange: Literal["shared", "own", "none"] = "shared"
    prompt_layers: Literal["all"] | list[int] = "all"
    temporal_embedding: bool | None = None
    reparam: Literal["none", "mlp", "lstm", "transformer", "r2plus1d", "c3d", "tada"] | None = None
    reparam_width: int | None = None
    st_kernel_spatial: int = 3
    st_kernel_2d: bool | None = None
    st_mid: Literal["width", "r2plus1d"] | None = None
    st_norm: Literal["batch", "layer", "none"] = "batch"
    reparam_shared: bool = False
    reparam_residual: bool = True
    reparam_zero_init: bool = True
    reparam_preset: Literal["count_54M"] | None = None
    freeze_cls_proj: bool | None = None
    frame_aggregation: Literal["word", "mean"] = "word"
    word_tokens: Literal["all", "valid", "label"] = "all"
    renormalize_video: bool = False
    chinese_word_weights: bool = False
    fusion_weight: float | int | None = None
    fusion_rule: Literal["probabilities", "scores"] = "scores"
    temperature: float | int = 0.01
    loss_targets: Literal["uniform", "softmax"] = "uniform"
    learnable_text_context: bool = False
    text_context_length: int = 5

    def __post_init__(self, **kwargs: Any) -> None:
        english, chinese = ((self.fusion or {}).get(name, 0) for name in ("video", "chinese"))
        names = english + chinese
        implied = english / names if names > 0 else 0.5
        if self.fusion_weight is None:
            self.fusion_weight = implied
        elif names > 0 and abs(self.fusion_weight - implied) > 1e-6:
            raise ValueError(
                f"fusion_weight is {self.fusion_weight}, but fusion is {self.fusion}, whose English share is {implied:g}. "
                "Leave one of the two out."
            )
        super().__post_init__(**kwargs)
        chosen: dict[str, Any] = _DEFAULTS
        if self.reparam_preset == "count_54M":
            chosen = {**_COUNT_54M, "reparam_width": self.vision_config.hidden_size // 3}
        for name, value in chosen.items():
            found = getattr(self, name)
            if found is None:
                setattr(self, name, value)
            elif self.reparam_preset is not None and found != value:
                raise ValueError(
                    f"reparam_preset={self.reparam_preset!r} sets {name}={value!r}, but {name} is {found!r}. "
                    "Leave one of the two out."
                )

    def default_fusion(self) -> dict[str, float | int] | None:
        """Return the weights of the branches: the names by `fusion_weight`, attributes three tenths, as in BIKE."""
        weight: Any = self.fusion_weight
        if not 0 <= weight <= 1:
            return None  # refused in `validate_architecture`
        share, rest = (1.0, {}) if self.attributes == "none" else (0.7, {"attributes": 0.3})
        return {"video": share * weight, "chinese": share * (1 - weight), **rest}

    @property
    def prompted_layers(self) -> list[int]:
        """Numbers of the layers that get prompts."""
        if not self.temporal_prompts:
            return []
        layers = range(self.vision_config.num_hidden_layers)
        return list(layers) if self.prompt_layers == "all" else list(self.prompt_layers)

    @property
    def embeds_time(self) -> bool:
        """Whether there is a learned vector for each frame."""
        return self.temporal_prompts if self.temporal_embedding is None else self.temporal_embedding

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
        """Name the prompts, where there are any."""
        return "temporal_prompts" if self.temporal_prompts else None

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        self._check_prompts()
        weight: Any = self.fusion_weight
        if not 0 <= weight <= 1:
            raise ValueError(f"fusion_weight is {self.fusion_weight}. It is a share, from 0 to 1.")
        if self.chinese_word_weights and (not self.chinese_branch or self.frame_aggregation != "word"):
            raise ValueError('chinese_word_weights=True needs chinese_branch=True and frame_aggregation="word".')
        if self.temperature <= 0:
            raise ValueError(f"temperature is {self.temperature}. It divides, so it is above 0.")
        if self.text_context_length < 1:
            raise ValueError(f"text_context_length is {self.text_context_length}. Give at least one token.")

    def _check_prompts(self) -> None:
        if self.num_global_prompts < 0:
            raise ValueError(f"num_global_prompts is {self.num_global_prompts}. Give 0 for none, or more.")
        none = not self.class_prompts and not self.num_global_prompts and self.interchange == "none"
        if self.temporal_prompts and none:
            raise ValueError("temporal_prompts=True, but no kind of them is on. Set temporal_prompts=False.")
        count = self.vision_config.num_hidden_layers
        wrong = [layer for layer in self.prompted_layers if not 0 <= layer < count]
        if wrong or len(set(self.prompted_layers)) < len(self.prompted_layers):
            raise ValueError(f"prompt_layers is {self.prompt_layers}. Name layers from 0 to {count - 1}, each once.")
        if self.st_kernel_spatial < 1 or self.st_kernel_spatial % 2 == 0:
            raise ValueError(f"st_kernel_spatial is {self.st_kernel_spatial}. It has a middle, so it is odd: 1, 3, 5.")
        width = self.reparam_width
        step = {"lstm": 2, "tada": 4}.get(self.reparam, 1)
        if width is not None and (width < step or width % step):
            raise ValueError(f"reparam_width is {width}. With reparam={self.reparam!r} it is a multiple of {step}.")
