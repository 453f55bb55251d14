"""One folder per paper; `METHODS` is the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from kinoclip.processing import RecognizerProcessor
from kinoclip.recognizer import VideoRecognizer
from kinoclip.recognizer_config import RecognizerConfig

from .actionclip import ActionClipConfig, ActionClipModel, ActionClipProcessor, convert_actionclip
from .alt import AltConfig, AltModel, AltProcessor
from .bike import BikeConfig, BikeModel, BikeProcessor, convert_bike
from .dstpr import DstprConfig, DstprModel, DstprProcessor
from .sllm import SllmConfig, SllmModel, SllmProcessor, convert_sllm
from .sllm.measurements import MEASUREMENTS as SLLM_MEASUREMENTS
from .tam import TamConfig, TamModel, TamProcessor, convert_tam
from .text4vis import Text4VisConfig, Text4VisModel, Text4VisProcessor, convert_text4vis


class Method(NamedTuple):
    """What the package knows of a method.

    Attributes:
        config: class of its config.
        model: class of its recognizer.
        processor: class of its processor.
        convert: reads the authors' checkpoint; None where there is none.
        measurements: name to a function of model, processor, batches of videos and label texts, for numbers that only this
            method's paper prints.
    """

    config: type[RecognizerConfig]
    model: type[VideoRecognizer]
    processor: type[RecognizerProcessor]
    convert: Callable[..., VideoRecognizer] | None
    measurements: Mapping[str, Callable[..., float | None]] = MappingProxyType({})


METHODS: Mapping[str, Method] = {
    "actionclip": Method(ActionClipConfig, ActionClipModel, ActionClipProcessor, convert_actionclip),
    "alt": Method(AltConfig, AltModel, AltProcessor, None),
    "bike": Method(BikeConfig, BikeModel, BikeProcessor, convert_bike),
    "dstpr": Method(DstprConfig, DstprModel, DstprProcessor, None),
    # the official SLLM is Text4Vis inside
    "sllm": Method(
        SllmConfig,
        SllmModel,
        SllmProcessor,
        partial(convert_sllm, convert_wrapped=convert_text4vis),
        SLLM_MEASUREMENTS,
    ),
    "tam": Method(TamConfig, TamModel, TamProcessor, convert_tam),
    "text4vis": Method(Text4VisConfig, Text4VisModel, Text4VisProcessor, convert_text4vis),
}

# the method that a plain CLIP becomes without training
PLAIN_CLIP_METHOD = "bike"


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
