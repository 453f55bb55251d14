"""ALT, "Align before Adapt" (CVPR 2024)."""

from kinoclip.methods.alt.configuration_alt import AltConfig, AltProcessor
from kinoclip.methods.alt.modeling_alt import AltModel

__all__ = ["AltConfig", "AltModel", "AltProcessor"]
