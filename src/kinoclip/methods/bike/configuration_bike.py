"""The config of BIKE."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.clip_recognizer_config import ClipRecognizerConfig


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
        recognition_query: what the pooled video is matched with: the "sentence" or the mean of the "words" (6b), those of
            `saliency_words`.
        saliency_temperature: divides the cosines before the softmax over frames.
        normalize_saliency: weigh and pool frames of unit length, by cosines (code), or frames as they are, by products (paper,
            eq. 5-6).
        normalize_video: bring the weighed video to unit length (paper, eq. 2), or not (code).
        loss_targets: "softmax" of ten times the matches (code), or "uniform" over the matches (paper, eq. 7-8).
        dual_softmax: weigh the logits by their softmax over videos first (the code's unused `DS` option).
        freeze_text: keep the text tower as CLIP trained it (6a).
    """

    model_type = "kinoclip_bike"
    shim_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "BikeConfig",
        "AutoModel": "BikeModel",
        "AutoModelForVideoClassification": "BikeModel",
    }
    strict_settings: ClassVar[dict[str, Any]] = {
        "saliency_words": "label",
        "normalize_saliency": False,
        "normalize_video": True,
        "loss_targets": "uniform",
        "fusion_rule": "scores",
        "freeze_attribute_text": False,
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
    freeze_text: bool = True

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        if self.saliency_temperature <= 0:
            raise ValueError(f"saliency_temperature is {self.saliency_temperature}. It divides, so it is above 0.")
        if self.temporal_layers < 1:
            raise ValueError(f'temporal_layers is {self.temporal_layers}. For no layers set temporal_head="none".')
