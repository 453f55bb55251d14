"""Recognize actions in video with CLIP.

`import kinoclip` registers every method with Transformers: `AutoModel`, `AutoProcessor`, `AutoVideoProcessor`,
`AutoModelForVideoClassification` and two pipelines then load its checkpoints. It imports neither Transformers nor torch.
"""

from typing import TYPE_CHECKING

from kinoclip.lazy import lazy_names
from kinoclip.registration import register

__version__ = "0.1.0"

_METHODS = {
    "actionclip": "ActionClip",
    "alt": "Alt",
    "bike": "Bike",
    "dstpr": "Dstpr",
    "sllm": "Sllm",
    "tam": "Tam",
    "text4vis": "Text4Vis",
    "xclip": "Xclip",
}
_MODULES = {
    **{
        f"{prefix}{kind}": f"methods.{name}"
        for name, prefix in _METHODS.items()
        for kind in ("Config", "Model", "Processor")
    },
    **dict.fromkeys(("Classification", "Prediction"), "modeling.classification"),
    **dict.fromkeys(("Classifier", "classify"), "inference.classifier"),
    **dict.fromkeys(("VideoDecodeError", "VideoReader", "VideoRefusedError"), "video"),
    "RecognizerProcessor": "modeling.processing",
    "RecognizerVideoProcessor": "modeling.video_processing",
}
__all__ = sorted(_MODULES)

if TYPE_CHECKING:  # the same names for type checkers and editors
    from kinoclip.inference.classifier import Classifier as Classifier
    from kinoclip.inference.classifier import classify as classify
    from kinoclip.methods.actionclip import *
    from kinoclip.methods.alt import *
    from kinoclip.methods.bike import *
    from kinoclip.methods.dstpr import *
    from kinoclip.methods.sllm import *
    from kinoclip.methods.tam import *
    from kinoclip.methods.text4vis import *
    from kinoclip.methods.xclip import *
    from kinoclip.modeling.classification import *
    from kinoclip.modeling.processing import RecognizerProcessor as RecognizerProcessor
    from kinoclip.modeling.video_processing import RecognizerVideoProcessor as RecognizerVideoProcessor
    from kinoclip.video import *

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
register([f"kinoclip_{name}" for name in _METHODS])
