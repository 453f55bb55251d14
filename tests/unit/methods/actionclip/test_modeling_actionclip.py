"""The temporal heads of ActionCLIP, its templates, and every field of its config."""

from functools import partial

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

from kinoclip import ActionClipConfig, ActionClipModel
from kinoclip.inference.profile import profile, profile_config
from kinoclip.methods.actionclip.modeling_actionclip import ConvolutionalHead


@pytest.fixture
def build(make):
    return partial(make, ActionClipModel)


@pytest.fixture
def frames():
    return torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))


def test_a_convolution_starts_with_a_quarter_before_and_a_quarter_after(build):
    # 32 channels: 8 take the frame before (tap 0), 16 the frame itself (tap 1), 8 the frame after (tap 2)
    taps = build(temporal_head="conv1d").temporal_head.conv.weight[:, 0].argmax(-1)
    assert taps.tolist() == [0] * 8 + [1] * 16 + [2] * 8
    assert build(temporal_head="conv1d").temporal_head.conv.weight.sum() == 32


def _convolve(transpose):
    """Convolve two frames of two channels, both of which take the step before."""
    head = ConvolutionalHead(2, transpose=transpose)
    head.conv.weight.data = torch.tensor([[[1.0, 0, 0]], [[1.0, 0, 0]]])
    return head(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])).tolist()


def test_transpose_conv1d_convolves_over_time_and_without_it_numbers_are_read_as_if_transposed(build):
    # frames (1, 2) and (3, 4); before the first there are zeros: (1, 2) + (0, 0) and (3, 4) + (1, 2)
    assert _convolve(transpose=True) == [[[1, 2], [4, 6]]]
    # 1 2 3 4 read as channels (1, 2) and (3, 4) over time; a step before: (0, 1) and (0, 3);
    # as frames: (0, 0) and (1, 3), plus (1, 2) and (3, 4)
    assert _convolve(transpose=False) == [[[1, 2], [4, 7]]]
    assert build(temporal_head="conv1d", transpose_conv1d=True).temporal_head.transpose
    assert not build(temporal_head="conv1d").temporal_head.transpose


def test_more_frames_than_a_class_token_transformer_was_trained_with_are_refused(build):
    with pytest.raises(ValueError, match="positions for 4 frames, but the video has 5"):
        build(temporal_head="transformer_cls").temporal_head(torch.zeros(1, 5, 32))


def test_temporal_dropout_acts_in_training_only(build, frames):
    head = build(temporal_head="transformer_cls").temporal_head
    assert torch.equal(head(frames), head(frames))
    head.train()
    assert not torch.equal(head(frames), head(frames))
    head = build(temporal_head="transformer_cls", temporal_dropout=0).temporal_head.train()
    assert torch.equal(head(frames), head(frames))


def test_a_class_token_transformer_starts_as_the_official_one(build):
    head = build(temporal_head="transformer_cls").temporal_head
    layer = head.encoder.layers[0]
    assert layer.mlp.fc1.weight.std().item() == pytest.approx(0.0173, abs=5e-4)  # a normal, folded at 2, has 0.865
    assert layer.mlp.fc1.weight.abs().max() <= 0.04
    # xavier-uniform over the fused projection: bound sqrt(6 / (32 + 96)) = 0.2165, deviation bound / sqrt(3) = 0.125
    assert layer.self_attn.q_proj.weight.std().item() == pytest.approx(0.125, abs=0.01)
    assert 0 < head.class_embedding.abs().max() <= 0.04


def test_a_recurrent_head_starts_as_torch_starts_it(build):
    weight = build(temporal_head="lstm").temporal_head.lstm.weight_hh_l0
    # uniform within 1 / sqrt(32) = 0.1768
    assert weight.abs().max().item() == pytest.approx(0.1768, abs=1e-3)


# two layers carry it two frames far, but the class token reads what the last layer's input has: one shift more; a bool is the
# spelling of earlier versions
@pytest.mark.parametrize(("shift", "unmoved"), [(False, 3), (True, 1), ("tsm", 1)])
def test_temporal_shift_lets_a_frame_see_its_neighbors(build, moved_by, shift, unmoved):
    model = build(temporal_head="mean", temporal_shift=shift)
    assert moved_by(model) == [False] * unmoved + [True] * (4 - unmoved)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal_layers": 0}, "temporal_layers must be at least 1, got 0"),
        ({"temporal_dropout": 1}, "temporal_dropout must be .* below 1, got 1"),
        ({"temporal_head": "transformer_cls", "projection_dim": 36}, "projection_dim must be a multiple of 8, got 36"),
    ],
)
def test_a_config_that_cannot_be_built_is_refused(tiny_fields, changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        ActionClipConfig(**{**tiny_fields, **changes})


@pytest.mark.parametrize(("num_frames", "gmacs"), [(8, 35.4219), (16, 70.8445), (32, 141.6922)])
def test_the_operations_are_those_counted_in_the_official_code(num_frames, gmacs):
    counted = profile(profile_config("actionclip", clip="vitb32"), num_frames=num_frames)
    assert counted.gmacs == pytest.approx(gmacs, abs=1e-4)


def test_the_transformer_of_the_base_model_has_the_official_number_of_parameters():
    # 6 * (12 * 512^2 + 13 * 512) + 77 * 512
    with torch.device("meta"):
        head = ActionClipModel(profile_config("actionclip", clip="vitb32")).temporal_head
    assert sum(parameter.numel() for parameter in head.parameters()) == 18_953_728
