"""One folder per paper; this module is the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kinoclip.processing import RecognizerProcessor
from kinoclip.recognizer import VideoRecognizer

from .bike import BikeModel, BikeProcessor, convert_bike

# name of a method to the function that reads the authors' checkpoint, and to its processor
CONVERTERS: Mapping[str, Callable[..., VideoRecognizer]] = {"bike": convert_bike}
PROCESSORS: Mapping[str, type[RecognizerProcessor]] = {"bike": BikeProcessor}


def load_plain_clip(clip: str, **options: Any) -> tuple[BikeModel, BikeProcessor]:
    """Turn a CLIP checkpoint into a recognizer that needs no training: BIKE without its temporal head."""
    model = BikeModel.from_clip(clip, temporal_head="none", **options)
    return model, BikeProcessor.from_clip(clip, model.config)
