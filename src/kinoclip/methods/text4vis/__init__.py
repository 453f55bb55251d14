"""Text4Vis (AAAI 2023)."""

from kinoclip.methods.text4vis.configuration_text4vis import Text4VisConfig, Text4VisProcessor
from kinoclip.methods.text4vis.convert_text4vis import convert_text4vis
from kinoclip.methods.text4vis.modeling_text4vis import Text4VisModel

__all__ = ["Text4VisConfig", "Text4VisModel", "Text4VisProcessor", "convert_text4vis"]
