import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from kinoclip import BikeConfig, BikeModel, Classifier, SllmConfig, SllmModel, SllmProcessor
from kinoclip.methods.sllm.modeling_sllm import middle_frames, restoration_kl
from kinoclip.outputs import TextFeatures
from kinoclip.recognizer import fuse_logits


@pytest.fixture
def recognizer(tiny_fields):
    torch.manual_seed(0)
    return BikeModel(BikeConfig(**tiny_fields)).eval()


@pytest.fixture
def wrap(recognizer):
    """Wrap a BIKE of random weights."""

    def build(**fields):
        torch.manual_seed(1)
        return SllmModel.from_recognizer(recognizer, num_frames=8, **fields).eval()

    return build


@pytest.fixture
def pixels():
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("rate", "length"), [(2, 7), (3, 10), (4, 13)])
def test_every_gap_between_kept_frames_is_filled(wrap, pixels, rate, length):
    # 4 kept frames have 3 gaps of rate - 1 frames: 4 + 3 * (rate - 1)
    assert wrap(rate=rate).encode_frames(pixels).embeds.shape == (2, length, 32)


@pytest.mark.parametrize(("restored", "length"), [("all", 13), ("one", 7), ("none", 4)])
def test_a_gap_gets_all_one_or_no_restored_frames(wrap, pixels, restored, length):
    assert wrap(rate=4, restored_per_gap=restored).encode_frames(pixels).embeds.shape[1] == length


def test_kept_frames_are_what_the_recognizer_makes_of_them(wrap, recognizer, pixels):
    with torch.no_grad():
        frames = wrap().encode_frames(pixels).embeds
        assert torch.equal(frames[:, ::2], recognizer.encode_frames(pixels).embeds)


def test_one_kept_frame_is_recognized_without_restoration(wrap, pixels):
    assert wrap().encode_frames(pixels[:, :1]).embeds.shape == (2, 1, 32)


def test_restored_frames_lie_nearer_to_the_nearer_direction(wrap, pixels):
    model = wrap(rate=4)
    with torch.no_grad():
        frames = model.encode_frames(pixels).embeds
        left_first, right_first = model.restorer.directions(frames[:, ::4])
    # shares 1/4, 2/4, 3/4 of the other direction
    expected = 0.75 * left_first[:, 0] + 0.25 * right_first[:, 0]
    torch.testing.assert_close(frames[:, 1], expected)
    torch.testing.assert_close(frames[:, 3], 0.25 * left_first[:, 0] + 0.75 * right_first[:, 0])


def test_the_first_token_alone_can_be_the_answer_of_a_direction(wrap, pixels):
    mean, first = wrap().encode_frames(pixels).embeds, wrap(pair_output="first").encode_frames(pixels).embeds
    assert not torch.allclose(mean[:, 1], first[:, 1])


def test_placeholders_are_filled_between_each_pair(wrap, pixels):
    model = wrap(rate=3, restoration="placeholders")
    assert model.restorer.placeholders.shape == (2, 32)
    assert model.encode_frames(pixels).embeds.shape == (2, 10, 32)


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


def test_the_loss_is_weighted(wrap, training):
    plain = wrap()(**training, discarded_pixel_values=discarded(3)).losses["restoration"]
    double = wrap(restoration_weight=2)(**training, discarded_pixel_values=discarded(3)).losses["restoration"]
    torch.testing.assert_close(double, 2 * plain)


def test_restoration_can_go_without_supervision(wrap, training):
    model = wrap(restoration_loss="none")
    assert set(model(**training, discarded_pixel_values=discarded(3)).losses) == {"video"}


def test_a_wrong_number_of_discarded_frames_is_an_error(wrap, training):
    with pytest.raises(ValueError, match="4 discarded frames were given for 3 gaps of 1"):
        wrap()(**training, discarded_pixel_values=discarded(4))


@pytest.mark.parametrize(("stop_gradient", "reached"), [(True, False), (False, True)])
def test_the_targets_give_a_gradient_only_when_asked(wrap, stop_gradient, reached):
    model = wrap(stop_gradient=stop_gradient)
    others = discarded(3).requires_grad_()
    frames = model.encode_frames(torch.randn(2, 4, 3, 32, 32))
    model.extra_losses(frames, None, discarded_pixel_values=others)["restoration"].backward()
    assert (others.grad is not None) == reached


def test_a_frozen_teacher_is_saved_and_never_trained(wrap, training, tmp_path):
    model = wrap(teacher="frozen")
    frozen = model.freeze()
    assert any(name.startswith("teacher.") for name in frozen)
    model.save_pretrained(tmp_path)
    loaded = SllmModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.teacher.logit_scale, model.teacher.logit_scale)


def test_equal_features_have_no_restoration_loss():
    features = torch.randn(5, 8)
    assert restoration_kl(features, features).item() == pytest.approx(0, abs=1e-6)
    # a constant on all features of a frame does not change its softmax
    assert restoration_kl(features + 3, features).item() == pytest.approx(0, abs=1e-6)


def test_a_rate_of_one_is_an_error(tiny_fields):
    with pytest.raises(Exception, match="Keep every second frame or fewer"):
        SllmConfig(recognizer_config=BikeConfig(**tiny_fields), rate=1)


def test_sllm_around_sllm_is_an_error(wrap):
    with pytest.raises(Exception, match="not SLLM's own"):
        SllmConfig(recognizer_config=wrap().config)


def test_settings_reach_sllm_or_the_wrapped_recognizer(tiny_fields):
    towers = {name: tiny_fields[name] for name in ("text_config", "vision_config", "projection_dim")}
    config = SllmConfig.from_clip_fields(towers, recognizer="bike", rate=3, interaction="mean")
    assert (config.rate, config.recognizer_config.interaction) == (3, "mean")
    with pytest.raises(ValueError, match="'bogus' is no setting of BikeConfig"):
        SllmConfig.from_clip_fields(towers, recognizer="bike", bogus=1)


def test_a_dropped_frame_is_never_decoded(wrap, tokenizer, video_path):
    processor = SllmProcessor.for_config(wrap().config, tokenizer)
    assert processor.video_processor.sample(str(video_path)).indices == [0, 4, 8, 12]
    training = processor(videos=str(video_path), return_discarded=True)
    assert training["pixel_values_videos"].shape == (1, 4, 3, 32, 32)
    assert training["discarded_pixel_values"].shape == (1, 3, 3, 32, 32)
    assert processor.video_processor.sample(str(video_path), discarded=True).indices == [2, 6, 10]


def test_it_classifies_and_explains_with_the_frames_it_looked_at(wrap, tokenizer, video_path):
    model = wrap()
    classifier = Classifier(model, SllmProcessor.for_config(model.config, tokenizer))
    answer = classifier.classify(str(video_path), ["red circle", "blue square"], explain=True)
    assert answer.timestamps == [0.0, 0.5, 1.0, 1.5]
    assert len(answer.saliency[answer.label]) == 4
    assert sum(answer.saliency[answer.label]) == pytest.approx(1, abs=1e-5)


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
    with pytest.raises(ValueError, match=f"{name} is .* in recognizer_config, where it counts"):
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
    scaled = {name: model.scales()[name] * vote for name, vote in output.votes.items()}
    torch.testing.assert_close(output.logits, fuse_logits(scaled, shares))
    model.save_pretrained(tmp_path / "saved")
    loaded = SllmModel.from_pretrained(tmp_path / "saved").eval()
    torch.testing.assert_close(loaded(pixels, ids, attribute_input_ids=ids[0, :2]).logits, output.logits)


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 0.5), (3, 1.0), (4, 1.5)])
def test_one_restored_frame_learns_from_the_middle_of_its_gap(count, expected):
    frames = torch.arange(count, dtype=torch.float32)[None, None, :, None]
    # 3 frames (r = 4): the second; 2 frames (r = 3): the mean of both
    assert middle_frames(frames).flatten().tolist() == [expected]
