"""The recognizers that keep the contract: a new method joins with one row."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoclip import (
    ActionClipConfig,
    ActionClipModel,
    ActionClipProcessor,
    BikeConfig,
    BikeModel,
    BikeProcessor,
    Text4VisConfig,
    Text4VisModel,
    Text4VisProcessor,
)

# a second text tower, of another width than the first
NARROW = {"hidden_size": 48, "intermediate_size": 48}
LABELS = ["red circle moving left", "square", "a blue triangle"]


@dataclass(frozen=True)
class Recognizer:
    """One configuration of a method.

    Args:
        fields: of its config, beyond those of the tiny towers.
        attributes: whether it is given attributes of each video.
        max_frames: the largest T it takes, where there is one.
        options: of its processor, beyond those that the config decides.
        frames_apart: whether its frame features have a row for each frame.
    """

    model: type
    config: type
    processor: type
    fields: dict[str, Any] = field(default_factory=dict)
    attributes: bool = False
    max_frames: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    frames_apart: bool = True


def _bike(max_frames: int | None = 77, **fields: Any) -> Recognizer:
    given = fields.get("attributes", "none") != "none"
    return Recognizer(BikeModel, BikeConfig, BikeProcessor, fields, given, max_frames)


def _actionclip(max_frames: int | None = None, **fields: Any) -> Recognizer:
    # one template, as in training; what several do is a test of the method
    options = {"templates": ["a video of {}."]}
    # dropout is drawn anew in each run, so nothing could be compared in training
    fields = {"temporal_dropout": 0.0, **fields}
    return Recognizer(ActionClipModel, ActionClipConfig, ActionClipProcessor, fields, False, max_frames, options)


def _text4vis(max_frames: int | None = None, frames_apart: bool = True, **fields: Any) -> Recognizer:
    fields = {"temporal_head": "none", **fields}
    return Recognizer(
        Text4VisModel, Text4VisConfig, Text4VisProcessor, fields, max_frames=max_frames, frames_apart=frames_apart
    )


RECOGNIZERS = {
    "actionclip": _actionclip(max_frames=77),
    "actionclip_mean": _actionclip(temporal_head="mean"),
    "actionclip_class_token": _actionclip(max_frames=77, temporal_head="transformer_cls", num_frames=77),
    "actionclip_lstm": _actionclip(temporal_head="lstm"),
    "actionclip_conv1d": _actionclip(temporal_head="conv1d"),
    "actionclip_shift": _actionclip(temporal_head="mean", temporal_shift=True),
    "actionclip_frozen_text": _actionclip(temporal_head="mean", freeze_text=True),
    "bike": _bike(),
    "bike_mean": _bike(interaction="mean"),
    "bike_few_shot": _bike(max_frames=None, temporal_head="none"),
    "bike_label_words": _bike(saliency_words="label"),
    "bike_sentence_query": _bike(saliency_query="sentence", recognition_query="words"),
    "bike_shared_attributes": _bike(attributes="shared"),
    "bike_own_attributes": _bike(attributes="own", attribute_projection_dim=24, attribute_text_config=NARROW),
    "text4vis": _text4vis(max_frames=77, temporal_head="transformer"),
    "text4vis_few_shot": _text4vis(),
    "text4vis_tsm": _text4vis(temporal_shift="tsm"),
    "text4vis_token_shift": _text4vis(temporal_shift="token_shift"),
    "text4vis_token_t1d": _text4vis(temporal_shift="token_t1d"),
    "text4vis_joint": _text4vis(joint_space_time=True, frames_apart=False),
    "text4vis_contrastive": _text4vis(loss="symmetric_kl"),
}


@pytest.fixture(params=RECOGNIZERS)
def recognizer(request) -> Recognizer:
    return RECOGNIZERS[request.param]


@pytest.fixture
def config(recognizer, tiny_fields) -> Any:
    fields = dict(recognizer.fields)
    if "attribute_text_config" in fields:
        fields["attribute_text_config"] = {**tiny_fields["text_config"], **fields["attribute_text_config"]}
    return recognizer.config(**{**tiny_fields, **fields})


@pytest.fixture
def model(recognizer, config) -> Any:
    torch.manual_seed(0)
    return recognizer.model(config).eval()


@pytest.fixture
def processor(recognizer, config, tokenizer) -> Any:
    return recognizer.processor.for_config(config, tokenizer, **recognizer.options)


@pytest.fixture
def candidates(processor) -> dict[str, Tensor]:
    """Three candidates, as the processor makes them."""
    return dict(processor(text=LABELS))


@pytest.fixture
def extra(recognizer, processor) -> dict[str, Tensor]:
    """Inputs of further branches, for two videos."""
    if not recognizer.attributes:
        return {}
    return {"attribute_input_ids": processor.encode_attributes([["red", "moving"], ["square"]])}


@pytest.fixture
def pixels() -> Tensor:
    """Two videos of four frames."""
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def inputs(pixels, candidates, extra) -> dict[str, Tensor]:
    return {"pixel_values_videos": pixels, **candidates, **extra}
