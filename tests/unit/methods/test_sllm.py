import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPConfig, CLIPModel
from transformers import initialization as init

from kinoclip import BikeConfig, BikeModel, DstprConfig, SllmConfig, SllmModel, SllmProcessor
from kinoclip.inference.backends import load_recognizer
from kinoclip.methods.sllm.modeling_sllm import middle_frames
from kinoclip.methods.sllm.restorers import (
    RESTORERS,
    LinearRestorer,
    restoration_cosine,
    restoration_kl,
    restoration_mse,
)
from kinoclip.modeling.outputs import TextFeatures
from kinoclip.modeling.recognizer import fuse_logits


@pytest.fixture
def recognizer(make):
    return make(BikeModel)


@pytest.fixture
def wrap(recognizer):
    """Wrap a BIKE of random weights."""

    def build(**fields):
        torch.manual_seed(1)
        return SllmModel.from_recognizer(recognizer, num_frames=8, **fields).eval()

    return build


@pytest.fixture
def processor_for(tokenizer):
    return lambda config: SllmProcessor.for_config(config, tokenizer)


@pytest.mark.parametrize(("restored", "length"), [("all", 13), ("one", 7), ("none", 4)])
def test_a_gap_gets_all_one_or_no_restored_frames(wrap, pixels, restored, length):
    assert wrap(rate=4, restored_per_gap=restored).encode_frames(pixels).embeds.shape[1] == length


def test_one_kept_frame_is_recognized_without_restoration(wrap, pixels):
    assert wrap().encode_frames(pixels[:, :1]).embeds.shape == (2, 1, 32)


def test_the_first_token_alone_can_be_the_answer_of_a_direction(wrap, pixels):
    mean, first = wrap().encode_frames(pixels).embeds, wrap(pair_output="first").encode_frames(pixels).embeds
    assert not torch.allclose(mean[:, 1], first[:, 1])


def test_the_restorer_starts_as_the_official_one(wrap):
    torch.manual_seed(0)
    table = wrap().restorer.position_embedding.weight
    # N(0, 1), since the official initializer does not reach it: 77 * 32 values
    assert table.std().item() == pytest.approx(1, abs=0.1)


def test_saliency_of_restored_frames_goes_to_their_neighbors(wrap, pixels):
    model = wrap(rate=3)
    text = TextFeatures(embeds=torch.randn(1, 5, 32), words=torch.randn(5, 77, 32))
    frames = model.encode_frames(pixels)
    whole = model.recognizer.saliency(frames, text)
    kept = model.saliency(frames, text)
    assert kept.shape == (2, 5, 4)
    torch.testing.assert_close(kept.sum(-1), torch.ones(2, 5))
    expected = whole[..., 0] + whole[..., 1] * 2 / 3 + whole[..., 2] / 3
    torch.testing.assert_close(kept[..., 0], expected)


def discarded(count):
    return torch.randn(2, count, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def training(pixels):
    return {
        "pixel_values_videos": pixels,
        "text_features": TextFeatures(torch.randn(1, 3, 32), torch.randn(3, 77, 32)),
        "labels": torch.tensor([0, 2]),
    }


@pytest.mark.parametrize(("rate", "restored", "count"), [(2, "all", 3), (3, "all", 6), (4, "one", 9)])
def test_discarded_frames_supervise_the_restored_ones(wrap, training, rate, restored, count):
    model = wrap(rate=rate, restored_per_gap=restored)
    losses = model(**training, discarded_pixel_values=discarded(count)).losses
    assert set(losses) == {"video", "restoration"}
    assert losses["restoration"] > 0


def test_a_wrong_number_of_discarded_frames_is_an_error(wrap, training):
    with pytest.raises(ValueError, match="must be 1 discarded frames for each of 3 gaps, got 4"):
        wrap()(**training, discarded_pixel_values=discarded(4))


@pytest.mark.parametrize(("stop_gradient", "reached"), [(True, False), (False, True)])
def test_the_targets_give_a_gradient_only_when_asked(wrap, stop_gradient, reached):
    model = wrap(stop_gradient=stop_gradient)
    others = discarded(3).requires_grad_()
    frames = model.encode_frames(torch.randn(2, 4, 3, 32, 32))
    model.extra_losses(frames, None, discarded_pixel_values=others)["restoration"].backward()
    assert (others.grad is not None) == reached


def test_equal_features_have_no_restoration_loss():
    features = torch.randn(5, 8)
    assert restoration_kl(features, features).item() == pytest.approx(0, abs=1e-6)
    # a constant on all features of a frame does not change its softmax
    assert restoration_kl(features + 3, features).item() == pytest.approx(0, abs=1e-6)


def test_other_losses_compare_values_or_directions():
    restored, targets = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [2.0, 0.0]])
    # (4 + 0 + 4 + 4) / 4, and one minus the mean of the cosines 1 and 0
    assert restoration_mse(restored, targets).item() == 3
    assert restoration_cosine(restored, targets).item() == 0.5


@pytest.mark.parametrize(("restoration", "values"), [("linear", [1.0, 2.0]), ("nearest", [0.0, 3.0])])
def test_controls_without_parameters_restore_between_0_and_3(restoration, values):
    frames = torch.tensor([0.0, 3.0])[None, :, None]
    restorer = RESTORERS[restoration].for_config(None, 1)
    assert restorer(frames, torch.tensor([1 / 3, 2 / 3])).flatten().tolist() == pytest.approx(values)


def test_uneven_gaps_are_restored_by_time(wrap, pixels):
    # gaps of 4 s: the frame between them lies after 1 s, 3 s and, as a wrapped window has no order, in the middle
    times = torch.tensor([0.0, 1.0, 4.0, 7.0, 8.0, 9.0, 2.0, 3.0]).expand(2, 8)
    model = wrap(restoration="linear", time_aware=True)
    frames = model.encode_frames(pixels, times).embeds
    for gap, share in enumerate((0.25, 0.75, 0.5)):
        expected = torch.lerp(frames[:, 2 * gap], frames[:, 2 * gap + 2], share)
        torch.testing.assert_close(frames[:, 2 * gap + 1], expected)
    even = wrap(restoration="linear").encode_frames(pixels, times).embeds
    torch.testing.assert_close(even[:, 1], (even[:, 0] + even[:, 2]) / 2)
    middle = wrap(restoration="linear", time_aware=True, rate=4, restored_per_gap="one")
    one = middle.encode_frames(pixels[:, :2], times).embeds
    torch.testing.assert_close(one[:, 1], torch.lerp(one[:, 0], one[:, 2], 0.5))  # frame 2 of 0 to 4: 4 s of 8 s


def test_the_processor_times_all_sampled_frames_for_a_time_aware_model(wrap, tokenizer, video_path):
    processor = SllmProcessor.for_config(wrap(time_aware=True).config, tokenizer)
    inputs = processor(videos=str(video_path))
    times = processor.video_processor.sample(str(video_path), discarded=True).timestamps
    assert inputs["frame_times"].shape == (1, 8)
    assert inputs["frame_times"][0, 1:7:2].tolist() == pytest.approx(times)


def test_a_model_trained_at_one_rate_can_drop_more_frames_later(wrap, pixels, processor_for, tmp_path):
    model = wrap()
    model.save_pretrained(tmp_path)
    processor_for(model.config).save_pretrained(tmp_path)
    loaded, processor = load_recognizer(tmp_path, settings={"rate": 4, "saliency_temperature": 0.1})
    assert processor.video_processor.keep_every == 4
    assert loaded.encode_frames(pixels[:, :2]).embeds.shape[1] == 5
    assert (
        loaded.recognizer.config.saliency_temperature == 0.1
    )  # settings that SLLM lacks reach the wrapped recognizer
    with pytest.raises(ValueError, match="'ratte' is not a setting of BikeConfig"):
        load_recognizer(tmp_path, settings={"ratte": 4})


def test_placeholders_stay_at_the_rate_of_their_training(wrap, processor_for, tmp_path):
    model = wrap(restoration="placeholders")
    model.save_pretrained(tmp_path)
    processor_for(model.config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"do not fit the given settings.*Leave out settings that change weights"):
        load_recognizer(tmp_path, settings={"rate": 4})


class PowerRestorer(LinearRestorer):
    """Interpolate by a learned power of the time in the gap."""

    def __init__(self):
        super().__init__()
        self.power = torch.nn.Parameter(torch.empty(1))

    def reset_parameters(self):
        init.ones_(self.power)

    def forward(self, frames, shares):
        return super().forward(frames, shares.to(self.power) ** self.power)


def test_a_row_of_the_table_adds_a_restorer(wrap, pixels, training, monkeypatch, tmp_path):
    monkeypatch.setitem(RESTORERS, "power", PowerRestorer)
    model = wrap(restoration="power", restoration_loss="cosine")
    linear = wrap(restoration="linear").encode_frames(pixels).embeds
    torch.testing.assert_close(model.encode_frames(pixels).embeds, linear)
    model(**training, discarded_pixel_values=discarded(3)).loss.backward()
    assert model.restorer.power.grad is not None
    model.save_pretrained(tmp_path)
    assert isinstance(SllmModel.from_pretrained(tmp_path).restorer, PowerRestorer)


@pytest.mark.parametrize(
    ("wrapped", "fields", "message"),
    [
        (BikeConfig, {"restoration": "magic"}, "restoration must be one of ffres, attention, .*got 'magic'"),
        (BikeConfig, {"restoration_loss": "l3"}, "restoration_loss must be one of kl, mse, cosine, none, got 'l3'"),
        (BikeConfig, {"rate": 1}, "rate must be at least 2"),
        (DstprConfig, {}, r"exchanges prompts between exactly 4 frames, .*Set interchange=\"none\""),
        (lambda **fields: SllmConfig(recognizer_config=BikeConfig(**fields)), {}, "other than SLLM"),
    ],
    ids=["restorer", "loss", "rate of one", "fixed frames", "SLLM"],
)
def test_what_cannot_be_restored_is_refused(tiny_fields, wrapped, fields, message):
    with pytest.raises(StrictDataclassError, match=message):
        SllmConfig(recognizer_config=wrapped(**tiny_fields), **fields)


def test_settings_reach_sllm_or_the_wrapped_recognizer(tiny_fields):
    towers = {name: tiny_fields[name] for name in ("text_config", "vision_config", "projection_dim")}
    config = SllmConfig.from_clip_fields(towers, recognizer="bike", rate=3, interaction="mean")
    assert (config.rate, config.recognizer_config.interaction) == (3, "mean")
    with pytest.raises(ValueError, match="'bogus' is not a setting of BikeConfig"):
        SllmConfig.from_clip_fields(towers, recognizer="bike", bogus=1)


def test_a_dropped_frame_is_never_decoded(wrap, tokenizer, video_path):
    processor = SllmProcessor.for_config(wrap().config, tokenizer)
    assert processor.video_processor.sample(str(video_path)).indices == [0, 4, 8, 12]
    training = processor(videos=str(video_path), return_discarded=True)
    assert training["pixel_values_videos"].shape == (1, 4, 3, 32, 32)
    assert training["discarded_pixel_values"].shape == (1, 3, 3, 32, 32)
    assert processor.video_processor.sample(str(video_path), discarded=True).indices == [2, 6, 10]


def test_the_frames_that_a_frozen_copy_encoded_are_explained_by_it(wrap, recognizer, pixels):
    model = wrap(rate=2, restoration="frozen_encoder")
    with torch.no_grad():
        for parameter in model.recognizer.vision_model.parameters():
            parameter.mul_(1.5)  # as if it had been trained since
    text = TextFeatures(embeds=torch.ones(1, 1, 32), words=torch.ones(1, 77, 32))
    look = lambda model, pixels: model.explain(model.encode_frames(pixels), text, pixels)  # noqa: E731
    found = look(model, pixels)
    # of four frames every second is kept, one lies between, and the last takes no part
    kept, between = look(model.recognizer, pixels[:, [0, 2]]), look(recognizer, pixels[:, [1]])
    torch.testing.assert_close(found.attention[:, [0, 2]], kept.attention, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.attention[:, [1]], between.attention, atol=1e-6, rtol=1e-5)
    assert not found.attention[:, 3].any()
    assert found.saliency.shape == (2, 1, 4)
    assert not found.saliency[..., 3].any()
    assert (kept.attention - look(recognizer, pixels[:, [0, 2]]).attention).abs().max() > 1e-3


def test_each_setting_of_the_wrapped_recognizer_reaches_it():
    fields = {
        "fusion": {"video": 1, "attributes": 2},
        "fusion_rule": "scores",
        "gather_features": False,
        "initializer_range": 0.5,
        "loss": "symmetric_kl",
        "num_frames": 16,
    }
    config = SllmConfig.from_clip_fields({}, recognizer="text4vis", attributes="shared", rate=3, **fields)
    for name, value in fields.items():
        assert getattr(config.recognizer_config, name) == value
        assert getattr(config, name) == value
    assert config.rate == 3
    loaded = SllmConfig(**config.to_dict())
    assert {name: getattr(loaded, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", "cross_entropy"), ("fusion_rule", "scores"), ("gather_features", False), ("fusion", {"video": 2})],
)
def test_a_setting_that_contradicts_the_wrapped_recognizer_is_refused(tiny_fields, name, value):
    with pytest.raises(ValueError, match=f"{name} must be .* as in recognizer_config"):
        SllmConfig(recognizer_config=BikeConfig(**tiny_fields), **{name: value})


def test_the_number_of_frames_is_that_of_the_wrapped_recognizer_where_it_is_left_out(tiny_fields):
    inner = BikeConfig(**tiny_fields)
    assert SllmConfig(recognizer_config=inner).num_frames == 4
    assert SllmConfig(recognizer_config=inner, num_frames=8).num_frames == 8


def test_a_branch_that_the_wrapped_recognizer_gains_is_fused_and_saved_as_its_own(wrap, pixels, tiny_fields, tmp_path):
    clip = CLIPConfig(**{name: tiny_fields[name] for name in ("text_config", "vision_config", "projection_dim")})
    CLIPModel(clip).save_pretrained(tmp_path / "clip")
    model = wrap()
    model.recognizer.load_attribute_clip(tmp_path / "clip")
    ids = torch.randint(1, 40, (1, 3, 77), generator=torch.Generator().manual_seed(5))
    output = model(pixels, ids, attribute_input_ids=ids[0, :2])
    shares = {"video": 0.7, "attributes": 0.3}
    scaled = model.unwrap().scale_votes(output.votes, output.video_embeds, output.text)
    torch.testing.assert_close(output.logits, fuse_logits(scaled, shares))
    model.save_pretrained(tmp_path / "saved")
    loaded = SllmModel.from_pretrained(tmp_path / "saved").eval()
    torch.testing.assert_close(loaded(pixels, ids, attribute_input_ids=ids[0, :2]).logits, output.logits)


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 0.5), (3, 1.0), (4, 1.5)])
def test_one_restored_frame_learns_from_the_middle_of_its_gap(count, expected):
    frames = torch.arange(count, dtype=torch.float32)[None, None, :, None]
    # 3 frames (r = 4): the second; 2 frames (r = 3): the mean of both
    assert middle_frames(frames).flatten().tolist() == [expected]
