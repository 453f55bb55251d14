"""One folder per paper; this module is the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from kinoclip.processing import RecognizerProcessor
from kinoclip.recognizer import VideoRecognizer
from kinoclip.recognizer_config import RecognizerConfig

from .bike import BikeConfig, BikeModel, BikeProcessor, convert_bike

# name of a method to its config, to the function that reads the authors' checkpoint, and to its processor
CONFIGS: Mapping[str, type[RecognizerConfig]] = {"bike": BikeConfig}
CONVERTERS: Mapping[str, Callable[..., VideoRecognizer]] = {"bike": convert_bike}
PROCESSORS: Mapping[str, type[RecognizerProcessor]] = {"bike": BikeProcessor}


def load_plain_clip(
    clip: str, *, attributes: bool = False, dtype: torch.dtype | None = None, **fields: Any
) -> tuple[BikeModel, BikeProcessor]:
    """Turn a CLIP checkpoint into a recognizer that needs no training: BIKE without its temporal head.

    Args:
        clip: a folder or hub id.
        attributes: add the attributes branch without its MLPs (BIKE Table 6e, "no training").
        dtype: of the weights; None keeps the checkpoint's.
        fields: further config fields.
    """
    untrained = {"temporal_head": "none"}
    if attributes:
        untrained |= {"attributes": "shared", "attribute_head": "none"}
    model = BikeModel.from_clip(clip, dtype=dtype, **{**untrained, **fields})
    return model, BikeProcessor.from_clip(clip, model.config)
