"""The config and the processor of BIKE."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.modeling.configuration import ClipRecognizerConfig, check_numbers
from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.text.templates import TEMPLATES


@strict
class BikeConfig(ClipRecognizerConfig):
    """The config of BIKE; each ablation of the paper's Table 6 is a field.

    Args:
        interaction: "saliency" weighs the frames per candidate (Video Concept Spotting, `VCS`); "mean" averages them
            (`DP`, Table 6a baseline).
        temporal_head: "transformer" applies self-attention over the frames first (`Transf`); few-shot training uses "none".
        temporal_layers: depth of that transformer.
        saliency_query: what the frames are weighed with: the "words" of the text or its "sentence" embedding (6b).
        saliency_words: "all" positions of the text including padding, or the words of the "label".
        recognition_query: what the pooled video is matched with: the "sentence" or the mean of the "words" (6b), those of
            `saliency_words`.
        saliency_temperature: divides the cosines before the softmax over frames.
        normalize_saliency: weigh and pool frames of unit length, by cosines, or raw frames, by products.
        normalize_video: normalize the pooled video to unit length.
        freeze_text: keep the text tower as CLIP trained it (6a).
        loss_targets: "softmax" of ten times the matches, or "uniform" over the matches.
        dual_softmax: multiply the logits by their softmax over videos first (the code's unused `DS` option).
    """

    model_type = "kinoclip_bike"
    strict_settings: ClassVar[dict[str, Any]] = {
        "saliency_words": "label",
        "normalize_saliency": False,
        "normalize_video": True,
        "loss_targets": "uniform",
        "fusion_rule": "scores",
        "freeze_attribute_text": False,
    }

    # Architecture
    interaction: Literal["saliency", "mean"] = "saliency"
    temporal_head: Literal["transformer", "none"] = "transformer"
    temporal_layers: int = 6
    saliency_temperature: float | int = 0.01
    normalize_saliency: bool = True  # paper, eq. 5-6: False
    normalize_video: bool = False  # paper, eq. 2: True
    # Text
    saliency_query: Literal["words", "sentence"] = "words"
    saliency_words: Literal["all", "label"] = "all"  # paper, eq. 5: "label"
    recognition_query: Literal["sentence", "words"] = "sentence"
    freeze_text: bool = True
    # Loss
    loss_targets: Literal["softmax", "uniform"] = "softmax"  # paper, eq. 7-8: "uniform"
    dual_softmax: bool = False

    @property
    def reads_label_words(self) -> bool:
        """Whether the words of the label alone are read."""
        return self.saliency_words == "label"

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        check_numbers(self, "saliency_temperature", above=0)
        check_numbers(self, "temporal_layers", at_least=1, advice='For no layers set temporal_head="none".')


class BikeProcessor(RecognizerProcessor):
    """Labels, attributes and files to the inputs of BIKE."""

    default_templates: ClassVar[tuple[str, ...]] = (TEMPLATES["bike"],)
    default_sampling: ClassVar[str] = "segment_start_closed"
