"""Text4Vis (AAAI 2023)."""

from .configuration_text4vis import Text4VisConfig
from .convert_text4vis import convert_text4vis
from .modeling_text4vis import Text4VisModel
from .processing_text4vis import Text4VisProcessor

__all__ = ["Text4VisConfig", "Text4VisModel", "Text4VisProcessor", "convert_text4vis"]
