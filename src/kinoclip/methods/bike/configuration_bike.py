"""The config of BIKE."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import CLIPTextConfig, CLIPVisionConfig
from transformers.configuration_utils import SubConfigSpec

from kinoclip.clip_recognizer import ClipRecognizerConfig


@strict
class BikeConfig(ClipRecognizerConfig):
    """The config of BIKE; each ablation of the paper's Table 6 is a field.

    Args:
        interaction: "saliency" weighs the frames per candidate (Video Concept Spotting, `VCS`); "mean" averages them
            (`DP`, Table 6a baseline).
        temporal_head: "transformer" lets the frames look at each other first (`Transf`), "none" does not; few-shot
            training uses "none".
        temporal_layers: depth of that transformer.
        saliency_query: what the frames are weighed with: the "words" of the text or its "sentence" embedding (6b).
        saliency_words: "all" positions of the text, padding too, as in the code that made the numbers, or the words of
            the "label" alone, as in the paper.
        recognition_query: what the pooled video is matched with: the "sentence" or the mean of the "words" (6b).
        saliency_temperature: divides the cosines before the softmax over frames.
        normalize_saliency: cosines of words and frames (code), or their raw products (paper, eq. 3).
        normalize_video: bring the weighed video to unit length (paper, eq. 2), or not (code).
        loss_targets: "softmax" of ten times the matches (code), or "uniform" over the matches (paper, eq. 7-8).
        dual_softmax: weigh the logits by their softmax over videos first (the code's unused `DS` option).
        attributes: no second branch ("none"), one on this model's text tower ("shared") or one with its "own".
        attribute_head: "mlp" is the trained branch, "none" the plug-and-play one (6e).
        freeze_text: keep the text tower as CLIP trained it (6a).
        train_branch: what `freeze()` leaves trainable; the official training is one branch after the other.
    """

    model_type = "kinoclip_bike"
    sub_configs_defaults = {
        "text_config": SubConfigSpec(CLIPTextConfig),
        "vision_config": SubConfigSpec(CLIPVisionConfig),
        "attribute_text_config": SubConfigSpec(CLIPTextConfig, optional=True),
    }
    shim_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "BikeConfig",
        "AutoModel": "BikeModel",
        "AutoModelForVideoClassification": "BikeModel",
    }

    interaction: Literal["saliency", "mean"] = "saliency"
    temporal_head: Literal["transformer", "none"] = "transformer"
    temporal_layers: int = 6
    saliency_query: Literal["words", "sentence"] = "words"
    saliency_words: Literal["all", "label"] = "all"
    recognition_query: Literal["sentence", "words"] = "sentence"
    saliency_temperature: float | int = 0.01
    normalize_saliency: bool = True
    normalize_video: bool = False
    loss_targets: Literal["softmax", "uniform"] = "softmax"
    dual_softmax: bool = False
    attributes: Literal["none", "shared", "own"] = "none"
    attribute_head: Literal["mlp", "none"] = "mlp"
    attribute_text_config: dict[str, Any] | CLIPTextConfig | None = None
    attribute_projection_dim: int | None = None
    freeze_text: bool = True
    train_branch: Literal["video", "attributes"] = "video"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.fusion is None:
            self.fusion = {"video": 0.7, "attributes": 0.3}
        if self.attributes == "own" and self.attribute_text_config is None:
            self.attribute_text_config = {}
        super().__post_init__(**kwargs)

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        if self.train_branch == "attributes" and self.attributes == "none":
            raise ValueError('train_branch="attributes" needs an attributes branch: attributes="shared" or "own".')
        if set(self.fusion) != {"video", "attributes"}:
            raise ValueError(f'fusion is {self.fusion}. Give the weights of "video" and "attributes", and no others.')
        if self.saliency_temperature <= 0:
            raise ValueError(f"saliency_temperature is {self.saliency_temperature}. It divides, so it is above 0.")
        if self.temporal_layers < 1:
            raise ValueError(f'temporal_layers is {self.temporal_layers}. For no layers set temporal_head="none".')
