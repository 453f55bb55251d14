"""Attention maps against the weights that the attention itself returns."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from kinoclip import AltModel, DstprModel, Text4VisModel
from kinoclip.modeling.layers.attention_maps import divide_among_patches, map_attention
from kinoclip.modeling.layers.token_merging import encode_images, merge_tokens_in

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
CLOSE = {"atol": 1e-6, "rtol": 1e-5}  # the same products, summed in another order
PIXELS = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tower():
    """A vision tower with weights large enough to attend to some patches more."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(**SIZES, image_size=32, patch_size=8, attn_implementation="eager")
    tower = CLIPVisionModel(config).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=1.0)
    return tower


def record_weights(module) -> list:
    kept = []
    module.register_forward_hook(lambda module, given, result: kept.append(result[1]))
    return kept


@torch.no_grad()
def test_attention_is_the_class_token_row_of_the_last_layer_in_every_implementation(tower):
    row = tower(PIXELS, output_attentions=True).attentions[-1].mean(1)[:, 0, 1:]
    for implementation in ("eager", "sdpa"):
        tower.set_attn_implementation(implementation)
        found = map_attention(tower, lambda: tower(PIXELS))
        torch.testing.assert_close(found, row / row.sum(-1, keepdim=True), **CLOSE)
    assert found.max() > 2 / 16  # not uniform


@torch.no_grad()
@pytest.mark.parametrize("prop_attn", [True, False])
def test_merged_tokens_divide_their_weight_among_their_patches(tower, prop_attn):
    state = tower.state_dict()
    merge_tokens_in(tower, 3, prop_attn)
    tower.load_state_dict(state)
    entering = []
    tower.eval().encoder.layers[-1].register_forward_pre_hook(lambda module, given: entering.append(given[2]))
    weights = record_weights(tower.encoder.layers[-1].self_attn)
    found = map_attention(tower, lambda: encode_images(tower, PIXELS))
    row, positions = weights[0].mean(1)[0, 0], entering[0][0]
    assert row.shape == (11,)  # 17 tokens less 3 in each of the two layers before
    expected = torch.stack([row[token] / (positions == token).sum() for token in positions[1:]])
    torch.testing.assert_close(found[0], expected / expected.sum(), **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize(
    ("model_class", "fields", "call", "pick"),
    [
        # keys: class token and four patches; class, eight global and four interchange prompts, which are left out
        (DstprModel, {}, 0, lambda row: row[4 + 2, 1:5]),
        # the second of the two calls of a layer is over space, the first over time
        (AltModel, {"merge_r": 0, "train_encoder": "STM", "query_source": "learned"}, 1, lambda row: row[4 + 2, 1:]),
        # the frames of a patch are in succession: patch 3 of frame 2 is number 3 * 4 + 2
        (
            Text4VisModel,
            {"joint_space_time": True, "temporal_head": "none"},
            0,
            lambda row: row[1, 1:][[2, 6, 10, 14]],
        ),
    ],
)
def test_recognizers_map_the_patches_of_each_frame(tiny_fields, model_class, fields, call, pick):
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**tiny_fields | fields)).eval()
    model.set_attn_implementation("eager")
    videos = torch.randn(2, 4, 3, 32, 32)
    text = model.encode_text(torch.tensor([[[5, 6, 7]]]))
    frames = model.encode_frames(videos)
    weights = record_weights(model.vision_model.encoder.layers[-1].self_attn)
    attention = model.explain(frames, text, videos).attention
    expected = pick(weights[call].mean(1)[:, 0])
    torch.testing.assert_close(attention[1, 2].flatten(), expected / expected.sum(), **CLOSE)


def test_a_merged_weight_is_divided_equally():
    # the second token has three of the four patches
    weights, sizes = torch.tensor([[0.4, 0.6]]), torch.tensor([[[1.0], [3.0]]])
    found = divide_among_patches(weights, sizes, torch.tensor([[0, 1, 1, 1]]))
    torch.testing.assert_close(found, torch.tensor([[0.4, 0.2, 0.2, 0.2]]))


def test_a_tower_without_attention_has_no_map():
    assert map_attention(torch.nn.Linear(1, 1), lambda: None) is None


@torch.no_grad()
def test_a_run_that_fails_leaves_no_hook_and_the_implementation_as_it_was(tower):
    tower.set_attn_implementation("sdpa")
    with pytest.raises(ValueError, match="Input image size"):
        map_attention(tower, lambda: tower(torch.zeros(1, 3, 16, 16)))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in tower.modules())
    assert tower.encoder.layers[-1].self_attn.config is tower.config
