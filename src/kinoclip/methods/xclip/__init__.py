"""X-CLIP (ECCV 2022), without video-specific prompts."""

from kinoclip.methods.xclip.configuration_xclip import XclipConfig, XclipProcessor
from kinoclip.methods.xclip.modeling_xclip import XclipModel

__all__ = ["XclipConfig", "XclipModel", "XclipProcessor"]
