"""ALT's parameters and operations beside those that the paper prints (Tables 1, 7 and 8)."""

import pytest
import torch
from transformers import AutoModel

from kinoclip.inference.profile import profile, profile_config

MILLION = 1_000_000


def count(clip="vitb16", **fields):
    """Count all parameters that a video passes through, and those of them that train, without weights."""
    with torch.device("meta"):
        model = AutoModel.from_config(profile_config("alt", clip=clip, **fields))
    model.freeze()
    chosen = [p for name, p in model.named_parameters() if not name.startswith(("text_", "logit_scale"))]
    return sum(p.numel() for p in chosen), sum(p.numel() for p in chosen if p.requires_grad)


def test_the_parameters_are_those_of_the_specified_design():
    # vision tower with projection 86,192,640, region projection 394,752, four blocks 8,408,576 each, 102 weights of tokens,
    # two MLPs 2,099,712 each, the last norm 1,024
    assert count() == (124_422_246, 124_422_246)


def test_they_are_near_to_the_printed_ones_on_both_towers():
    assert count("vitl14")[0] == 427_627_074
    assert count("vitl14")[0] == pytest.approx(427.1 * MILLION, rel=0.002)
    assert count()[0] == pytest.approx(124.6 * MILLION, rel=0.002)


@pytest.mark.parametrize(
    ("train_encoder", "trained", "printed"),
    [
        ("frozen", 38_229_606, 38),
        # an adapter has 2 * 768 * 192 + 192 + 768 = 295,872 weights, and there are twelve of each kind
        ("S", 38_229_606 + 12 * 295_872, 42),
        ("SM", 38_229_606 + 24 * 295_872, 45),
        ("STM", 38_229_606 + 36 * 295_872, 49),
    ],
)
def test_trained_parameters_are_those_of_table_7(train_encoder, trained, printed):
    found = count(train_encoder=train_encoder)[1]
    assert found == trained
    assert round(found / MILLION) == printed


DENSE, PLAIN = {"conv_groups": "dense"}, {"conv_ffn": False}


@pytest.mark.parametrize(
    ("fields", "millions"),
    [
        (DENSE | PLAIN | {"decoder_ffn_after_self": False}, 110.36),
        (PLAIN, 115.62),
        (DENSE | PLAIN, 118.76),
        (DENSE | PLAIN | {"conv_kernel": 7}, 122.96),
        ({}, 124.03),
        (DENSE | {"align_mlp_ratio": 1, "head_mlp_ratio": 1}, 124.02),
        (DENSE, 127.17),
    ],
)
def test_other_designs_that_were_counted_can_be_built(fields, millions):
    assert count(region_projection="shared", **fields)[0] / MILLION == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(
    ("clip", "fields", "printed", "tolerance"),
    [
        ("vitb16", {}, 110, 0.03),
        ("vitb16", {"merge_r": 4}, 129, 0.03),
        ("vitb16", {"merge_r": 13}, 86, 0.03),
        ("vitb16", {"merge_r": 0, "align_regions": False}, 141, 0.03),
        ("vitl14", {}, 415, 0.04),
    ],
)
def test_operations_are_near_to_those_of_table_8(clip, fields, printed, tolerance):
    # the paper prints multiply-accumulates of one view of 8 frames
    found = profile(profile_config("alt", clip=clip, corpus_size=5500, **fields)).gmacs
    assert found == pytest.approx(printed, rel=tolerance)
