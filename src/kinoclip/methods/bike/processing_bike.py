"""The processor of BIKE."""

from __future__ import annotations

from typing import Any, ClassVar

from kinoclip.processing import RecognizerProcessor
from kinoclip.text.templates import TEMPLATES


class BikeProcessor(RecognizerProcessor):
    """Labels, attributes and files to the inputs of BIKE."""

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "BikeProcessor"}
    default_templates: ClassVar[tuple[str, ...]] = (TEMPLATES["bike"],)
    default_sampling: ClassVar[str] = "segment_start_closed"

    @classmethod
    def options_for(cls, config: Any) -> dict[str, Any]:
        """Give the options that the config decides: a word mask where saliency reads the label's words alone."""
        return {**super().options_for(config), "return_word_mask": config.saliency_words == "label"}
