"""The processor of Text4Vis."""

from typing import ClassVar

from kinoclip.processing import RecognizerProcessor
from kinoclip.text.templates import TEMPLATES


class Text4VisProcessor(RecognizerProcessor):
    """Labels and files to the inputs of Text4Vis."""

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "Text4VisProcessor"}
    default_templates: ClassVar[tuple[str, ...]] = (TEMPLATES["text4vis"],)
    default_sampling: ClassVar[str] = "segment_start"
