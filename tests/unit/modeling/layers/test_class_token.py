"""What the last layer leaves out does not change the class token, its gradients, or anything that is read."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from kinoclip import ActionClipModel, AltModel, BikeModel, DstprModel
from kinoclip.modeling.layers.class_token import LastLayer, replace_last_layer
from kinoclip.modeling.layers.token_merging import MergingLayer, encode_images, merge_tokens_in

CLOSE = {"atol": 1e-6, "rtol": 1e-5}  # the same products, in a call of another size
VISION = CLIPVisionConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8
)


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["eager", "sdpa"])
def towers(request):
    """CLIP's tower and ours, with the same weights."""
    torch.manual_seed(0)
    theirs, ours = (CLIPVisionModel(VISION) for _ in range(2))
    replace_last_layer(ours)
    for tower in (theirs, ours):
        tower.set_attn_implementation(request.param)
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def test_all_tokens_are_those_of_clip(towers, pixels):
    theirs, ours = (tower(pixels) for tower in towers)
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state, **CLOSE)
    torch.testing.assert_close(ours.pooler_output, theirs.pooler_output, **CLOSE)


def test_the_class_token_alone_is_that_of_clip_and_so_are_its_gradients(towers, pixels):
    theirs, ours = towers
    whole, alone = theirs(pixels), encode_images(ours, pixels, class_token_only=True)
    assert alone.last_hidden_state.shape == (2, 1, 32)
    torch.testing.assert_close(alone.pooler_output, whole.pooler_output, **CLOSE)
    for output in (whole, alone):
        output.pooler_output.square().sum().backward()
    gradients = [{name: p.grad for name, p in tower.named_parameters()} for tower in (theirs, ours)]
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5, rtol=1e-4)


def test_other_tokens_pass_neither_query_nor_mlp(towers, pixels):
    _, ours = towers
    lengths, last = {}, ours.encoder.layers[-1]
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1"):
        last.get_submodule(name).register_forward_hook(
            lambda module, given, out, name=name: lengths.update({name: out.shape[1]})
        )
    encode_images(ours, pixels, class_token_only=True)
    assert lengths == {
        **{f"self_attn.{name}_proj": length for name, length in [("q", 1), ("k", 17), ("v", 17), ("out", 1)]},
        "mlp.fc1": 1,
    }
    last.skips_unread = False
    encode_images(ours, pixels, class_token_only=True)
    assert set(lengths.values()) == {17}


@torch.no_grad()
@pytest.mark.parametrize("prop_attn", [True, False])
def test_merged_towers_give_the_same_class_token_and_regions(pixels, prop_attn):
    torch.manual_seed(0)
    tower = CLIPVisionModel(VISION)
    merge_tokens_in(tower, 3, prop_attn)
    tower.eval()
    whole, alone = (encode_images(tower, pixels, class_token_only=only) for only in (False, True))
    assert (whole.last_hidden_state.shape[1], alone.last_hidden_state.shape[1]) == (17 - 9, 1)
    torch.testing.assert_close(alone.pooler_output, whole.pooler_output, **CLOSE)
    assert torch.equal(alone.regions, whole.regions)
    assert torch.equal(alone.sizes, whole.sizes[:, :1])


MODELS = {
    "bike": (BikeModel, {}),
    "bike, merged": (BikeModel, {"merge_r": 1}),
    "actionclip": (ActionClipModel, {}),
    "dstpr": (DstprModel, {}),
    "alt": (AltModel, {"merge_r": 1, "query_source": "learned"}),
    "alt, adapted": (AltModel, {"merge_r": 0, "train_encoder": "STM", "query_source": "learned"}),
}


@torch.no_grad()
@pytest.mark.parametrize(("model_class", "fields"), MODELS.values(), ids=MODELS)
def test_methods_that_read_the_class_token_compute_no_other(model_class, fields, tiny_fields):
    torch.manual_seed(0)
    model = model_class(model_class.config_class(**tiny_fields | fields)).eval()
    videos, seen = torch.randn(2, 4, 3, 32, 32), []
    last = model.vision_model.encoder.layers[-1]
    assert isinstance(last, LastLayer | MergingLayer)
    last.mlp.register_forward_hook(lambda module, given, out: seen.append(out.shape))
    alone = model.encode_frames(videos).embeds
    last.skips_unread = False
    whole = model.encode_frames(videos).embeds
    assert seen[0][:2] == (8, 1)
    assert seen[1][1] > 1
    torch.testing.assert_close(alone, whole, **CLOSE)
