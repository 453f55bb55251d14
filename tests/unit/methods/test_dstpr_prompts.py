"""DSTPR's prompts: what each kind tells the frames, how they are re-encoded, and what of it is trained."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn

from kinoclip import DstprConfig, DstprModel
from kinoclip.inference.profile import clip_fields
from kinoclip.methods.dstpr.prompt_kinds import PROMPT_KINDS, PromptKind
from kinoclip.methods.dstpr.prompts import LayerPrompts
from kinoclip.methods.dstpr.reparameterization import MIXERS, Mixer, Reparameterization

EXACT = {"atol": 1e-6, "rtol": 1e-5}
KINDS = {"class_prompts": False, "num_global_prompts": 0, "interchange": "none"}


@pytest.fixture
def build(make):
    return partial(make, DstprModel)


def _encode(model: DstprModel, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return model.encode_frames(pixels).embeds


@pytest.mark.parametrize(
    ("kinds", "moved"),
    [
        ({"num_global_prompts": 2}, [False, False, False, True]),
        ({"class_prompts": True}, [True, True, True, True]),
        ({"interchange": "shared"}, [True, True, True, True]),
        ({"interchange": "own"}, [False, False, False, True]),
    ],
)
def test_class_and_shared_interchange_prompts_tell_a_frame_of_the_others(build, moved_by, kinds, moved):
    assert moved_by(build(**{**KINDS, **kinds}, reparam="none")) == moved


@pytest.mark.parametrize(
    ("kinds", "count"),
    [({"class_prompts": True}, 1), ({"num_global_prompts": 3}, 3), ({"interchange": "shared"}, 4), ({}, 1 + 8 + 4)],
)
def test_a_layer_has_one_class_prompt_some_global_ones_and_one_for_each_frame(tiny_fields, kinds, count):
    config = DstprConfig(**tiny_fields, **({**KINDS, **kinds} if kinds else {}))
    with torch.no_grad():
        assert LayerPrompts(config)(torch.randn(2, 4, 64)).shape == (2, 4, count, 64)


@pytest.fixture
def exchange(tiny_fields):
    """Prompts of one layer whose projection changes nothing; slot j holds j + 1."""

    def exchange(interchange: str) -> LayerPrompts:
        prompts = LayerPrompts(DstprConfig(**tiny_fields, **{**KINDS, "interchange": interchange}))
        with torch.no_grad():
            prompts.class_projection.weight.copy_(torch.eye(64))
            prompts.class_projection.bias.zero_()
            prompts.interchange_prompts.weight.copy_(torch.arange(1.0, 5)[:, None].expand(4, 64))
        return prompts

    return exchange


# the token of frame t is 10 t; slot j of any frame adds j + 1
@pytest.mark.parametrize(("interchange", "of_frame_2"), [("shared", [1.0, 12, 23, 34]), ("own", [21.0, 22, 23, 24])])
def test_a_slot_holds_the_token_of_its_frame_or_of_the_frame_it_is_given_to(exchange, interchange, of_frame_2):
    class_tokens = torch.arange(0.0, 40, 10)[None, :, None].expand(1, 4, 64)
    with torch.no_grad():
        assert exchange(interchange)(class_tokens)[0, 2, :, 0].tolist() == of_frame_2


def test_only_the_layers_that_are_named_have_prompts(build, pixels):
    model = build(prompt_layers=[1], reparam="none", temporal_embedding=False)
    plain = build(temporal_prompts=False)
    plain.vision_model.load_state_dict(model.vision_model.state_dict())
    seen = []
    model.vision_model.encoder.layers[0].register_forward_hook(lambda _, given, out: seen.append((given[2], out)))
    plain.vision_model.encoder.layers[0].register_forward_hook(lambda _, given, out: seen.append((None, out)))
    _encode(model, pixels)
    _encode(plain, pixels)
    assert seen[0][0] is None
    assert torch.equal(seen[0][1], seen[1][1])
    assert list(model.prompts.layers) == ["1"]


def test_attention_computes_queries_of_the_tokens_only(build, pixels):
    lengths = {}
    model = build()
    attention = model.vision_model.encoder.layers[0].self_attn
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        module = attention.get_submodule(name)
        module.register_forward_pre_hook(lambda _, given, name=name: lengths.update({name: given[0].shape[1]}))
    _encode(model, pixels)
    # 1 class token and 4 patches; 1 class prompt, 8 global ones and 4 for the frames
    assert lengths == {"q_proj": 5, "k_proj": 18, "v_proj": 18, "out_proj": 5}


@pytest.mark.parametrize(("frames", "rows"), [(2, [0, 2]), (8, [0, 0, 1, 1, 2, 2, 3, 3]), (1, [0])])
def test_with_another_number_of_frames_each_takes_the_vector_of_the_nearest(build, frames, rows):
    prompts = build(interchange="none", reparam="none").prompts
    with torch.no_grad():
        prompts.time_embedding.weight.copy_(torch.arange(4.0)[:, None].expand(4, 64))
        assert prompts.add_time(torch.zeros(1, frames, 1, 64))[0, :, 0, 0].tolist() == rows


def test_slots_of_other_frames_than_trained_are_refused(build, pixels):
    with pytest.raises(ValueError, match=r"between 4 frames, but the video has 3\. Sample 4 frames"):
        build().encode_frames(pixels[:, :3])


@pytest.mark.parametrize("reparam", ["mlp", "lstm", "transformer", "r2plus1d", "c3d", "tada"])
def test_a_network_that_starts_at_zero_gives_the_bare_prompts(build, pixels, reparam):
    bare, network = build(reparam="none"), build(reparam=reparam)
    state = {name: t for name, t in network.state_dict().items() if "reparameterization" not in name}
    bare.load_state_dict(state)
    assert torch.equal(_encode(network, pixels), _encode(bare, pixels))


@pytest.mark.parametrize("change", [{"reparam_zero_init": False}, {"reparam_residual": False}])
def test_a_network_starts_elsewhere_where_it_is_told_to_or_replaces_the_prompts(build, change):
    up = build(**change).prompts.reparameterization["0"].up
    assert up.weight.abs().max() > 0


def test_the_residual_is_the_difference_between_adding_and_replacing(tiny_fields):
    prompts = torch.randn(1, 4, 13, 64)
    found = []
    for residual in (True, False):
        torch.manual_seed(0)
        network = Reparameterization(DstprConfig(**tiny_fields, reparam_residual=residual)).eval()
        with torch.no_grad():
            found.append(network(prompts))
    torch.testing.assert_close(found[0] - found[1], prompts, **EXACT)


def _reach(tiny_fields, **fields: Any) -> tuple[set[int], set[int]]:
    """Tell which frames, and which prompts of them, change when prompt 5 of frame 3 of 7 x 11 does."""
    torch.manual_seed(0)
    network = Reparameterization(DstprConfig(**tiny_fields, **fields)).eval()
    if fields["reparam"] == "tada":
        nn.init.normal_(network.mixer.expand.weight)
    prompts = torch.randn(1, 7, 11, 64)
    other = prompts.clone()
    other[0, 3, 5] += 1
    with torch.no_grad():
        changed = ((network(prompts) - network(other)).abs().amax(-1)[0] > 1e-7).nonzero()
    return set(changed[:, 0].tolist()), set(changed[:, 1].tolist())


EVERY_FRAME, EVERY_PROMPT = set(range(7)), set(range(11))


@pytest.mark.parametrize(
    ("fields", "frames", "prompts"),
    [
        ({"reparam": "mlp"}, {3}, {5}),
        ({"reparam": "r2plus1d"}, {2, 3, 4}, {4, 5, 6}),
        ({"reparam": "r2plus1d", "st_kernel_spatial": 5}, {2, 3, 4}, {3, 4, 5, 6, 7}),
        ({"reparam": "r2plus1d", "st_norm": "layer"}, {2, 3, 4}, {4, 5, 6}),
        ({"reparam": "c3d"}, {2, 3, 4}, {4, 5, 6}),
        ({"reparam": "tada"}, EVERY_FRAME, EVERY_PROMPT),
        ({"reparam": "lstm"}, EVERY_FRAME, EVERY_PROMPT),
        ({"reparam": "transformer"}, EVERY_FRAME, EVERY_PROMPT),
    ],
)
def test_each_network_mixes_the_frames_and_prompts_that_its_kind_does(tiny_fields, fields, frames, prompts):
    assert _reach(tiny_fields, **fields) == (frames, prompts)


def test_the_outer_columns_of_a_square_kernel_see_padding_only(tiny_fields):
    square = Reparameterization(DstprConfig(**tiny_fields, st_kernel_2d=True)).eval()
    flat = Reparameterization(DstprConfig(**tiny_fields)).eval()
    state = square.state_dict()
    assert state["mixer.spatial.weight"].shape == (32, 32, 1, 3, 3)
    flat.load_state_dict(state | {"mixer.spatial.weight": state["mixer.spatial.weight"][..., 1:2]})
    prompts = torch.randn(2, 4, 13, 64)
    with torch.no_grad():
        torch.testing.assert_close(square(prompts), flat(prompts), **EXACT)


def test_a_shared_network_serves_every_layer(build, pixels):
    model = build(reparam_shared=True)
    calls = []
    (network,) = model.prompts.reparameterization.values()
    network.register_forward_hook(lambda *_: calls.append(1))
    _encode(model, pixels)
    assert len(calls) == 2


def test_a_batch_norm_sees_each_batch_once_with_gradient_checkpointing(build, pixels):
    model = build().train()
    model.activation_checkpointing_enable()
    model.encode_frames(pixels).embeds.sum().backward()
    counts = {m.num_batches_tracked.item() for m in model.modules() if isinstance(m, nn.BatchNorm3d)}
    assert counts == {1}


def test_new_weights_start_as_vita_clip_and_torch_start_them(build):
    model = build(num_global_prompts=64)
    layer, network = model.prompts.layers["0"], model.prompts.reparameterization["0"]
    # sqrt(6 / (3 * 16 ** 2 + 64)), and for torch's own 1 / sqrt(fan in)
    found = {
        "global": layer.global_prompts.weight,
        "projection": layer.class_projection.weight,
        "projection bias": layer.class_projection.bias,
        "attention": layer.class_attention.q_proj.weight,
        "down": network.down.weight,
        "spatial": network.mixer.spatial.weight,
    }
    bounds = {
        "global": math.sqrt(6 / 832),
        "projection": 1 / 8,
        "projection bias": 1 / 8,
        "attention": math.sqrt(6 / 128),
        "down": 1 / 8,
        "spatial": 1 / math.sqrt(3 * 32),
    }
    # the largest of 64 or more uniform numbers lies within a tenth of the bound but for 1 in 800
    assert {name: tensor.abs().max().item() for name, tensor in found.items()} == pytest.approx(bounds, rel=0.1)
    assert all(tensor.abs().max() <= bounds[name] for name, tensor in found.items())
    assert not layer.class_attention.q_proj.bias.any()
    # normal with deviation 0.02; of 256 numbers the deviation is within a fifth
    assert model.prompts.time_embedding.weight.std().item() == pytest.approx(0.02, rel=0.2)


def _trained(**fields: Any) -> int:
    with torch.device("meta"):
        model = DstprModel(DstprConfig(**{**clip_fields("vitb16"), **fields}))
    model.freeze()
    trained = [(name, parameter.numel()) for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert all(name.startswith("prompts.") for name, _ in trained)
    return sum(count for _, count in trained)


@pytest.mark.parametrize(("frames", "count"), [(4, 53_294_592), (8, 53_334_528), (16, 53_414_400), (32, 53_574_144)])
def test_the_default_trains_as_many_parameters_as_the_percentages_of_table_6_imply(frames, count):
    assert _trained(num_frames=frames) == count


@pytest.mark.parametrize(("frames", "count"), [(8, 54_508_800), (16, 54_588_672)])
def test_the_preset_comes_near_to_the_count_that_table_6_prints(frames, count):
    assert _trained(num_frames=frames, reparam_preset="count_54M") == count


@pytest.mark.parametrize(
    ("fields", "millions"),
    [
        ({"reparam": "none"}, 35.61),
        ({"reparam": "mlp"}, 42.70),
        ({"reparam": "c3d"}, 58.64),
        ({"reparam": "tada"}, 52.44),
        ({"reparam_width": 256, "st_kernel_2d": True, "st_mid": "r2plus1d"}, 61.60),
        ({"reparam_width": 192, "st_kernel_2d": True, "st_mid": "r2plus1d"}, 51.12),
        ({"st_mid": "r2plus1d"}, 58.65),
        ({"reparam_width": 256, "st_kernel_2d": True}, 49.79),
        ({"reparam_width": 192}, 41.82),
        ({"st_kernel_2d": True, "st_mid": "r2plus1d"}, 90.51),
        ({"st_kernel_2d": True, "st_mid": "r2plus1d", "reparam_shared": True}, 40.18),
        ({"st_kernel_2d": True, "st_mid": "r2plus1d", "reparam_shared": True, "reparam_width": 768}, 52.72),
    ],
)
def test_each_alternative_trains_what_its_arithmetic_says(fields, millions):
    assert _trained(**fields) / 1e6 == pytest.approx(millions, abs=0.005)


def test_on_vit_l14_it_trains_189_million():
    assert _trained(**clip_fields("vitl14")) / 1e6 == pytest.approx(189.4, abs=0.05)


# one layer of CLIP in ViT-B/16, of width 768: an LSTM of two directions of 384, 2 * 4 * 384 * (768 + 384 + 2), and two
# encoder layers of 12 * 768 ** 2 + 13 * 768
@pytest.mark.parametrize(("reparam", "parameters"), [("lstm", 3_545_088), ("transformer", 14_175_744)])
def test_without_the_bottleneck_the_network_takes_its_place(reparam, parameters):
    fields = {"reparam": reparam, "reparam_bottleneck": False, "reparam_zero_init": False}
    assert _trained(**fields) == _trained(reparam="none") + 12 * parameters


@pytest.mark.parametrize("reparam", ["lstm", "transformer", "r2plus1d", "c3d", "tada"])
def test_a_network_without_the_bottleneck_is_added_to_the_prompts(tiny_fields, reparam):
    config = DstprConfig(**tiny_fields, reparam=reparam, reparam_bottleneck=False, reparam_zero_init=False)
    network, prompts = Reparameterization(config).eval(), torch.randn(1, 4, 13, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(prompts), prompts + network.mixer(prompts), **EXACT)


def test_a_network_without_the_bottleneck_starts_on_a_clip_with_finite_weights(clip_folder):
    fields = {"reparam": "transformer", "reparam_bottleneck": False, "reparam_zero_init": False, "num_frames": 2}
    model = DstprModel.from_clip(clip_folder, **fields)
    attention = model.prompts.reparameterization["0"].mixer.layers[0].self_attn
    assert 0 < attention.in_proj_weight.abs().max() < 1
    assert model.encode_frames(torch.randn(1, 2, 3, 48, 48)).embeds.isfinite().all()


@pytest.mark.parametrize("change", [{"reparam": "mlp"}, {"reparam_zero_init": True}, {"reparam_width": 32}])
def test_settings_of_the_bottleneck_are_refused_without_it(tiny_fields, change):
    fields = {"reparam": "lstm", "reparam_bottleneck": False, "reparam_zero_init": False, **change}
    with pytest.raises(StrictDataclassError, match="reparam_bottleneck=False needs"):
        DstprConfig(**tiny_fields, **fields)


def test_a_network_that_is_not_in_the_table_is_refused(tiny_fields):
    with pytest.raises(StrictDataclassError, match=r"reparam must be one of none, mlp, lstm, .* got 'gru'"):
        DstprConfig(**tiny_fields, reparam="gru")


def test_a_new_network_is_a_class_and_a_row(build, moved_by, monkeypatch):
    class GatedMixer(Mixer):
        """A GRU over the prompts of a video, frame by frame."""

        def __init__(self, width, config):
            super().__init__(width, config)
            self.gru = nn.GRU(width, width, batch_first=True)

        def forward(self, hidden):
            return self.gru(hidden.flatten(1, 2))[0].unflatten(1, hidden.shape[1:3])

    monkeypatch.setitem(MIXERS, "gru", GatedMixer)
    model = build(reparam="gru", reparam_zero_init=False)
    assert moved_by(model) == [True] * 4
    assert model.prompts.reparameterization["0"].mixer.gru.hidden_size == 32  # half of 64


def test_a_new_kind_of_prompts_is_a_function_and_a_row(build, moved_by, monkeypatch):
    def shift(layer, projected):
        """Return the class token of the frame before, and zeros for the first."""
        return nn.functional.pad(projected, (0, 0, 1, 0))[:, :-1, None]

    monkeypatch.setitem(PROMPT_KINDS, "previous", PromptKind(lambda config: True, lambda config: {}, shift))
    model = build(**KINDS, reparam="none", prompt_layers=[1])
    assert moved_by(model, frame=1) == [False, True, True, False]
