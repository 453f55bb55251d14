"""The recognizers that keep the contract: a new method joins with one row."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoclip import (
    ActionClipConfig,
    ActionClipModel,
    ActionClipProcessor,
    AltConfig,
    AltModel,
    AltProcessor,
    BikeConfig,
    BikeModel,
    BikeProcessor,
    DstprConfig,
    DstprModel,
    DstprProcessor,
    SllmConfig,
    SllmModel,
    SllmProcessor,
    TamConfig,
    TamModel,
    TamProcessor,
    Text4VisConfig,
    Text4VisModel,
    Text4VisProcessor,
)
from kinoclip.methods import METHODS

# a second text tower, of another width than the first
NARROW = {"hidden_size": 48, "intermediate_size": 48}
LABELS = ["red circle moving left", "square", "a blue triangle"]
# a tower for Chinese names, of another width too, and the names of LABELS in its tokens
CHINESE = {
    "vocab_size": 30,
    "hidden_size": 48,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "pad_token_id": 0,
}
CHINESE_IDS = [[[1, 7, 2, 0], [1, 8, 9, 2], [1, 5, 2, 0]]]
# a ResNet instead of the tiny towers; without dropout, which is drawn anew in each run
RESNET = {
    "block": "basic",
    "stage_blocks": [1, 1, 1, 1],
    "stage_widths": [8, 8, 16, 32],
    "stem_width": 8,
    "dropout": 0.0,
    "image_size": 32,
    "num_frames": 4,
    "id2label": dict(enumerate(LABELS)),
}


@dataclass(frozen=True)
class Recognizer:
    """One configuration of a method.

    Args:
        fields: of its config, beyond those of the tiny towers.
        attributes: whether it is given attributes of each video.
        max_frames: the largest T it takes, where there is one.
        fixed_frames: whether it takes the T of its config only, which is 4.
        options: of its processor, beyond those that the config decides.
        sequence: how many rows the frame features of four given frames have.
        reads_text: whether it has a text tower, and CLIP's vision tower; otherwise its classifier knows `LABELS`.
    """

    model: type
    config: Callable[..., Any]
    processor: type
    fields: dict[str, Any] = field(default_factory=dict)
    attributes: bool = False
    max_frames: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    sequence: int = 4
    reads_text: bool = True
    fixed_frames: bool = False


def _alt(**fields: Any) -> Recognizer:
    # noise is drawn anew in each run, so nothing could be compared in training
    fields = {"merge_r": 1, "alignment_noise": False, **fields}
    return Recognizer(AltModel, AltConfig, AltProcessor, fields, options={"templates": ["a video of {}."]})


def _give_corpus(model: Any) -> None:
    """Give ALT entities to align with."""
    alt = getattr(model, "recognizer", model)
    if isinstance(alt, AltModel) and alt.config.aligns:
        embeds = torch.randn(6, alt.frame_width, generator=torch.Generator().manual_seed(2))
        alt.set_corpus([f"entity {number}" for number in range(6)], embeds)


def _bike(max_frames: int | None = 77, **fields: Any) -> Recognizer:
    given = fields.get("attributes", "none") != "none"
    return Recognizer(BikeModel, BikeConfig, BikeProcessor, fields, given, max_frames)


def _actionclip(max_frames: int | None = None, **fields: Any) -> Recognizer:
    # one template, as in training; what several do is a test of the method
    options = {"templates": ["a video of {}."]}
    # dropout is drawn anew in each run, so nothing could be compared in training
    fields = {"temporal_dropout": 0.0, **fields}
    return Recognizer(ActionClipModel, ActionClipConfig, ActionClipProcessor, fields, False, max_frames, options)


def _text4vis(max_frames: int | None = None, sequence: int = 4, **fields: Any) -> Recognizer:
    fields = {"temporal_head": "none", **fields}
    return Recognizer(
        Text4VisModel, Text4VisConfig, Text4VisProcessor, fields, max_frames=max_frames, sequence=sequence
    )


def _dstpr(**fields: Any) -> Recognizer:
    fixed = fields.get("interchange") != "none"
    return Recognizer(DstprModel, DstprConfig, DstprProcessor, fields, fixed_frames=fixed)


def _sllm(recognizer: str, **settings: Any) -> Recognizer:
    """SLLM around another recognizer; 1 + rate * (K - 1) frames come of K, and the temporal head takes 77."""
    config = partial(_wrap, recognizer=recognizer)
    options = {"templates": ["a video of {}."]}
    rate = settings.get("rate", 2)
    return Recognizer(SllmModel, config, SllmProcessor, settings, False, 76 // rate + 1, options, 3 * rate + 1)


def _wrap(recognizer: str, **fields: Any) -> SllmConfig:
    if "temporal_layers" not in METHODS[recognizer].config.settings():
        del fields["temporal_layers"]
    names = ("text_config", "vision_config", "projection_dim", "chinese_text_config")
    towers = {name: fields.pop(name) for name in names if name in fields}
    return SllmConfig.from_clip_fields(towers, recognizer=recognizer, **fields)


def _wrap_classifier(**fields: Any) -> SllmConfig:
    return SllmConfig(recognizer_config=TamConfig(**fields), num_frames=8)


# what any recognizer on CLIP can vote by beside the video
BRANCHES = {"attributes": "shared", "chinese_branch": True, "chinese_text_config": CHINESE}

RECOGNIZERS = {
    "actionclip_branches": replace(_actionclip(temporal_head="mean", **BRANCHES), attributes=True),
    "bike_branches": _bike(**BRANCHES),
    "sllm_branches": replace(_sllm("text4vis", **BRANCHES), attributes=True),
    "text4vis_branches": replace(_text4vis(**BRANCHES), attributes=True),
    "actionclip": _actionclip(max_frames=77),
    "actionclip_mean": _actionclip(temporal_head="mean"),
    "actionclip_class_token": _actionclip(max_frames=77, temporal_head="transformer_cls", num_frames=77),
    "actionclip_lstm": _actionclip(temporal_head="lstm"),
    "actionclip_conv1d": _actionclip(temporal_head="conv1d"),
    "actionclip_shift": _actionclip(temporal_head="mean", temporal_shift=True),
    "actionclip_frozen_text": _actionclip(temporal_head="mean", freeze_text=True),
    "actionclip_merged": _actionclip(temporal_head="mean", merge_r=1),
    "alt": _alt(),
    "alt_adapters": _alt(train_encoder="SM"),
    "alt_frames": _alt(merge_r=0, align_regions=False, train_encoder="frozen"),
    "alt_learned": _alt(query_source="learned", temporal_position_embedding=True),
    "alt_mixtures": _alt(hard_assignment=False, region_projection="shared", token_reduction="weighted_mean"),
    "bike": _bike(),
    "bike_merged": _bike(merge_r=[1, 2], prop_attn=False),
    "bike_mean": _bike(interaction="mean"),
    "bike_few_shot": _bike(max_frames=None, temporal_head="none"),
    "bike_label_words": _bike(saliency_words="label"),
    "bike_sentence_query": _bike(saliency_query="sentence", recognition_query="words"),
    "bike_shared_attributes": _bike(attributes="shared"),
    "dstpr": _dstpr(),
    "dstpr_any_frames": _dstpr(interchange="none", reparam="tada"),
    "dstpr_chinese": _dstpr(chinese_branch=True, chinese_text_config=CHINESE),
    "dstpr_label_words": _dstpr(word_tokens="label", reparam="transformer"),
    "dstpr_learned_context": _dstpr(learnable_text_context=True, reparam="mlp", prompt_layers=[1]),
    "dstpr_mean": _dstpr(frame_aggregation="mean", reparam="lstm", reparam_shared=True),
    "sllm_alt": replace(_sllm("alt", merge_r=1, align_regions=False, alignment_noise=False), max_frames=None),
    "sllm_actionclip": _sllm("actionclip", temporal_dropout=0.0),
    "sllm_bike": _sllm("bike"),
    "sllm_dstpr": replace(_sllm("dstpr", interchange="none"), max_frames=None),
    "sllm_text4vis": _sllm("text4vis"),
    "sllm_by_placeholders": _sllm("text4vis", restoration="placeholders", rate=3),
    "bike_own_attributes": _bike(attributes="own", attribute_projection_dim=24, attribute_text_config=NARROW),
    "tam": Recognizer(TamModel, TamConfig, TamProcessor, RESNET, reads_text=False),
    "sllm_tam": Recognizer(
        SllmModel, partial(_wrap_classifier, **RESNET), SllmProcessor, sequence=7, reads_text=False
    ),
    "text4vis": _text4vis(max_frames=77, temporal_head="transformer"),
    "text4vis_few_shot": _text4vis(),
    "text4vis_merged": _text4vis(merge_r=1),
    "text4vis_tsm": _text4vis(temporal_shift="tsm"),
    "text4vis_token_shift": _text4vis(temporal_shift="token_shift"),
    "text4vis_token_t1d": _text4vis(temporal_shift="token_t1d"),
    "text4vis_joint": _text4vis(joint_space_time=True, sequence=1),
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
    return recognizer.config(**{**(tiny_fields if recognizer.reads_text else {}), **fields})


@pytest.fixture
def model(recognizer, config) -> Any:
    torch.manual_seed(0)
    model = recognizer.model(config).eval()
    _give_corpus(model)
    return model


@pytest.fixture
def inner(recognizer, model) -> Any:
    """The recognizer whose towers they are: the model itself, or the one that it wraps."""
    if not recognizer.reads_text:
        pytest.skip("it has no towers")
    return getattr(model, "recognizer", model)


@pytest.fixture
def prefix(model, inner) -> str:
    """What the names of its parameters begin with."""
    return "" if inner is model else "recognizer."


@pytest.fixture
def processor(recognizer, config, tokenizer) -> Any:
    return recognizer.processor.for_config(config, tokenizer if recognizer.reads_text else None, **recognizer.options)


@pytest.fixture
def candidates(recognizer, processor) -> dict[str, Tensor]:
    """Three candidates, as the processor makes them."""
    if not recognizer.reads_text:
        pytest.skip("it reads no text")
    encoded = dict(processor(text=LABELS))
    if recognizer.fields.get("chinese_branch"):
        encoded["chinese_input_ids"] = torch.tensor(CHINESE_IDS)
    return encoded


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
def inputs(request, recognizer, pixels, extra) -> dict[str, Tensor]:
    candidates = request.getfixturevalue("candidates") if recognizer.reads_text else {}
    return {"pixel_values_videos": pixels, **candidates, **extra}
