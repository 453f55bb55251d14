"""One folder per paper; `METHODS` is the table of them, whose import registers them with Transformers."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    AutoProcessor,
    AutoTokenizer,
    AutoVideoProcessor,
    CLIPTokenizer,
    PreTrainedConfig,
)

from kinoclip.methods.actionclip import ActionClipConfig, ActionClipModel, ActionClipProcessor, convert_actionclip
from kinoclip.methods.alt import AltConfig, AltModel, AltProcessor
from kinoclip.methods.bike import BikeConfig, BikeModel, BikeProcessor, convert_bike
from kinoclip.methods.dstpr import DstprConfig, DstprModel, DstprProcessor
from kinoclip.methods.sllm import SllmConfig, SllmModel, SllmProcessor, convert_sllm
from kinoclip.methods.sllm.modeling_sllm import MEASUREMENTS as SLLM_MEASUREMENTS
from kinoclip.methods.tam import TamConfig, TamModel, TamProcessor, convert_tam
from kinoclip.methods.text4vis import Text4VisConfig, Text4VisModel, Text4VisProcessor, convert_text4vis
from kinoclip.methods.xclip import XclipConfig, XclipModel, XclipProcessor
from kinoclip.modeling.configuration import RecognizerConfig
from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.modeling.video_processing import RecognizerVideoProcessor


class Method(NamedTuple):
    """The classes of a method."""

    config: type[RecognizerConfig]
    model: type[VideoRecognizer]
    processor: type[RecognizerProcessor]
    convert: Callable[..., VideoRecognizer] | None  # converts the authors' checkpoint; None without one
    # numbers that only this method's paper prints, as functions of model, processor, batches of videos and label texts
    measurements: Mapping[str, Callable[..., float | None]] = MappingProxyType({})


METHODS: Mapping[str, Method] = {
    "actionclip": Method(ActionClipConfig, ActionClipModel, ActionClipProcessor, convert_actionclip),
    "alt": Method(AltConfig, AltModel, AltProcessor, None),
    "bike": Method(BikeConfig, BikeModel, BikeProcessor, convert_bike),
    "dstpr": Method(DstprConfig, DstprModel, DstprProcessor, None),
    # the official SLLM wraps Text4Vis
    "sllm": Method(
        SllmConfig,
        SllmModel,
        SllmProcessor,
        partial(convert_sllm, convert_wrapped=convert_text4vis),
        SLLM_MEASUREMENTS,
    ),
    "tam": Method(TamConfig, TamModel, TamProcessor, convert_tam),
    "text4vis": Method(Text4VisConfig, Text4VisModel, Text4VisProcessor, convert_text4vis),
    "xclip": Method(XclipConfig, XclipModel, XclipProcessor, None),
}


for config, model, processor, *_ in METHODS.values():
    AutoConfig.register(config.model_type, config, exist_ok=True)
    AutoModel.register(config, model, exist_ok=True)
    AutoModelForVideoClassification.register(config, model, exist_ok=True)
    AutoProcessor.register(config, processor, exist_ok=True)
    AutoTokenizer.register(config, CLIPTokenizer, exist_ok=True)
    AutoVideoProcessor.register(config, RecognizerVideoProcessor, exist_ok=True)


def find_method(config: PreTrainedConfig) -> Method:
    """Return the method of a config; raise a `ValueError` if it is not of this package."""
    for method in METHODS.values():
        if method.config.model_type == config.model_type:
            return method
    advice = " Turn a plain CLIP into one with `kinoclip convert bike CLIP --output DIR`."
    raise ValueError(
        f"The model type must be one of {', '.join(METHODS)}, got {config.model_type!r}."
        + advice * (config.model_type == "clip")
    )
