"""The processor of DSTPR."""

from __future__ import annotations

from typing import Any, ClassVar

from kinoclip.processing import RecognizerProcessor
from kinoclip.text.templates import TEMPLATES


class DstprProcessor(RecognizerProcessor):
    """Labels and files to the inputs of DSTPR; its sentence (Table 5) and its sparse sampling are BIKE's."""

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "DstprProcessor"}
    default_templates: ClassVar[tuple[str, ...]] = (TEMPLATES["bike"],)
    default_sampling: ClassVar[str] = "segment_start_closed"

    @classmethod
    def options_for(cls, config: Any) -> dict[str, Any]:
        """Give the options that the config decides: a word mask where frames are weighed by the label's words alone."""
        return {**super().options_for(config), "return_word_mask": config.word_tokens == "label"}
