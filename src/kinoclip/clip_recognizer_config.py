"""What the config of every recognizer on CLIP holds: both towers, merging, and further branches."""

from typing import Any, Literal, Self

from huggingface_hub.dataclasses import strict
from transformers import ChineseCLIPTextConfig, CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from transformers.configuration_utils import SubConfigSpec

from kinoclip.components.token_merging import merge_schedule
from kinoclip.recognizer_config import RecognizerConfig

# the text tower of the published Chinese-CLIPs of ViT-B/16 and L/14: RoBERTa-wwm-ext-base
_CHINESE_TOWER = {"vocab_size": 21128}
# how much each branch counts where a config does not say: BIKE's 0.7 and 0.3; the Chinese half of what the video has
BRANCH_SHARES = {
    ("video", "attributes"): {"video": 0.7, "attributes": 0.3},
    ("video", "chinese"): {"video": 0.5, "chinese": 0.5},
    ("video", "attributes", "chinese"): {"video": 0.35, "attributes": 0.3, "chinese": 0.35},
}


@strict
class ClipRecognizerConfig(RecognizerConfig):
    """The config of a recognizer on CLIP: both towers, and the branches that any of them can have.

    Args:
        merge_r: how many tokens merge in each layer of the vision tower (ToMe): a number, a list with one for each layer,
            or `[r, inflection]`.
        prop_attn: let a merged token count for all its patches.
        text_tower: false for a checkpoint with fixed candidates whose text tower was dropped.
        attributes: no branch that votes by attributes of the video ("none"), one on this model's text tower ("shared") or
            one with its "own" (BIKE), which starts as a copy of it, or of the CLIP given to `load_attribute_clip`.
        attribute_text_config: of the own tower; that of this model when left out.
        attribute_projection_dim: width of its space; that of this model when left out.
        attribute_head: "mlp" is the trained branch, "none" the plug-and-play one (BIKE Table 6e).
        train_branch: what `freeze()` leaves trainable; BIKE's official training is one branch after the other, "both" is its
            eq. 9.
        freeze_attribute_text: keep an own text tower as it is and train the MLPs alone (BIKE's code), or train it too (paper).
        chinese_branch: vote by Chinese names of the candidates too (DSTPR).
    """

    sub_configs_defaults = {
        "text_config": SubConfigSpec(CLIPTextConfig),
        "vision_config": SubConfigSpec(CLIPVisionConfig),
        "attribute_text_config": SubConfigSpec(CLIPTextConfig, optional=True),
        "chinese_text_config": SubConfigSpec(ChineseCLIPTextConfig, optional=True),
    }

    text_config: dict[str, Any] | CLIPTextConfig | None = None
    vision_config: dict[str, Any] | CLIPVisionConfig | None = None
    projection_dim: int = 512
    logit_scale_init_value: float | int = 2.6592
    initializer_factor: float | int = 1.0
    text_tower: bool = True
    merge_r: int | list[int | float] = 0
    prop_attn: bool = True
    attributes: Literal["none", "shared", "own"] = "none"
    attribute_head: Literal["mlp", "none"] = "mlp"
    attribute_text_config: dict[str, Any] | CLIPTextConfig | None = None
    attribute_projection_dim: int | None = None
    train_branch: Literal["video", "attributes", "both"] = "video"
    freeze_attribute_text: bool = True
    chinese_branch: bool = False
    chinese_text_config: dict[str, Any] | ChineseCLIPTextConfig | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.attributes == "own" and self.attribute_text_config is None:
            text = self.text_config or {}  # a copy of the model's own tower
            self.attribute_text_config = dict(text) if isinstance(text, dict) else text.to_dict()
        if self.chinese_branch and self.chinese_text_config is None:
            self.chinese_text_config = dict(_CHINESE_TOWER)
        if self.fusion is None:
            self.fusion = self.default_fusion()
        super().__post_init__(**kwargs)

    def default_fusion(self) -> dict[str, float | int] | None:
        """Return the weights of the branches that the other fields imply; None for a single branch."""
        return dict(BRANCH_SHARES[self.branch_names]) if len(self.branch_names) > 1 else None

    def complete_fusion(self) -> None:
        """Reset the weights of the branches if a branch was added that has none."""
        if not set(self.branch_names) <= set(self.fusion or {}):
            self.fusion = self.default_fusion()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields; weights of the branches that follow from other fields are left out, so that they follow."""
        content: dict[str, Any] = super().to_dict()
        if self.fusion == self.default_fusion():
            content["fusion"] = None
        return content

    @property
    def changed_layers(self) -> str | None:
        """Name the setting by which the vision tower is not CLIP's own ViT, if there is one."""
        return None

    @property
    def branch_names(self) -> tuple[str, ...]:
        """Name the branches that vote."""
        further = {"attributes": self.attributes != "none", "chinese": self.chinese_branch}
        return ("video", *(name for name, given in further.items() if given))

    def validate_merging(self) -> None:
        """Check how many tokens merge, and that the tower is CLIP's own."""
        schedule = merge_schedule(self.merge_r, self.vision_config.num_hidden_layers)
        if any(schedule) and self.changed_layers is not None:
            raise ValueError(
                f"merge_r is {self.merge_r}, but only the plain layers of CLIP's ViT merge tokens, and "
                f"{self.changed_layers} changes them. Leave one of the two out."
            )

    def validate_branches(self) -> None:
        """Check the branches and their weights against each other."""
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
            raise ValueError(f"fusion is {self.fusion}. Give the weights of {names}; others known are {known}.")

    @classmethod
    def from_clip_config(cls, clip: CLIPConfig, **fields: Any) -> Self:
        """Give the config of this method on the towers of a CLIP config."""
        towers = {"text_config": clip.text_config.to_dict(), "vision_config": clip.vision_config.to_dict()}
        shared = {"projection_dim": clip.projection_dim, "logit_scale_init_value": clip.logit_scale_init_value}
        return cls(**{**towers, **shared, **fields})
