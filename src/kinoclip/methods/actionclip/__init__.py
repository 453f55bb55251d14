"""ActionCLIP (2021)."""

from .configuration_actionclip import ActionClipConfig
from .convert_actionclip import convert_actionclip
from .modeling_actionclip import ActionClipModel
from .processing_actionclip import ActionClipProcessor

__all__ = ["ActionClipConfig", "ActionClipModel", "ActionClipProcessor", "convert_actionclip"]
