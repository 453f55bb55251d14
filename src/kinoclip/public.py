"""What `import kinoclip` offers; importing it makes the methods known to Transformers."""

from kinoclip.inference.classify import Classification, Classifier, Prediction, classify
from kinoclip.methods.actionclip import ActionClipConfig, ActionClipModel, ActionClipProcessor
from kinoclip.methods.alt import AltConfig, AltModel, AltProcessor
from kinoclip.methods.bike import BikeConfig, BikeModel, BikeProcessor
from kinoclip.methods.dstpr import DstprConfig, DstprModel, DstprProcessor
from kinoclip.methods.sllm import SllmConfig, SllmModel, SllmProcessor
from kinoclip.methods.tam import TamConfig, TamModel, TamProcessor
from kinoclip.methods.text4vis import Text4VisConfig, Text4VisModel, Text4VisProcessor
from kinoclip.processing import RecognizerProcessor
from kinoclip.registration import register
from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError
from kinoclip.video_processing import RecognizerVideoProcessor

__all__ = [
    "ActionClipConfig",
    "ActionClipModel",
    "ActionClipProcessor",
    "AltConfig",
    "AltModel",
    "AltProcessor",
    "BikeConfig",
    "BikeModel",
    "BikeProcessor",
    "Classification",
    "Classifier",
    "DstprConfig",
    "DstprModel",
    "DstprProcessor",
    "Prediction",
    "RecognizerProcessor",
    "RecognizerVideoProcessor",
    "SllmConfig",
    "SllmModel",
    "SllmProcessor",
    "TamConfig",
    "TamModel",
    "TamProcessor",
    "Text4VisConfig",
    "Text4VisModel",
    "Text4VisProcessor",
    "VideoDecodeError",
    "VideoReader",
    "VideoRefusedError",
    "classify",
]

register()
