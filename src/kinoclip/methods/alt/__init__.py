"""ALT, "Align before Adapt" (CVPR 2024)."""

from .configuration_alt import AltConfig
from .modeling_alt import AltModel
from .processing_alt import AltProcessor

__all__ = ["AltConfig", "AltModel", "AltProcessor"]
