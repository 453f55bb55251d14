import copy

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel

from kinoclip.modeling.layers.temporal_shift import TemporalShiftLayer, replace_layers
from kinoclip.modeling.layers.token_merging import (
    count_tokens,
    encode_images,
    follow_tokens,
    merge_schedule,
    merge_tokens,
    merge_tokens_in,
    plan_merge,
)

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
PIXELS = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["eager", "sdpa"])
def tower(request):
    """CLIP's vision tower with 16 patches."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(**SIZES, image_size=64, patch_size=16, attn_implementation=request.param)
    model = CLIPVisionModel(config).eval()
    for layer in model.encoder.layers:  # random layers of CLIP hardly tell patches apart
        torch.nn.init.normal_(layer.self_attn.k_proj.weight, std=0.5)
    return model


def merging(tower, merge_r, prop_attn=True):
    """The same tower, with merging."""
    merged = copy.deepcopy(tower)
    merge_tokens_in(merged, merge_r, prop_attn)
    report = merged.load_state_dict(tower.state_dict())
    assert not report.missing_keys
    return merged.eval()


@torch.no_grad()
def encode(tower, **options):
    return encode_images(tower, PIXELS, **options)


def test_without_merging_it_is_clip_to_the_bit(tower):
    expected = tower(PIXELS)
    output = encode(merging(tower, [0, 0, 0]))
    assert torch.equal(output.last_hidden_state, expected.last_hidden_state)
    assert torch.equal(output.pooler_output, expected.pooler_output)
    assert output.sizes is None
    assert output.regions is None


def test_each_layer_has_fewer_tokens_and_sizes_count_all_patches(tower):
    output = encode(merging(tower, 3))
    assert output.last_hidden_state.shape == (2, 17 - 3 * 3, 32)
    assert output.sizes.sum(1).flatten().tolist() == [17, 17]
    assert output.sizes[:, 0].flatten().tolist() == [1, 1]  # the class token's


def test_regions_say_in_which_token_each_patch_ended(tower):
    output = encode(merging(tower, 3))
    assert output.regions.shape == (2, 16)
    counts = torch.stack([regions.bincount(minlength=7) for regions in output.regions])
    assert torch.equal(counts, output.sizes[:, 1:, 0].long())


def test_a_region_holds_patches_that_look_alike(tower):
    model = merging(tower, [7, 0, 0])
    torch.nn.init.zeros_(model.embeddings.position_embedding.weight)
    halves = torch.zeros(1, 3, 64, 64)
    halves[..., 32:] = 1  # the last two of four columns of patches
    with torch.no_grad():
        regions = encode_images(model, halves).regions[0].view(4, 4)
    left, right = set(regions[:, :2].flatten().tolist()), set(regions[:, 2:].flatten().tolist())
    assert len(left | right) == 9  # 16 patches, 7 of which went
    assert not left & right


def test_proportional_attention_changes_what_follows_a_merge_only(tower):
    one, other = (encode(merging(tower, [3, 0, 0], prop)) for prop in (True, False))
    assert torch.equal(one.regions, other.regions)
    assert not torch.allclose(one.last_hidden_state, other.last_hidden_state, atol=1e-4)
    one, other = (encode(merging(tower, [0, 0, 3], prop)) for prop in (True, False))
    assert torch.equal(one.last_hidden_state, other.last_hidden_state)


def test_a_token_of_size_two_counts_as_two_equal_tokens(tower):
    layer = merging(tower, 3).encoder.layers[0]
    tokens = torch.randn(1, 4, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, _, _ = layer(tokens[:, [0, 1, 1, 2, 3]], None, None)
        found, _, _ = layer(tokens, torch.tensor([1.0, 2, 1, 1])[None, :, None], None)
    torch.testing.assert_close(found, expected[:, [0, 1, 3, 4]], atol=1e-5, rtol=1e-5)


def test_an_attention_that_takes_no_bias_is_refused(tower):
    model = merging(tower, 3)
    model.encoder.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ValueError, match=r"one of eager, sdpa to weigh merged tokens.*or set prop_attn=False"):
        encode(model)


def test_sizes_stay_exact_in_half_precision(tower):
    output = encode_images(merging(tower, 3).bfloat16(), PIXELS.bfloat16())
    assert output.last_hidden_state.dtype == torch.bfloat16
    assert output.sizes.dtype == torch.float32
    assert output.sizes.sum(1).flatten().tolist() == [17, 17]


def test_tokens_that_nothing_was_added_to_keep_every_bit():
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, 9, 4, generator=generator)
    sizes = torch.tensor([1.0, 3, 2, 1, 5, 1, 7, 1, 2])[None, :, None]
    plan = plan_merge(tokens, 2)
    merged, after = merge_tokens(tokens, sizes, plan)
    positions, counts = follow_tokens(plan), torch.zeros(7).scatter_add(0, follow_tokens(plan)[0], torch.ones(9))
    alone = [i for i in range(9) if counts[positions[0, i]] == 1]
    assert len(alone) >= 5
    assert torch.equal(merged[0, positions[0, alone]], tokens[0, alone])
    assert torch.equal(after[0, positions[0, alone]], sizes[0, alone])


def test_the_class_token_neither_goes_nor_takes_in_others():
    metric = torch.zeros(1, 5, 2)
    metric[..., 0] = 1  # all are the same, so that all would merge with the class token
    plan = plan_merge(metric, 2)
    assert plan.kept.tolist() == [[0]]
    assert sorted(plan.sources[0].tolist()) == [1, 2]


def test_at_most_half_of_the_tokens_go():
    assert count_tokens(17, [50]) == 9  # 16 patches, 8 of which go
    assert count_tokens(197, [16] * 12) == 11  # layer 12 has 21 tokens, so that 10 go, and not 16
    assert count_tokens(197, [8] * 12) == 101
    assert count_tokens(2, [1]) == 2


@pytest.mark.parametrize("merge_r", [-1, [8, -1], [1, 2, 3, 4], [8, 1.5], [0.5, 1, 2], [8.0, 1, 1]], ids=str)
def test_a_schedule_that_makes_no_sense_is_refused(merge_r):
    with pytest.raises(ValueError, match=r"merge_r must be .*a list of at most 3"):
        merge_schedule(merge_r, 3)


def test_layers_of_another_kind_are_refused(tower):
    replace_layers(tower, TemporalShiftLayer)
    with pytest.raises(ValueError, match="cannot be combined with TemporalShiftLayer"):
        merge_tokens_in(tower, 3)


def test_layers_that_are_replaced_afterwards_are_refused(tower):
    model = merging(tower, 3)
    replace_layers(model, TemporalShiftLayer)
    with pytest.raises(ValueError, match="cannot be combined with TemporalShiftLayer"):
        encode(model)
