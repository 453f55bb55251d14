"""What moves between frames in Text4Vis, and what each field of its config changes."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import multi_head_attention_forward
from transformers import CLIPVisionConfig

from kinoclip import Text4VisConfig, Text4VisModel
from kinoclip.methods.text4vis.modeling_text4vis import SpaceTimeEmbeddings, TokenConvLayer, TokenShiftLayer
from kinoclip.methods.text4vis.resnet import AttentionPooling, Bottleneck, ResNetVisionModel

EXACT = {"atol": 1e-6, "rtol": 1e-5}
RESNET = {"hidden_size": 256, "num_hidden_layers": 0, "num_attention_heads": 4, "image_size": 32, "patch_size": 32}


@pytest.fixture
def build(make):
    return partial(make, Text4VisModel, temporal_head="none")


@pytest.fixture
def resnet(build):
    return partial(build, resnet_layers=[1, 1, 1, 1], vision_config=RESNET)


# of frame 3: a shift before each of 2 layers reaches 2 frames; two shifts of the class token around each attention give
# it one step more, since what the last shift before the end moves is still read
REACH = {"none": 1, "tsm": 3, "token_shift": 4, "token_t1d": 4}


@pytest.mark.parametrize("shift", REACH)
def test_temporal_shift_lets_frames_see_their_neighbors(build, moved_by, shift):
    assert sum(moved_by(build(temporal_shift=shift))) == REACH[shift]


# three frames of one video with eight channels; frame t holds 10 t + channel
TOKENS = torch.tensor([[10.0 * t + c for c in range(8)] for t in range(3)])
MIXED = torch.tensor(
    [
        [10, 11, 0, 0, 4, 5, 6, 7],  # a quarter from the next frame, a quarter from before the video
        [20, 21, 2, 3, 14, 15, 16, 17],
        [0, 0, 12, 13, 24, 25, 26, 27],
    ]
).float()


@pytest.fixture
def vision_config():
    return CLIPVisionConfig(hidden_size=8, intermediate_size=8, num_attention_heads=1, num_hidden_layers=1)


def test_token_shift_moves_a_quarter_of_the_channels_in_either_direction(vision_config):
    assert torch.equal(TokenShiftLayer(vision_config).mix_tokens(TOKENS, num_frames=3), MIXED)


def test_token_shift_mixes_before_attention_and_again_before_the_mlp(vision_config):
    torch.manual_seed(0)
    layer, tokens = TokenShiftLayer(vision_config), torch.randn(3, 5, 8)

    def mix(hidden):
        return torch.cat([layer.mix_tokens(hidden[:, 0], 3)[:, None], hidden[:, 1:]], dim=1)

    with torch.no_grad():
        mixed = mix(tokens)
        attended = mix(mixed + layer.self_attn(layer.layer_norm1(mixed), None)[0])
        expected = attended + layer.mlp(layer.layer_norm2(attended))
        torch.testing.assert_close(layer(tokens, None, num_frames=3), expected, **EXACT)


def test_a_convolution_over_tokens_starts_as_the_token_shift(build, pixels):
    layer = build(temporal_shift="token_t1d").vision_model.encoder.layers[0]
    assert isinstance(layer, TokenConvLayer)
    tokens = torch.randn(6, 64)
    with torch.no_grad():
        expected = TokenShiftLayer.mix_tokens(layer, tokens, num_frames=3)
        torch.testing.assert_close(layer.mix_tokens(tokens, num_frames=3), expected, **EXACT)


@pytest.fixture
def embeddings():
    config = CLIPVisionConfig(hidden_size=1, num_attention_heads=1, patch_size=1, image_size=2, num_channels=1)
    module = SpaceTimeEmbeddings(config, num_frames=3)
    values = {
        "class_embedding": [1000.0],
        "patch_embedding.weight": [[[[1.0]]]],
        "position_embedding.weight": [[500.0], [10], [20], [30], [40]],
        "time_embedding.weight": [[0.1], [0.2], [0.3]],
    }
    module.load_state_dict({name: torch.tensor(value) for name, value in values.items()}, strict=False)
    return module


def test_joint_tokens_are_patch_by_patch_with_the_frames_of_each_one_behind_another(embeddings):
    # pixel of frame t: 1000 t; patches 10, 20, 30, 40 and time 0.1, 0.2, 0.3 are added; first the class token
    frames = torch.tensor([0.0, 1000, 2000])[None, :, None, None, None].expand(1, 3, 1, 2, 2)
    expected = [1500, 10.1, 1010.2, 2010.3, 20.1, 1020.2, 2020.3, 30.1, 1030.2, 2030.3, 40.1, 1040.2, 2040.3]
    with torch.no_grad():
        torch.testing.assert_close(embeddings(frames)[0, :, 0], torch.tensor(expected))


def test_more_frames_than_time_embeddings_have_embeddings_between_them(embeddings):
    frames = torch.zeros(1, 5, 1, 2, 2)
    with torch.no_grad():
        first_patch = embeddings(frames)[0, 1:6, 0]
    torch.testing.assert_close(first_patch, torch.tensor([10.1, 10.15, 10.2, 10.25, 10.3]))


def test_joint_space_time_gives_one_vector_that_sees_every_frame(build, moved_by):
    model = build(joint_space_time=True)
    assert [moved_by(model, frame) for frame in range(4)] == [[True]] * 4


def test_time_embeddings_start_like_positions_of_the_official_code(build):
    weight = build(joint_space_time=True, num_frames=400).vision_model.embeddings.time_embedding.weight
    assert weight.shape == (400, 64)
    assert weight.std().item() == pytest.approx(64**-0.5, rel=0.05)


def test_attention_pooling_is_torch_attention_with_the_mean_as_query():
    torch.manual_seed(0)
    pooling = AttentionPooling(CLIPVisionConfig(hidden_size=128, num_attention_heads=2, image_size=96, patch_size=32))
    images = torch.randn(2, 128, 3, 3)
    tokens = images.flatten(2).permute(2, 0, 1)
    tokens = torch.cat([tokens.mean(0, keepdim=True), tokens]) + pooling.position_embedding.weight[:, None]
    parts = pooling.q_proj, pooling.k_proj, pooling.v_proj
    biases = torch.cat([part.bias for part in parts])
    weights = {f"{letter}_proj_weight": part.weight for letter, part in zip("qkv", parts, strict=True)}
    with torch.no_grad():
        expected, _ = multi_head_attention_forward(
            tokens[:1], tokens, tokens, 128, 2, None, biases, None, None, False, 0.0, torch.eye(128), torch.zeros(128),
            use_separate_proj_weight=True, **weights,
        )  # fmt: skip
        torch.testing.assert_close(pooling(images), expected[0], **EXACT)


@pytest.mark.parametrize("shift", ["none", "tsm"])
def test_a_resnet_shifts_what_its_blocks_read(resnet, moved_by, shift):
    model = resnet(temporal_shift=shift)
    for block in model.vision_model.modules():
        if isinstance(block, Bottleneck):
            nn.init.constant_(block.norm3.weight, 100.0)  # a new block is its residual path alone
    # 4 blocks reach 4 frames
    assert sum(moved_by(model)) == {"none": 1, "tsm": 4}[shift]


def test_a_deep_resnet_shifts_in_every_second_block():
    config = CLIPVisionConfig(**{**RESNET, "hidden_size": 64, "num_attention_heads": 1})
    with torch.device("meta"):
        tower = ResNetVisionModel(config, layers=[1, 2, 23, 3], shift=True)
    found = [[block.shift for block in stage] for stage in tower.stages]
    assert found == [[True], [True, False], [True, False] * 11 + [True], [True, False, True]]


def test_resnet_layers_are_the_blocks_of_each_stage(resnet):
    model = resnet(resnet_layers=[1, 2, 1, 3])
    stages = [[block for block in stage if isinstance(block, Bottleneck)] for stage in model.vision_model.stages]
    assert [len(stage) for stage in stages] == [1, 2, 1, 3]
    assert isinstance(stages[3][1].shortcut, nn.Identity)


def test_a_new_resnet_starts_every_block_as_its_residual_path(resnet):
    norms = [block.norm3 for stage in resnet().vision_model.stages for block in stage]
    assert not torch.cat([norm.weight for norm in norms]).any()


def test_frames_of_another_size_than_the_resnet_are_refused(resnet):
    with pytest.raises(ValueError, match=r"size \(64\*64\) doesn't match model \(32\*32\)"):
        resnet().encode_frames(torch.zeros(1, 2, 3, 64, 64))


def test_a_resnet_is_saved_and_loaded_with_its_statistics(resnet, pixels, tmp_path):
    model = resnet(temporal_shift="tsm").train()
    model.encode_frames(pixels)  # its batch norms have now seen something
    model.eval().save_pretrained(tmp_path)
    loaded, report = Text4VisModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), atol=0, rtol=0)
    with torch.no_grad():
        found, expected = loaded.eval().encode_frames(pixels).embeds, model.encode_frames(pixels).embeds
    # the same weights lie elsewhere in memory, and convolutions may add in another order there
    torch.testing.assert_close(found, expected, **EXACT)


def test_without_a_head_the_video_is_the_mean_of_its_frames(build, pixels):
    model = build()
    with torch.no_grad():
        frames = model.encode_frames(pixels)
    assert torch.equal(model.aggregate(frames, None), frames.embeds.mean(1))
    assert model.saliency(frames, None) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal_layers": 0}, 'temporal_layers must be at least 1, got 0. For no layers set temporal_head="none"'),
        ({"joint_space_time": True}, "joint_space_time .* needs temporal_head='none', got 'transformer'"),
        ({"joint_space_time": True, "temporal_head": "none", "temporal_shift": "tsm"}, "needs temporal_shift='none'"),
        ({"resnet_layers": [3, 4, 6]}, r"resnet_layers must be four numbers .* got \[3, 4, 6\]"),
        ({"resnet_layers": [3, 4, 6, 0]}, "must be four numbers"),
        ({"resnet_layers": [3, 4, 6, 3], "temporal_shift": "token_shift"}, "with a ResNet, which has no class token"),
        ({"resnet_layers": [3, 4, 6, 3]}, "got that of a ViT"),
    ],
)
def test_fields_that_do_not_go_together_are_refused(changes, message):
    with pytest.raises(Exception, match=message):
        Text4VisConfig(**changes)
