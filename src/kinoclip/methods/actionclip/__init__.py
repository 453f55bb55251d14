"""ActionCLIP (2021)."""

from kinoclip.methods.actionclip.configuration_actionclip import ActionClipConfig, ActionClipProcessor
from kinoclip.methods.actionclip.convert_actionclip import convert_actionclip
from kinoclip.methods.actionclip.modeling_actionclip import ActionClipModel

__all__ = ["ActionClipConfig", "ActionClipModel", "ActionClipProcessor", "convert_actionclip"]
