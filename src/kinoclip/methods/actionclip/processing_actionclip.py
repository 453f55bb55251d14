"""The processor of ActionCLIP."""

from __future__ import annotations

from typing import ClassVar

from kinoclip.processing import RecognizerProcessor
from kinoclip.text.templates import ACTIONCLIP_TEMPLATES


class ActionClipProcessor(RecognizerProcessor):
    """Labels and files to the inputs of ActionCLIP: each label under 16 templates, and videos."""

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "ActionClipProcessor"}
    default_templates: ClassVar[tuple[str, ...]] = ACTIONCLIP_TEMPLATES
    default_sampling: ClassVar[str] = "segment_center"
