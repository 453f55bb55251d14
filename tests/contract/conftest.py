"""The recognizers that keep the contract: a new method joins with one row.

Models are built once per session. `model` is shared, so that a test must not change it; `fresh` is a copy. Tests run on
the kinds of `REPRESENTATIVE`, and those marked `EVERY_KIND` on all.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from kinoclip import AltModel, SllmConfig, TamConfig
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
# a ResNet instead of the tiny towers; dropout would draw other numbers in each run
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
# fields of every kind of a method; dropout and noise would differ in each run
COMMON = {
    "actionclip": {"temporal_dropout": 0.0},
    "alt": {"merge_r": 1, "alignment_noise": False},
    "text4vis": {"temporal_head": "none"},
}
# one template, as in training; what several do is a test of the method
ONE_TEMPLATE = ("actionclip", "alt", "sllm")


@dataclass(frozen=True)
class Recognizer:
    """One configuration of a method.

    Args:
        method: its name.
        fields: of its config, beyond those of the tiny towers and of `COMMON`.
        max_frames: the largest T it takes, where there is one.
    """

    method: str
    fields: dict[str, Any]
    max_frames: int | None

    @property
    def attributes(self) -> bool:
        """Whether it is given attributes of each video."""
        return self.fields.get("attributes", "none") != "none"

    @property
    def fixed_frames(self) -> bool:
        """Whether it takes the T of its config only, which is 4."""
        return self.method == "dstpr" and self.fields.get("interchange") != "none"

    @property
    def reads_text(self) -> bool:
        """Whether it has a text tower, and CLIP's vision tower; otherwise its classifier knows `LABELS`."""
        return "tam" not in (self.method, self.fields.get("recognizer"))

    @property
    def sequence(self) -> int:
        """How many rows the frame features of four given frames have; SLLM restores rate - 1 in each gap."""
        if self.method == "sllm":
            return 3 * self.fields.get("rate", 2) + 1
        return 1 if self.fields.get("joint_space_time") else 4

    def config(self, tiny_fields: dict[str, Any]) -> Any:
        """Build its config."""
        if not self.reads_text:
            config = TamConfig(**RESNET)
            return config if self.method == "tam" else SllmConfig(recognizer_config=config, num_frames=8)
        fields = {**tiny_fields, **COMMON.get(self.method, {}), **self.fields}
        if "attribute_text_config" in fields:
            fields["attribute_text_config"] = {**tiny_fields["text_config"], **fields["attribute_text_config"]}
        if self.method != "sllm":
            return METHODS[self.method].config(**fields)
        if "temporal_layers" not in METHODS[fields["recognizer"]].config.settings():
            del fields["temporal_layers"]
        names = ("text_config", "vision_config", "projection_dim", "chinese_text_config")
        towers = {name: fields.pop(name) for name in names if name in fields}
        return SllmConfig.from_clip_fields(towers, **fields)


def _kind(method: str, max_frames: int | None = None, **fields: Any) -> Recognizer:
    return Recognizer(method, fields, max_frames)


def _give_corpus(model: Any) -> None:
    """Give ALT entities to align with."""
    alt = model.unwrap()
    if isinstance(alt, AltModel) and alt.config.aligns:
        embeds = torch.randn(6, alt.frame_width, generator=torch.Generator().manual_seed(2))
        alt.set_corpus([f"entity {number}" for number in range(6)], embeds)


# what any recognizer on CLIP can vote by beside the video
BRANCHES = {"attributes": "shared", "chinese_branch": True, "chinese_text_config": CHINESE}

# a temporal head has positions for 77 frames; with SLLM, 1 + rate * (K - 1) of K kept ones
RECOGNIZERS = {
    "actionclip_branches": _kind("actionclip", temporal_head="mean", **BRANCHES),
    "bike_branches": _kind("bike", 77, **BRANCHES),
    "sllm_branches": _kind("sllm", 39, recognizer="text4vis", **BRANCHES),
    "text4vis_branches": _kind("text4vis", **BRANCHES),
    "actionclip": _kind("actionclip", 77),
    "actionclip_mean": _kind("actionclip", temporal_head="mean"),
    "actionclip_class_token": _kind("actionclip", 77, temporal_head="transformer_cls", num_frames=77),
    "actionclip_lstm": _kind("actionclip", temporal_head="lstm"),
    "actionclip_conv1d": _kind("actionclip", temporal_head="conv1d"),
    "actionclip_shift": _kind("actionclip", temporal_head="mean", temporal_shift=True),
    "actionclip_frozen_text": _kind("actionclip", temporal_head="mean", freeze_text=True),
    "actionclip_merged": _kind("actionclip", temporal_head="mean", merge_r=1),
    "alt": _kind("alt"),
    "alt_adapters": _kind("alt", train_encoder="SM"),
    "alt_frames": _kind("alt", merge_r=0, align_regions=False, train_encoder="frozen"),
    "alt_learned": _kind("alt", query_source="learned", temporal_position_embedding=True),
    "alt_mixtures": _kind("alt", hard_assignment=False, region_projection="shared", token_reduction="weighted_mean"),
    "bike": _kind("bike", 77),
    "bike_merged": _kind("bike", 77, merge_r=[1, 2], prop_attn=False),
    "bike_mean": _kind("bike", 77, interaction="mean"),
    "bike_few_shot": _kind("bike", temporal_head="none"),
    "bike_label_words": _kind("bike", 77, saliency_words="label"),
    "bike_sentence_query": _kind("bike", 77, saliency_query="sentence", recognition_query="words"),
    "bike_shared_attributes": _kind("bike", 77, attributes="shared"),
    "dstpr": _kind("dstpr"),
    "dstpr_any_frames": _kind("dstpr", interchange="none", reparam="tada"),
    "dstpr_chinese": _kind("dstpr", chinese_branch=True, chinese_text_config=CHINESE),
    "dstpr_label_words": _kind("dstpr", word_tokens="label", reparam="transformer"),
    "dstpr_learned_context": _kind("dstpr", learnable_text_context=True, reparam="mlp", prompt_layers=[1]),
    "dstpr_mean": _kind("dstpr", frame_aggregation="mean", reparam="lstm", reparam_shared=True),
    "sllm_alt": _kind("sllm", recognizer="alt", merge_r=1, align_regions=False, alignment_noise=False),
    "sllm_actionclip": _kind("sllm", 39, recognizer="actionclip", temporal_dropout=0.0),
    "sllm_bike": _kind("sllm", 39, recognizer="bike"),
    "sllm_dstpr": _kind("sllm", recognizer="dstpr", interchange="none"),
    "sllm_frozen_teacher": _kind("sllm", 39, recognizer="text4vis", teacher="frozen"),
    "sllm_text4vis": _kind("sllm", 39, recognizer="text4vis"),
    "sllm_by_placeholders": _kind("sllm", 26, recognizer="text4vis", restoration="placeholders", rate=3),
    "bike_own_attributes": _kind(
        "bike", 77, attributes="own", attribute_projection_dim=24, attribute_text_config=NARROW
    ),
    "tam": _kind("tam"),
    "sllm_tam": _kind("sllm", recognizer="tam"),
    "text4vis": _kind("text4vis", 77, temporal_head="transformer"),
    "text4vis_few_shot": _kind("text4vis"),
    "text4vis_merged": _kind("text4vis", merge_r=1),
    "text4vis_tsm": _kind("text4vis", temporal_shift="tsm"),
    "text4vis_token_shift": _kind("text4vis", temporal_shift="token_shift"),
    "text4vis_token_t1d": _kind("text4vis", temporal_shift="token_t1d"),
    "text4vis_joint": _kind("text4vis", joint_space_time=True),
    "text4vis_contrastive": _kind("text4vis", loss="symmetric_kl"),
    "xclip": _kind("xclip", 8, num_frames=8),
    "xclip_branches": _kind("xclip", temporal_head="none", **BRANCHES),
    "xclip_frames": _kind("xclip", 8, num_frames=8, cross_frame="none", merge_r=1),
    "sllm_xclip": _kind("sllm", 4, recognizer="xclip", num_frames=8),
}


# all methods, heads, branches and changes of the towers once
REPRESENTATIVE = [
    *("actionclip_branches", "actionclip_class_token", "alt", "alt_learned", "bike", "bike_merged"),
    *("bike_own_attributes", "dstpr_any_frames", "dstpr_chinese", "sllm_branches", "sllm_tam", "tam"),
    *("text4vis_joint", "text4vis_token_t1d"),
]
ONE_OF_EACH_METHOD = ["actionclip", "alt", "bike", "dstpr", "sllm_text4vis", "tam", "text4vis", "xclip"]
EVERY_KIND = pytest.mark.parametrize("kind", RECOGNIZERS)


@pytest.fixture(params=REPRESENTATIVE)
def kind(request) -> str:
    return request.param


@pytest.fixture
def recognizer(kind) -> Recognizer:
    return RECOGNIZERS[kind]


@pytest.fixture(scope="session")
def build(tiny_fields, tokenizer) -> Callable[[str], tuple[Any, Any]]:
    """Build the model and the processor of a kind, once."""

    @cache
    def build(kind: str) -> tuple[Any, Any]:
        recognizer, classes = RECOGNIZERS[kind], METHODS[RECOGNIZERS[kind].method]
        config = recognizer.config(tiny_fields)
        torch.manual_seed(0)
        model = classes.model(config).eval()
        _give_corpus(model)
        is_one = recognizer.reads_text and recognizer.method in ONE_TEMPLATE
        options = {"templates": ["a video of {}."]} if is_one else {}
        text = tokenizer if recognizer.reads_text else None
        return model, classes.processor.for_config(config, text, **options)

    return build


@pytest.fixture
def model(build, kind) -> Any:
    return build(kind)[0]


@pytest.fixture
def processor(build, kind) -> Any:
    return build(kind)[1]


@pytest.fixture
def fresh(build, kind) -> Any:
    """A copy of the model that a test may change."""
    return copy.deepcopy(build(kind)[0])


@pytest.fixture
def closed(recognizer, fresh, processor) -> Any:
    """A copy that carries its own labels."""
    if recognizer.reads_text:
        with torch.no_grad():
            fresh.set_candidates(LABELS, fresh.encode_text(**processor(text=LABELS)))
    return fresh


@pytest.fixture
def inner(recognizer, model) -> Any:
    """The recognizer with the towers: the model itself, or the wrapped one."""
    if not recognizer.reads_text:
        pytest.skip("it has no towers")
    return model.unwrap()


@pytest.fixture
def prefix(model, inner) -> str:
    """Prefix of the names of its parameters."""
    return "" if inner is model else "recognizer."


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


@pytest.fixture(scope="session")
def outputs() -> dict[str, Any]:
    """The output of each kind that was computed."""
    return {}


@pytest.fixture
def output(outputs, kind, build, inputs) -> Any:
    """The output of the model for `inputs`."""
    if kind not in outputs:
        with torch.no_grad():
            outputs[kind] = build(kind)[0](**inputs)
    return outputs[kind]
