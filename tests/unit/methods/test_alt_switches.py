"""What each field of ALT's config changes."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from torch.nn.functional import linear
from transformers import AutoModel

from kinoclip import AltConfig, AltModel
from kinoclip.methods.alt.modeling_alt import Attention, DecoderLayer

EXACT = {"atol": 1e-6, "rtol": 1e-5}


# what is there: entities to align with, a projection of regions, weights of the tokens
PARTS = [
    ({}, (True, True, True)),
    ({"align_regions": False}, (True, False, False)),
    ({"region_projection": "shared"}, (True, False, True)),
    ({"token_reduction": "mean"}, (True, True, False)),
    ({"align": False}, (False, False, False)),
    ({"query_source": "learned"}, (False, False, False)),
    ({"corpus_categories": []}, (False, False, False)),
]


@pytest.mark.parametrize(("changes", "parts"), PARTS)
def test_align_and_its_parts_decide_which_modules_there_are(build_alt, changes, parts):
    names = set(build_alt(**changes).state_dict())
    found = tuple(
        name in names for name in ("corpus", "region_projection.projection.weight", "token_reduction.weights.weight")
    )
    assert found == parts
    assert ("queries" in names) != parts[0]


@pytest.mark.parametrize(("merge_r", "left"), [(0, 17), (2, 13), ([4], 13), ([1, 7], 9), ([2, -1.0], 13)])
def test_merge_r_decides_how_many_tokens_are_left(build_alt, alt_pixels, merge_r, left):
    model = build_alt(merge_r=merge_r)
    assert model.encode_frames(alt_pixels).tokens.shape[2] == left - 1
    assert model.token_reduction.weights.in_features == left


def test_without_proportional_attention_sizes_do_not_count(run_alt):
    assert not torch.equal(run_alt().frames.embeds, run_alt(prop_attn=False).frames.embeds)


CLIP = {"vision_model", "visual_projection"}
ADDED = {"region_projection", "token_reduction", "decoder", "head"}
TRAINED = [
    ({}, CLIP | ADDED),
    ({"train_encoder": "frozen"}, ADDED),
    ({"train_encoder": "S"}, ADDED | {"vision_model"}),
    ({"train_logit_scale": True}, CLIP | ADDED | {"logit_scale"}),
    ({"query_source": "learned"}, CLIP | {"queries", "decoder", "head"}),
    ({"linear_probe": True}, {"classifier"}),
]


@pytest.mark.parametrize(("changes", "trained"), TRAINED)
def test_train_encoder_and_linear_probe_decide_what_is_trained(build_alt, changes, trained):
    model = build_alt(**changes)
    model.freeze()
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.requires_grad} == trained


def test_adapters_change_nothing_at_first(run_alt, build_alt, tmp_path):
    plain = build_alt()
    plain.save_pretrained(tmp_path)
    adapted = AltModel.from_pretrained(tmp_path, train_encoder="STM").eval()
    assert torch.equal(run_alt(adapted).logits, run_alt(plain).logits)


def _wake(model, name):
    for module in model.modules():
        if isinstance(module, nn.ModuleDict) and name in module:
            nn.init.normal_(module[name].up.weight)
    return model


@pytest.mark.parametrize("name", ["spatial", "mlp", "temporal"])
def test_each_adapter_changes_the_frames(build_alt, run_alt, name):
    before = run_alt(train_encoder="STM").frames.embeds
    assert not torch.allclose(run_alt(_wake(build_alt(train_encoder="STM"), name)).frames.embeds, before, atol=1e-3)


def test_temporal_adapters_alone_let_frames_know_each_other(build_alt, alt_pixels):
    other = alt_pixels.clone()
    other[:, 3] = 0
    for name, knows in (("spatial", False), ("temporal", True)):
        model = _wake(build_alt(train_encoder="STM"), name)
        with torch.no_grad():
            first = [model.encode_frames(video).embeds[:, 0] for video in (alt_pixels, other)]
        assert torch.allclose(*first, **EXACT) != knows


def test_a_linear_probe_classifies_the_video_by_itself(build_alt, alt_pixels):
    model = build_alt(linear_probe=True, id2label={0: "a", 1: "b", 2: "c", 3: "d"})
    with torch.no_grad():
        output = model(alt_pixels)
    weight, bias = model.classifier.weight, model.classifier.bias
    torch.testing.assert_close(output.logits, linear(output.video_embeds, weight, bias))
    assert output.logits.shape == (2, 4)
    assert not model.config.reads_text


def test_a_linear_probe_starts_from_a_trained_model_and_keeps_its_videos(build_alt, run_alt, alt_pixels, tmp_path):
    trained = build_alt()
    trained.save_pretrained(tmp_path)
    probe = AltModel.from_pretrained(tmp_path, linear_probe=True, num_labels=5).train()
    # without noise, though it trains
    torch.testing.assert_close(probe(alt_pixels).video_embeds, run_alt(trained).video_embeds, **EXACT)
    probe.freeze()
    probe(alt_pixels, labels=torch.tensor([0, 4])).loss.backward()
    assert [name for name, p in probe.named_parameters() if p.grad is not None] == [
        "classifier.weight",
        "classifier.bias",
    ]
    probe.save_pretrained(tmp_path / "probe")
    loaded = AutoModel.from_pretrained(tmp_path / "probe").eval()
    torch.testing.assert_close(loaded(alt_pixels).logits, probe.eval()(alt_pixels).logits, **EXACT)


def test_normalize_corpus_brings_entities_to_unit_length(build_alt):
    torch.testing.assert_close(build_alt().corpus.norm(dim=-1), torch.ones(6))
    assert (build_alt(normalize_corpus=False).corpus.norm(dim=-1) > 2).all()


def test_the_temperature_of_the_alignment_is_tau_over_the_scale(run_alt):
    soft = {"hard_assignment": False}
    expected = run_alt(**soft, alignment_logit_scale=10.0).logits
    assert not torch.allclose(run_alt(**soft).logits, expected)
    torch.testing.assert_close(run_alt(**soft, alignment_logit_scale=20.0, alignment_tau=2.0).logits, expected)


def test_hard_assignment_is_what_a_low_temperature_leads_to(run_alt):
    hard, soft = run_alt(), run_alt(hard_assignment=False, alignment_tau=1e-4)
    torch.testing.assert_close(hard.logits, soft.logits, atol=1e-4, rtol=1e-4)


def test_alignment_noise_is_drawn_in_training_only(build_alt, alt_pixels, text):
    for noise in (True, False):
        model = build_alt(alignment_noise=noise, alignment_logit_scale=1.0).train()
        logits = [model(alt_pixels, text_features=text).logits for _ in range(2)]
        assert torch.equal(*logits) != noise


def test_a_learned_token_reduction_starts_as_the_mean(build_alt):
    entities = torch.randn(1, 2, 13, 32)
    reduction = build_alt().token_reduction
    torch.testing.assert_close(reduction._reduce(entities, torch.ones(1, 2, 13)), entities.mean(2), **EXACT)


def test_a_weighted_mean_counts_patches(build_alt, alt_pixels):
    model = build_alt(token_reduction="weighted_mean")
    entities, sizes = torch.eye(2)[None, None], torch.tensor([[[1.0, 3.0]]])
    assert model.token_reduction._reduce(entities, sizes).tolist() == [[[0.25, 0.75]]]


def test_align_mlp_first_transforms_each_token(build_alt):
    model = build_alt(align_mlp_first=True, token_reduction="mean")
    entities = torch.randn(1, 2, 5, 32)
    expected = model.token_reduction.mlp(entities).mean(2)
    torch.testing.assert_close(model.token_reduction(entities, torch.ones(1, 2, 5)), expected)


def test_ratios_and_kernel_are_the_sizes_of_their_layers(build_alt):
    model = build_alt(mlp_ratio=2, align_mlp_ratio=3, head_mlp_ratio=5, conv_kernel=5, conv_groups="dense")
    layer = model.decoder.layers[0]
    assert layer.cross_mlp.fc1.out_features == 64
    assert model.token_reduction.mlp.fc1.out_features == 96
    assert model.head.fc1.out_features == 160
    assert layer.conv.weight.shape == (32, 32, 5)
    assert build_alt().decoder.layers[0].conv.weight.shape == (32, 1, 3)


def test_decoder_layers_are_four_and_six_on_towers_of_24_layers(configure_alt, tiny_fields):
    assert configure_alt().decoder_layers == 4
    assert configure_alt(decoder_layers=2).decoder_layers == 2
    deep = {**tiny_fields["vision_config"], "num_hidden_layers": 24}
    assert AltConfig(**{**tiny_fields, "vision_config": deep, "merge_r": 0}).decoder_layers == 6


PARTS_OF_A_LAYER = [
    ({}, {"conv", "conv_mlp", "self_norm", "self_attn", "self_mlp"}),
    ({"decoder_conv": False}, {"self_norm", "self_attn", "self_mlp"}),
    ({"decoder_self_attention": False}, {"conv", "conv_mlp"}),
    ({"conv_ffn": False}, {"conv", "self_norm", "self_attn", "self_mlp"}),
    ({"decoder_ffn_after_self": False}, {"conv", "conv_mlp", "self_norm", "self_attn"}),
]


@pytest.mark.parametrize(("changes", "parts"), PARTS_OF_A_LAYER)
def test_a_part_of_the_decoder_that_is_off_has_no_weights(build_alt, changes, parts):
    always = {"query_norm", "frame_norm", "cross_attn", "cross_mlp"}
    names = {name.partition(".")[0] for name, _ in build_alt(**changes).decoder.layers[0].named_parameters()}
    assert names == always | parts


def test_attention_is_that_of_torch(configure_alt):
    config = configure_alt()
    torch.manual_seed(0)
    attention, expected = Attention(config), nn.MultiheadAttention(32, 1, batch_first=True)
    expected.in_proj_weight.data = torch.cat(
        [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
    )
    expected.in_proj_bias.data = torch.cat([attention.q_proj.bias, attention.k_proj.bias, attention.v_proj.bias])
    expected.out_proj.load_state_dict(attention.out_proj.state_dict())
    queries, context = torch.randn(2, 3, 32), torch.randn(2, 5, 32)
    with torch.no_grad():
        attended, weights = expected(queries, context, context)
        torch.testing.assert_close(attention(queries, context, weigh=True), (attended, weights[:, None]), **EXACT)
        torch.testing.assert_close(attention(queries, context)[0], attended, **EXACT)


@torch.no_grad()
def test_a_layer_of_the_decoder_is_equation_8(configure_alt):
    torch.manual_seed(0)
    layer = DecoderLayer(configure_alt())
    queries, frames = torch.randn(2, 4, 32), torch.randn(2, 4, 32)
    padded = nn.functional.pad(frames, (0, 0, 1, 1))
    windows = torch.stack([padded[:, i : i + 4] for i in range(3)], -1)  # (B, T, E, 3)
    mixed = frames + (windows * layer.conv.weight[:, 0]).sum(-1) + layer.conv.bias
    mixed = mixed + layer.conv_mlp.fc2(layer.conv_mlp.activation(layer.conv_mlp.fc1(layer.conv_mlp.norm(mixed))))
    normed = layer.self_norm(queries)
    expected = layer.self_mlp(queries + layer.self_attn(normed, normed)[0])
    expected = expected + layer.cross_attn(layer.query_norm(expected), layer.frame_norm(mixed))[0]
    torch.testing.assert_close(layer(queries, frames)[0], layer.cross_mlp(expected), **EXACT)


def test_each_block_reads_the_frames_of_the_encoder_and_not_of_the_block_before(build_alt):
    model, seen = build_alt(), []
    for layer in model.decoder.layers:
        layer.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[1]))
    frames = torch.randn(1, 4, 32)
    model.decoder(torch.randn(1, 4, 32), frames)
    assert len(seen) == 4
    assert all(torch.equal(given, frames) for given in seen)


def test_a_position_embedding_tells_the_order_of_frames(build_alt):
    queries, frames = torch.randn(1, 4, 32), torch.randn(1, 4, 32)
    for position, differs in ((False, False), (True, True)):
        decoder = build_alt(temporal_position_embedding=position, decoder_conv=False).decoder
        with torch.no_grad():
            pooled = [decoder(queries[:, order], frames[:, order]).mean(1) for order in ([0, 1, 2, 3], [3, 1, 0, 2])]
        assert torch.allclose(*pooled, atol=1e-5) != differs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"merge_r": -1}, "merge_r must be .*, got -1"),
        ({"merge_r": [1, 2, 3]}, "a list of at most 2"),
        ({"corpus_categories": ["bodies"]}, "must be among body, object, scene, motion, got 'bodies'"),
        ({"corpus": ["a", "b"]}, "must hold corpus_size=5500 entities, got 2"),
        ({"alignment_tau": 0}, "alignment_tau must be above 0"),
        ({"corpus_size": 0}, "corpus_size must be at least 1"),
        ({"conv_kernel": 4}, "conv_kernel must be odd"),
        ({"label_smoothing": 1}, "label_smoothing must be .* below 1"),
        ({"reduced_tokens": 20}, "leaves 13 tokens .* weights for 20"),
        ({"train_encoder": "all"}, "train_encoder"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(configure_alt, changes, message):
    with pytest.raises(StrictDataclassError, match=message):
        configure_alt(**changes)
