"""Configs of recognizers: fields that every method has, and those of every method on CLIP."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, Literal, Self

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import ChineseCLIPTextConfig, CLIPConfig, CLIPTextConfig, CLIPVisionConfig, PreTrainedConfig

from kinoclip.modeling.layers.text_branches import find_second_tower
from kinoclip.modeling.layers.token_merging import merge_schedule
from kinoclip.modeling.shim import ShimMixin, auto_map, write_shim

# the text tower of the published Chinese-CLIPs of ViT-B/16 and L/14: RoBERTa-wwm-ext-base
_CHINESE_TOWER = {"vocab_size": 21128}
# default weights of the branches: BIKE's 0.7 and 0.3; Chinese and English share what the video has
_BRANCH_WEIGHTS = {
    ("video",): None,
    ("video", "attributes"): {"video": 0.7, "attributes": 0.3},
    ("video", "chinese"): {"video": 0.5, "chinese": 0.5},
    ("video", "attributes", "chinese"): {"video": 0.35, "attributes": 0.3, "chinese": 0.35},
}
# Largest numbers in a config, by a part of the field's name: these count what is built one by one, before sizes can be
# compared with the weights. The largest models have a tenth of it.
_MAX_COUNTS = {"layers": 200, "blocks": 200, "blending_frames": 200, "ratio": 200, "num_labels": 50_000}
_MAX_ITEMS = 50_000
_MAX_NUMBER = 2**31 - 1


@strict
class RecognizerConfig(ShimMixin, PreTrainedConfig):
    """The fields that every recognizer has.

    In all configs `"none"` turns a part off, and None stands for a value that follows from other fields.

    Args:
        num_frames: T, the number of frames the weights were trained with; any other number works too.
        candidate_shapes: name of a text feature to its shape, for a checkpoint that carries its own candidates.
        loss: what `forward` computes when it is given labels.
        gather_features: in distributed training, compare with the rows of all processes.
        fusion: name of a branch to its weight in the answer.
        fusion_rule: the answer is the weighted mean of the branches' "probabilities" or of their "scores".

    Attributes:
        strict_settings: the fields that make a method what its paper's text says, where the default is what made the
            published numbers or what this package chose.
    """

    # Architecture
    num_frames: int = 8
    candidate_shapes: dict[str, list[int]] | None = None
    initializer_range: float | int = 0.02
    # Loss
    loss: Literal["symmetric_kl", "cross_entropy"] = "symmetric_kl"
    gather_features: bool = True
    # Inference
    fusion: dict[str, float | int] | None = None
    fusion_rule: Literal["probabilities", "scores"] = "probabilities"

    strict_settings: ClassVar[dict[str, Any]] = {}
    # name of each field that holds a config: its class
    sub_configs: ClassVar[dict[str, type[PreTrainedConfig]]] = {}
    # with these left out, the predictions of `Trainer` are the logits
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        *("votes", "losses", "branch_logits", "video_embeds", "frames", "text", "hidden_states", "attentions")
    ]

    def __post_init__(self, **kwargs: Any) -> None:
        for name, config_class in self.sub_configs.items():
            if isinstance(content := getattr(self, name), dict):
                setattr(self, name, config_class(**content))
        super().__post_init__(**kwargs)

    @classmethod
    def default_config_fields(cls) -> dict[str, Any]:
        """Return the defaults of the fields; dicts for configs, so that their own defaults are not saved."""
        return {**super().default_config_fields(), **{name: {} for name in cls.sub_configs}}

    def validate_answer(self) -> None:
        """Check the numbers that the answer is made with."""
        check_numbers(self, "num_frames", at_least=1)
        weights = list((self.fusion or {"video": 1}).values())
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"fusion must hold weights of at least 0 that are not all 0, got {self.fusion}.")

    @classmethod
    def settings(cls) -> list[str]:
        """Return the names of the fields that a user may choose."""
        hidden = {field.name for field in fields(PreTrainedConfig)} | {"candidate_shapes"} | set(cls.sub_configs)
        return sorted({field.name for field in fields(cls)} - hidden)

    @property
    def reads_text(self) -> bool:
        """Whether candidates are texts; otherwise they are the rows of the model's classifier."""
        return True

    @property
    def frame_size(self) -> int:
        """Height and width of the input frames, in pixels."""
        size: int = self.vision_config.image_size
        return size

    @property
    def unrestorable_reason(self) -> str | None:
        """Why SLLM cannot restore frames for this recognizer, or None."""
        return None

    @property
    def keep_every(self) -> int:
        """Every how many sampled frames one is decoded and encoded."""
        return 1

    def encoded_frames(self, num_frames: int) -> int:
        """Return how many of `num_frames` sampled frames are decoded and encoded."""
        return -(-num_frames // self.keep_every)

    def with_settings(self, **changes: Any) -> Self:
        """Return a copy with other settings, from which everything that depends on them follows.

        Raises:
            ValueError: a name is not a setting, or a value is invalid.
        """
        check_settings(type(self), changes)
        return type(self)(**{**self.to_dict(), **changes})

    @classmethod
    def from_clip_fields(cls, clip: dict[str, Any], **settings: Any) -> Self:
        """Build the config on the towers that the fields of a CLIP config describe; see `check_settings`."""
        check_settings(cls, settings)
        return cls(**{**clip, **settings})

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save the config, and beside it the shim that its `auto_map` names."""
        name = type(self).__name__
        if self.model_type:
            model = name.removesuffix("Config") + "Model"
            self.auto_map = auto_map(AutoConfig=name, AutoModel=model, AutoModelForVideoClassification=model)
            write_shim(save_directory, {name, model})
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)


@strict
class ClipRecognizerConfig(RecognizerConfig):
    """The fields of a recognizer on CLIP: both towers, and the branches that any of them can have.

    Args:
        merge_r: how many tokens merge in each layer of the vision tower (ToMe): a number, a list with one for each layer,
            or `[r, inflection]`.
        prop_attn: let a merged token count for all its patches.
        text_tower: False for a checkpoint with fixed candidates whose text tower was dropped.
        attributes: the branch that votes by attributes of the video (BIKE): "none", "shared" with this model's text tower,
            or one with its "own", which starts as a copy of it or of the CLIP given to `load_attribute_clip`.
        attribute_head: "mlp" is the trained branch, "none" the plug-and-play one (BIKE Table 6e).
        attribute_text_config: of the own tower; None copies this model's.
        attribute_projection_dim: width of its space; None is this model's.
        chinese_branch: vote by second names of the candidates too, in Chinese (DSTPR) or any other language. The vote is
            named "chinese" for every language.
        second_tower: the text tower that reads the second names, one of `SECOND_TOWERS`: that of a Chinese-CLIP, this
            model's own ("shared", for a paraphrase or another language), or that of another CLIP ("clip").
        chinese_text_config: of the Chinese tower; None is that of the published Chinese-CLIPs.
        second_text_config: of the tower of another CLIP; None copies this model's.
        train_branch: what `freeze()` leaves trainable. BIKE's code trains one branch after the other, "both" is its eq. 9.
        freeze_attribute_text: freeze an own text tower and train the MLPs alone (BIKE's code), or train it too (paper).
    """

    # fields that are newer than published folders, whose content and the identities of jobs with them stay the same
    later_fields: ClassVar[dict[str, Any]] = {"second_tower": "chinese_clip", "second_text_config": None}
    sub_configs: ClassVar[dict[str, type[PreTrainedConfig]]] = {
        "text_config": CLIPTextConfig,
        "vision_config": CLIPVisionConfig,
        "attribute_text_config": CLIPTextConfig,
        "chinese_text_config": ChineseCLIPTextConfig,
        "second_text_config": CLIPTextConfig,
    }

    # Architecture
    vision_config: dict[str, Any] | CLIPVisionConfig | None = None
    projection_dim: int = 512
    merge_r: int | list[int | float] = 0
    prop_attn: bool = True
    logit_scale_init_value: float | int = 2.6592
    initializer_factor: float | int = 1.0
    # Text
    text_config: dict[str, Any] | CLIPTextConfig | None = None
    text_tower: bool = True
    attributes: Literal["none", "shared", "own"] = "none"
    attribute_head: Literal["mlp", "none"] = "mlp"
    attribute_text_config: dict[str, Any] | CLIPTextConfig | None = None
    attribute_projection_dim: int | None = None
    chinese_branch: bool = False
    second_tower: str = "chinese_clip"
    chinese_text_config: dict[str, Any] | ChineseCLIPTextConfig | None = None
    second_text_config: dict[str, Any] | CLIPTextConfig | None = None
    # Training
    train_branch: Literal["video", "attributes", "both"] = "video"
    freeze_attribute_text: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        self.text_config = self.text_config or {}
        self.vision_config = self.vision_config or {}
        own = dict(self.text_config) if isinstance(self.text_config, dict) else self.text_config.to_dict()
        if self.attributes == "own" and self.attribute_text_config is None:
            self.attribute_text_config = own
        if self.chinese_branch and self.second_tower == "chinese_clip" and self.chinese_text_config is None:
            self.chinese_text_config = dict(_CHINESE_TOWER)
        if self.chinese_branch and self.second_tower == "clip" and self.second_text_config is None:
            self.second_text_config = dict(own)
        if self.fusion is None:
            self.fusion = self.default_fusion()
        super().__post_init__(**kwargs)

    @property
    def branch_names(self) -> tuple[str, ...]:
        """The branches that vote, "video" first."""
        further = {"attributes": self.attributes != "none", "chinese": self.chinese_branch}
        return ("video", *(name for name, given in further.items() if given))

    @property
    def reads_label_words(self) -> bool:
        """Whether the model needs to know which tokens are the label's own (`word_mask`)."""
        return False

    @property
    def changed_layers(self) -> str | None:
        """The setting by which the vision tower is not CLIP's own ViT, or None."""
        return None

    @property
    def second_tower_config(self) -> Any:
        """The config of the text tower that reads second names, or None."""
        return getattr(self, find_second_tower(self.second_tower).config_name) if self.chinese_branch else None

    def set_fusion(self, weights: Mapping[str, float]) -> None:
        """Set the weights of the branches."""
        self.fusion = dict(weights)

    def default_fusion(self) -> dict[str, float | int] | None:
        """Return the weights of the branches that the other fields imply; None for a single branch."""
        weights = _BRANCH_WEIGHTS[self.branch_names]
        return None if weights is None else dict(weights)

    def complete_fusion(self) -> None:
        """Reset the weights of the branches if a branch was added that has none."""
        if not set(self.branch_names) <= set(self.fusion or {}):
            self.fusion = self.default_fusion()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields; `later_fields` with their defaults are left out, and weights of branches that follow from others."""
        content: dict[str, Any] = super().to_dict()
        for name, default in self.later_fields.items():
            if content.get(name) == default:
                content.pop(name, None)
        if self.fusion == self.default_fusion():
            content["fusion"] = None
        return content

    def validate_merging(self) -> None:
        """Check that tokens merge in plain layers of CLIP's ViT only."""
        schedule = merge_schedule(self.merge_r, self.vision_config.num_hidden_layers)
        if any(schedule) and self.changed_layers is not None:
            raise ValueError(
                f"merge_r needs the plain layers of CLIP's ViT, but {self.changed_layers} changes them. Set merge_r=0, or "
                f"turn {self.changed_layers} off."
            )

    def validate_branches(self) -> None:
        """Check the branches and their weights against each other."""
        find_second_tower(self.second_tower)
        trainable = {"none": False, "shared": False, "own": not self.freeze_attribute_text}[self.attributes]
        trainable = trainable or (self.attributes != "none" and self.attribute_head == "mlp")
        if self.train_branch != "video" and not trainable:
            raise ValueError(
                f'train_branch="{self.train_branch}" needs an attributes branch with weights to train: attributes="shared" or '
                '"own", and attribute_head="mlp" or an own tower with freeze_attribute_text=False.'
            )
        known = ("video", "attributes", "chinese")
        if self.fusion is not None and not set(self.branch_names) <= set(self.fusion) <= set(known):
            names = " and ".join(f'"{name}"' for name in self.branch_names)
            raise ValueError(f"fusion must hold weights of {names} (known: {', '.join(known)}), got {self.fusion}.")

    @classmethod
    def from_clip_config(cls, clip: CLIPConfig, **fields: Any) -> Self:
        """Build the config of this method on the towers of a CLIP config."""
        towers = {"text_config": clip.text_config.to_dict(), "vision_config": clip.vision_config.to_dict()}
        shared = {"projection_dim": clip.projection_dim, "logit_scale_init_value": clip.logit_scale_init_value}
        return cls(**{**towers, **shared, **fields})


def check_settings(
    config_class: type[RecognizerConfig], settings: Mapping[str, Any], also: Iterable[str] = ()
) -> None:
    """Raise a `ValueError` if a setting is neither one of the config nor among `also`, or its value is invalid."""
    own = config_class.settings()
    probe = config_class()
    for name, value in settings.items():
        if name not in own and name not in also:
            known = ", ".join(sorted({*own, *also}))
            raise ValueError(f"{name!r} is not a setting of {config_class.__name__}. Settings: {known}.")
        try:
            if name in own:
                setattr(probe, name, value)
        except StrictDataclassError as error:
            raise ValueError(f"{config_class.__name__}: {str(error).partition(': ')[2]}.") from error


def check_content(content: Any, source: str, name: str = "") -> None:
    """Check the numbers and lists in the untrusted JSON of a config, at any depth: finite, and as many as models need.

    Raises:
        ValueError: one is not; the message names `source`.
    """
    if isinstance(content, dict | list) and len(content) > _MAX_ITEMS:
        raise ValueError(f"{source}: {name} must have at most {_MAX_ITEMS} items, got {len(content)}.")
    if isinstance(content, dict):
        for key, value in content.items():
            check_content(value, source, name if name == "label2id" else str(key))
    elif isinstance(content, list):
        for value in content:
            check_content(value, source, name)
    elif isinstance(content, int | float):
        most = next((most for part, most in _MAX_COUNTS.items() if part in name), _MAX_NUMBER)
        least = 0 if name.startswith("num_") else -most
        if not (math.isfinite(content) and least <= content <= most):
            raise ValueError(f"{source}: {name} must be a number from {least} to {most}, got {content}.")


def check_token_ids(config: Any, source: str) -> None:
    """Check that the special tokens of each text tower in a config are in its vocabulary.

    Raises:
        ValueError: one is not; the message names `source`.
    """
    names = ("text_config", "attribute_text_config", "chinese_text_config", "second_text_config")
    towers = [getattr(config, name, None) for name in names]
    for tower in filter(None, towers):
        for name in ("eos_token_id", "pad_token_id"):  # the ids that models use
            token = getattr(tower, name, None)
            if token is not None and not 0 <= token < tower.vocab_size:
                raise ValueError(f"{source}: {name} must be from 0 to {tower.vocab_size - 1}, got {token}.")
    if getattr(config, "recognizer_config", None) is not None:
        check_token_ids(config.recognizer_config, source)


def check_numbers(
    config: PreTrainedConfig,
    *names: str,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    advice: str = "",
) -> None:
    """Raise a `ValueError` if a field of a config is out of bounds; `advice` ends the message."""
    bounds = {"at least": at_least, "above": above, "below": below}
    allowed = " and ".join(f"{name} {bound}" for name, bound in bounds.items() if bound is not None)
    for name in names:
        value = getattr(config, name)
        too_low = (at_least is not None and value < at_least) or (above is not None and value <= above)
        if too_low or (below is not None and value >= below):
            raise ValueError(f"{name} must be {allowed}, got {value}. {advice}".rstrip())
