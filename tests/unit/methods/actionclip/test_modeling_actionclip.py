"""The temporal heads of ActionCLIP, its templates, and every field of its config."""

import math
from dataclasses import fields

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from torch import nn

from kinoclip import ActionClipConfig, ActionClipModel
from kinoclip.components.temporal_shift import TemporalShiftLayer
from kinoclip.inference.profile import profile, profile_config
from kinoclip.methods.actionclip.modeling_actionclip import (
    ClassTokenTransformer,
    ConvolutionalHead,
    RecurrentHead,
)
from kinoclip.outputs import FrameFeatures, TextFeatures

HEADS = ["mean", "transformer", "transformer_cls", "lstm", "conv1d"]


@pytest.fixture
def build(tiny_fields):
    def build(**changes):
        torch.manual_seed(0)
        return ActionClipModel(ActionClipConfig(**{**tiny_fields, **changes})).eval()

    return build


@pytest.fixture
def frames():
    return torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(1))


def test_a_mean_is_the_mean_of_the_frames(build, frames):
    model = build(temporal_head="mean")
    assert torch.equal(model.aggregate(FrameFeatures(embeds=frames), None), frames.mean(1))


@pytest.mark.parametrize(
    ("head", "kind"),
    [("lstm", RecurrentHead), ("conv1d", ConvolutionalHead), ("transformer_cls", ClassTokenTransformer)],
)
def test_temporal_head_chooses_the_head(build, head, kind):
    assert isinstance(build(temporal_head=head).temporal_head, kind)


@pytest.mark.parametrize("head", HEADS[1:4])
def test_a_head_sees_what_another_frame_shows(build, frames, head):
    model, changed = build(temporal_head=head), frames.clone()
    changed[:, 0] += 1
    with torch.no_grad():
        first, second = (model.aggregate(FrameFeatures(embeds=f), None) for f in (frames, changed))
    # if the frames did not see each other, a mean would move by a quarter in each of 32 directions
    assert ((second - first) - 0.25).abs().max() > 1e-3


def test_a_recurrent_head_without_weights_gives_the_frames(frames):
    head = RecurrentHead(32)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    # gates are a half and the candidate tanh(0) = 0, so nothing is remembered
    assert torch.equal(head(frames), frames)


def test_a_recurrent_head_adds_what_the_forget_and_output_gates_let_through():
    head = RecurrentHead(1)
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    head.lstm.weight_ih_l0.data[2] = 1  # the candidate is tanh of the frame
    frames = torch.tensor([[[1.0], [0.0]]])
    # cell: tanh(1) / 2 = 0.3808, then half of it, 0.1904; output: tanh of the cell, halved: 0.1817, 0.0941
    assert head(frames).flatten().tolist() == pytest.approx([1.1817, 0.0941], abs=1e-4)


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


def test_transpose_conv1d_takes_the_frame_before():
    # frames (1, 2) and (3, 4); before the first there are zeros: (1, 2) + (0, 0) and (3, 4) + (1, 2)
    assert _convolve(transpose=True) == [[[1, 2], [4, 6]]]


def test_without_it_the_numbers_are_read_as_if_they_were_transposed():
    # 1 2 3 4 read as channels (1, 2) and (3, 4) over time; a step before: (0, 1) and (0, 3);
    # as frames: (0, 0) and (1, 3), plus (1, 2) and (3, 4)
    assert _convolve(transpose=False) == [[[1, 2], [4, 7]]]


def test_transpose_conv1d_reaches_the_head(build):
    assert build(temporal_head="conv1d", transpose_conv1d=True).temporal_head.transpose
    assert not build(temporal_head="conv1d").temporal_head.transpose


def _as_torch(head):
    """The same transformer made of torch's own modules."""
    width = head.config.hidden_size
    layer = nn.TransformerEncoderLayer(width, 8, dim_feedforward=2048, dropout=0.1, batch_first=True)
    encoder = nn.TransformerEncoder(
        layer, len(head.encoder.layers), norm=nn.LayerNorm(width), enable_nested_tensor=False
    )
    for theirs, ours in zip(encoder.layers, head.encoder.layers, strict=True):
        attention = ours.self_attn
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        theirs.self_attn.in_proj_weight.data = torch.cat([p.weight.data for p in projections])
        theirs.self_attn.in_proj_bias.data = torch.cat([p.bias.data for p in projections])
        pairs = (
            (theirs.self_attn.out_proj, attention.out_proj),
            (theirs.linear1, ours.mlp.fc1),
            (theirs.linear2, ours.mlp.fc2),
            (theirs.norm1, ours.layer_norm1),
            (theirs.norm2, ours.layer_norm2),
        )
        for module, source in pairs:
            module.load_state_dict(source.state_dict())
    encoder.norm.load_state_dict(head.layer_norm.state_dict())
    return encoder.eval()


def test_a_class_token_transformer_is_torchs_own_encoder(build, frames):
    head = build(temporal_head="transformer_cls").temporal_head
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        tokens = torch.cat([head.class_embedding.expand(2, 1, 32), frames], dim=1) + head.position_embedding.weight
        torch.testing.assert_close(head(frames), _as_torch(head)(tokens)[:, 0], atol=1e-5, rtol=1e-5)


def test_a_class_token_transformer_has_a_position_for_each_frame_and_the_token(build):
    assert build(temporal_head="transformer_cls").temporal_head.position_embedding.weight.shape == (5, 32)


def test_more_frames_than_a_class_token_transformer_was_trained_with_are_refused(build):
    with pytest.raises(ValueError, match="positions for 4 frames, but the video has 5"):
        build(temporal_head="transformer_cls").temporal_head(torch.zeros(1, 5, 32))


def test_temporal_dropout_acts_in_training_only(build, frames):
    head = build(temporal_head="transformer_cls").temporal_head
    assert torch.equal(head(frames), head(frames))
    head.train()
    assert not torch.equal(head(frames), head(frames))


def test_temporal_dropout_can_be_left_out(build, frames):
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


@pytest.mark.parametrize("head", ["transformer", "transformer_cls"])
def test_temporal_layers_is_the_depth_of_the_head(build, head):
    assert len(build(temporal_head=head, temporal_layers=3).temporal_head.encoder.layers) == 3


def test_temporal_shift_lets_a_frame_see_its_neighbors(build):
    pixels = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    other = pixels.clone()
    other[:, 3] += 1
    moved = {}
    for shift in (False, True):
        model = build(temporal_head="mean", temporal_shift=shift)
        with torch.no_grad():
            difference = model.encode_frames(pixels).embeds - model.encode_frames(other).embeds
        moved[shift] = [bool(frame.abs().max() > 1e-4) for frame in difference[0]]
    # two layers carry it two frames far, but the class token reads what the last layer's input has: one shift more
    assert moved == {False: [False, False, False, True], True: [False, True, True, True]}


def test_temporal_shift_changes_every_layer_of_the_vision_tower(build):
    layers = build(temporal_shift=True).vision_model.encoder.layers
    assert [type(layer) for layer in layers] == [TemporalShiftLayer] * 2


@pytest.mark.parametrize(("freeze_text", "frozen"), [(True, {"text_model", "text_projection"}), (False, set())])
def test_freeze_text_decides_whether_the_text_tower_is_trained(build, freeze_text, frozen):
    assert {name.partition(".")[0] for name in build(freeze_text=freeze_text).freeze()} == frozen


def _scored(model, *templates):
    """Score a video that shows the first direction; candidates are given by their cosines with it."""
    video = torch.eye(32)[:1, None]
    rows = [[torch.tensor([c, math.sqrt(1 - c * c)]) for c in template] for template in templates]
    embeds = nn.functional.pad(torch.stack([torch.stack(row) for row in rows]), (0, 30))
    with torch.no_grad():
        return model(frame_features=FrameFeatures(embeds=video), text_features=TextFeatures(embeds=5 * embeds))


@pytest.fixture
def scale_log_9(build):
    """A model that multiplies cosines by log 9."""
    model = build(temporal_head="mean")
    model.logit_scale.data = torch.tensor(math.log(math.log(9)))
    return model


def test_probabilities_are_averaged_over_templates(scale_log_9):
    # cosines (1, 0) are probabilities 9 to 1, (0, 0) are 1 to 1: the mean of (0.9, 0.1) and (0.5, 0.5)
    logits = _scored(scale_log_9, (1.0, 0.0), (0.0, 0.0)).logits
    assert logits.exp().tolist() == [pytest.approx([0.7, 0.3], abs=1e-6)]


def test_votes_are_the_mean_cosines_of_the_templates(scale_log_9):
    votes = _scored(scale_log_9, (1.0, 0.0), (0.5, 0.2)).votes["video"]
    assert votes.tolist() == [pytest.approx([0.75, 0.1])]


def test_logits_of_one_template_are_its_scaled_cosines(scale_log_9):
    logits = _scored(scale_log_9, (1.0, 0.5)).logits
    assert logits.tolist() == [pytest.approx([math.log(9), math.log(3)])]


def test_frames_are_not_weighed(build, frames):
    text = TextFeatures(embeds=torch.ones(16, 3, 32))
    assert build().saliency(FrameFeatures(embeds=frames), text) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal_layers": 0}, "temporal_layers is 0"),
        ({"temporal_dropout": 1}, "temporal_dropout is 1"),
        ({"temporal_head": "transformer_cls", "projection_dim": 36}, "projection_dim is 36"),
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


def test_every_field_of_actionclip_has_a_test_here():
    own = {field.name for field in fields(ActionClipConfig)} & set(ActionClipConfig.__annotations__)
    tested = {
        "temporal_head", "temporal_layers", "temporal_dropout", "transpose_conv1d", "temporal_shift", "freeze_text",
    }  # fmt: skip
    assert own == tested
