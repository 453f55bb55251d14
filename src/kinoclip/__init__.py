"""Recognize actions in video with CLIP.

Importing the package makes its models known to Transformers: `AutoModel`, `AutoProcessor`, `AutoVideoProcessor`,
`AutoModelForVideoClassification` and two pipelines load them.
"""

from kinoclip.inference.classify import Classification, Classifier, Prediction, classify
from kinoclip.methods.bike import BikeConfig, BikeModel, BikeProcessor
from kinoclip.processing import RecognizerProcessor, RecognizerVideoProcessor
from kinoclip.registration import register
from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError

__version__ = "0.1.0"
__all__ = [
    "BikeConfig",
    "BikeModel",
    "BikeProcessor",
    "Classification",
    "Classifier",
    "Prediction",
    "RecognizerProcessor",
    "RecognizerVideoProcessor",
    "VideoDecodeError",
    "VideoReader",
    "VideoRefusedError",
    "classify",
]

register()
