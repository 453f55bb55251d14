"""Attention maps against the weights that the attention itself gives when it keeps them."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from kinoclip import AltConfig, AltModel, DstprConfig, DstprModel, Text4VisConfig, Text4VisModel
from kinoclip.components.attention_maps import class_attention, map_attention, spread_weights
from kinoclip.components.token_merging import encode_images, merge_tokens_in

VISION = {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
# the same products, summed in another order
CLOSE = {"atol": 1e-6, "rtol": 1e-5}


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def build():
    """A vision tower that keeps its attention weights, with weights large enough to look at some patches more."""

    def build() -> CLIPVisionModel:
        torch.manual_seed(0)
        tower = CLIPVisionModel(CLIPVisionConfig(**VISION, attn_implementation="eager")).eval()
        for parameter in tower.parameters():
            torch.nn.init.normal_(parameter, std=1.0)
        return tower

    return build


def watch(module) -> list:
    """Keep the attention weights that a module gives."""
    kept = []
    module.register_forward_hook(lambda module, given, result: kept.append(result[1]))
    return kept


@torch.no_grad()
def test_attention_is_the_class_token_row_of_the_last_layer(build, pixels):
    tower = build()
    found = map_attention(tower, lambda: tower(pixels))
    row = tower(pixels, output_attentions=True).attentions[-1].mean(1)[:, 0, 1:]
    torch.testing.assert_close(found, row / row.sum(-1, keepdim=True), **CLOSE)
    assert found.max() > 2 / 16  # not just the same everywhere


@torch.no_grad()
def test_attention_does_not_depend_on_its_implementation(build, pixels):
    tower = build()
    eager = map_attention(tower, lambda: tower(pixels))
    tower.set_attn_implementation("sdpa")
    torch.testing.assert_close(map_attention(tower, lambda: tower(pixels)), eager, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("prop_attn", [True, False])
def test_merged_tokens_share_their_weight_among_their_patches(build, pixels, prop_attn):
    tower = build()
    state = tower.state_dict()
    merge_tokens_in(tower, 3, prop_attn)
    tower.load_state_dict(state)
    tower.eval()
    entering = []
    tower.encoder.layers[-1].register_forward_pre_hook(lambda module, given: entering.append(given[2]))
    weights = watch(tower.encoder.layers[-1].self_attn)
    found = map_attention(tower, lambda: encode_images(tower, pixels))
    row, positions = weights[0].mean(1)[0, 0], entering[0][0]
    assert row.shape == (11,)  # 17 tokens less 3 in each of the two layers before
    expected = torch.stack([row[token] / (positions == token).sum() for token in positions[1:]])
    torch.testing.assert_close(found[0], expected / expected.sum(), **CLOSE)


@torch.no_grad()
def test_what_goes_to_prompts_is_left_out(tiny_fields):
    fields = {name: value for name, value in tiny_fields.items() if name != "temporal_layers"}
    torch.manual_seed(0)
    model = DstprModel(DstprConfig(**fields, attn_implementation="eager")).eval()
    videos = torch.randn(1, 4, 3, 32, 32)
    weights = watch(model.vision_model.encoder.layers[-1].self_attn)
    frames = model.encode_frames(videos)
    text = model.encode_text(torch.tensor([[[5, 6, 7]]]))
    attention = model.explain(frames, text, videos).attention
    row = weights[0].mean(1)[:, 0]
    assert row.shape == (4, 5 + 1 + 8 + 4)  # class token and four patches; class, global and interchange prompts
    expected = row[:, 1:5] / row[:, 1:5].sum(-1, keepdim=True)
    torch.testing.assert_close(attention[0].flatten(1), expected, **CLOSE)


@torch.no_grad()
def test_adapted_layers_are_seen_attending_over_space_not_time(tiny_fields):
    fields = {name: value for name, value in tiny_fields.items() if name != "temporal_layers"}
    torch.manual_seed(0)
    config = AltConfig(**fields, merge_r=0, train_encoder="STM", query_source="learned", attn_implementation="eager")
    model = AltModel(config).eval()
    videos = torch.randn(1, 4, 3, 32, 32)
    weights = watch(model.vision_model.encoder.layers[-1].self_attn)
    attention = model.explain(
        model.encode_frames(videos), model.encode_text(torch.tensor([[[5, 6]]])), videos
    ).attention
    row = weights[1].mean(1)[:, 0, 1:]  # the second of the two calls of a layer
    torch.testing.assert_close(attention[0].flatten(1), row / row.sum(-1, keepdim=True), **CLOSE)


@torch.no_grad()
def test_joint_space_time_is_split_into_its_frames(tiny_fields):
    fields = {name: value for name, value in tiny_fields.items() if name != "temporal_layers"}
    torch.manual_seed(0)
    config = Text4VisConfig(**fields, joint_space_time=True, temporal_head="none", attn_implementation="eager")
    model = Text4VisModel(config).eval()
    videos = torch.randn(2, 4, 3, 32, 32)
    weights = watch(model.vision_model.encoder.layers[-1].self_attn)
    attention = model.explain(
        model.encode_frames(videos), model.encode_text(torch.tensor([[[5, 6]]])), videos
    ).attention
    row = weights[0].mean(1)[1, 0, 1:]
    # the frames of a patch stand one behind another: patch 3 of frame 2 is number 3 * 4 + 2
    frame = row[[2, 6, 10, 14]]
    torch.testing.assert_close(attention[1, 2].flatten(), frame / frame.sum(), **CLOSE)


def test_attention_is_the_mean_over_heads():
    # one head looks at the last key alone, the other at the first two alike
    queries = torch.tensor([[[100.0, 1.0], [0.0, 0.0]]])
    keys = torch.tensor([[[0.0, 0.0], [0.0, 0.0], [1.0, -1e9]]])
    found = class_attention(queries, keys, num_heads=2, scale=1.0)
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.25, 0.5]]))


def test_a_merged_weight_is_spread_evenly():
    # the second token has three of the four patches
    weights, sizes = torch.tensor([[0.4, 0.6]]), torch.tensor([[[1.0], [3.0]]])
    found = spread_weights(weights, sizes, torch.tensor([[0, 1, 1, 1]]))
    torch.testing.assert_close(found, torch.tensor([[0.4, 0.2, 0.2, 0.2]]))


def test_a_tower_without_attention_has_no_map():
    assert map_attention(torch.nn.Linear(1, 1), lambda: None) is None


@torch.no_grad()
def test_a_run_that_fails_leaves_no_hook(build):
    tower = build()
    with pytest.raises(ValueError, match="Input image size"):
        map_attention(tower, lambda: tower(torch.zeros(1, 3, 16, 16)))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tower.modules())
