"""TAM: what its fields change, what it refuses, and what a video and a folder of it give."""

from functools import partial

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError

import kinoclip
from kinoclip import RecognizerVideoProcessor, TamConfig, TamModel, TamProcessor
from kinoclip.hub.converting import convert
from kinoclip.inference.profile import profile, profile_config
from kinoclip.methods.tam.modeling_tam import pool_time, shift_frames
from kinoclip.modeling.outputs import TextFeatures
from kinoclip.video.transforms import resize_frames

LABELS = {0: "diving", 1: "archery", 2: "juggling"}
TINY = {
    "block": "basic",
    "stage_blocks": [1, 1, 1, 1],
    "stage_widths": [8, 8, 12, 16],
    "stem_width": 8,
    "num_frames": 4,
    "image_size": 32,
    "id2label": LABELS,
}


@pytest.fixture
def build(make):
    return partial(make, TamModel, **TINY)


@pytest.fixture
def folder(build, tmp_path):
    """A published folder."""
    model = build()
    model.save_pretrained(tmp_path)
    TamProcessor.for_config(model.config).save_pretrained(tmp_path)
    return tmp_path


def test_fewer_candidates_keep_their_logits(build, pixels):
    model = build()
    text = model.candidates()
    two = TextFeatures(embeds=text.embeds[:, 1:], branches={"bias": text.branches["bias"][:, 1:]})
    with torch.no_grad():
        torch.testing.assert_close(model(pixels, text_features=two).logits, model(pixels).logits[:, 1:])


def test_candidates_without_a_bias_are_refused(build, pixels):
    model = build()
    with pytest.raises(ValueError, match="candidates of a classifier are its own labels"):
        model(pixels, text_features=TextFeatures(embeds=model.fc.weight[None]))


def test_text_is_refused(build, pixels):
    with pytest.raises(ValueError, match=r"reads no text.*Leave input_ids out"):
        build()(pixels, torch.ones(1, 3, 77, dtype=torch.long))


def test_new_convolutions_start_as_in_the_official_code():
    model = TamModel(TamConfig(**{**TINY, "stage_widths": [256, 8, 8, 8], "stem_width": 256, "blending_frames": 5}))
    # Kaiming, fan out: sqrt(2 / 256) = 0.0884 for each channel of a tap; sqrt(2 / (256 * 9)) = 0.0295 for 3 x 3
    taps = torch.cat([tap.weight.flatten() for tap in model.layer1[0].tam.taps])
    assert taps.std().item() == pytest.approx(0.0884, rel=0.1)
    assert model.layer1[0].conv2.weight.std().item() == pytest.approx(0.0295, rel=0.02)


# --- fields


@pytest.mark.parametrize(
    ("depth", "blocks", "width", "millions"),
    # with 400 labels; the specification of the official networks gives 11.386, 24.367 and 43.411 million
    [(18, 8, 512, 11.386), (50, 16, 2048, 24.367), (101, 33, 2048, 43.411)],
)
def test_depth_is_that_of_the_known_networks(depth, blocks, width, millions):
    with torch.device("meta"):
        model = TamModel(TamConfig(depth=depth))
    assert sum(len(stage) for stage in (model.layer1, model.layer2, model.layer3, model.layer4)) == blocks
    assert model.frame_width == model.fc.in_features == width
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 3) == millions


@pytest.mark.parametrize(
    ("kind", "expected"),
    # 1 2 3 4 5 around 1, 3 and 5: max 2 4 5; mean (0 + 1 + 2) / 3, (2 + 3 + 4) / 3, (4 + 5 + 0) / 3
    [("max", [2, 4, 5]), ("avg", [1, 3, 3])],
)
def test_time_is_pooled_around_every_second_frame(kind, expected):
    frames = torch.arange(1.0, 6).reshape(1, 5, 1, 1, 1)
    assert pool_time(frames, kind).flatten().tolist() == expected


@pytest.mark.parametrize(("num_frames", "left"), [(1, 1), (3, 1), (4, 1), (9, 2), (16, 2)])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_temporal_pooling_halves_time_three_times(build, kind, num_frames, left):
    model = build(temporal_pooling=kind)
    assert model.encode_frames(torch.randn(2, num_frames, 3, 32, 32)).embeds.shape == (2, left, 16)


@pytest.mark.parametrize(
    ("offset", "expected"), [(-3, [0, 0]), (-1, [0, 1]), (0, [1, 2]), (1, [2, 0]), (2, [0, 0]), (5, [0, 0])]
)
def test_shifted_frames_leave_zeros_behind(offset, expected):
    assert shift_frames(torch.tensor([1.0, 2]).reshape(1, 2, 1, 1, 1), offset).flatten().tolist() == expected


def test_dropout_acts_in_training_alone(build, pixels):
    model = build(dropout=0.9)
    text, frames = model.candidates(), model.encode_frames(pixels)
    assert torch.equal(model.aggregate(frames, text), frames.embeds.mean(1))
    assert not torch.equal(model.train().aggregate(frames, text), frames.embeds.mean(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage_blocks": [1, 1, 1]}, r"stage_blocks must be four .* got \[1, 1, 1\]"),
        ({"stage_widths": [8, 8, 0, 8]}, r"stage_widths must be .* got \[8, 8, 0, 8\]"),
        ({"stem_width": 0}, "stem_width must be at least 1"),
        ({"dropout": 1}, "dropout must be .* below 1"),
    ],
)
def test_fields_that_cannot_be_are_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        TamConfig(**{**TINY, **changes})


# --- labels and folders


@pytest.mark.parametrize("num_labels", [1, 2, 3])
def test_the_number_of_labels_comes_back_from_a_saved_config(tmp_path, num_labels):
    TamConfig(num_labels=num_labels).save_pretrained(tmp_path)
    assert TamConfig.from_pretrained(tmp_path).num_labels == num_labels


def test_the_processor_reads_as_imagenet_models_do(build):
    videos = TamProcessor.for_config(TamConfig()).video_processor
    assert (videos.size, videos.crop_size) == ({"shortest_edge": 256}, {"height": 224, "width": 224})
    assert list(videos.image_mean) == [0.485, 0.456, 0.406]
    assert list(videos.image_std) == [0.229, 0.224, 0.225]
    assert (videos.resample, videos.sampling, videos.num_frames) == (2, "segment_shared_offset", 8)  # 2 is bilinear


def test_frames_are_resized_bilinearly(build):
    noise = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    bilinear = TamProcessor.for_config(build().config).video_processor
    bicubic = RecognizerVideoProcessor(num_frames=4, size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    found = bilinear.sample(noise, sampling="segment_start").frames
    assert torch.equal(found, resize_frames(noise, 32, "bilinear"))
    assert torch.equal(bicubic.sample(noise).frames, resize_frames(noise, 32, "bicubic"))
    assert not torch.equal(found, bicubic.sample(noise).frames)


@pytest.mark.parametrize("given", [{"text": ["diving"]}, {"attributes": [["red"]]}])
def test_the_processor_refuses_text(build, given):
    with pytest.raises(ValueError, match=r"Leave (labels|attributes) out"):
        TamProcessor.for_config(build().config)(**given)


def test_the_processor_refuses_a_tokenizer(build, tokenizer):
    with pytest.raises(ValueError, match="takes no tokenizer"):
        TamProcessor.for_config(build().config, tokenizer)


def test_labels_of_ones_own_are_refused(folder, video_path):
    with pytest.raises(ValueError, match=r"knows only its own labels\. Leave labels out"):
        kinoclip.classify(video_path, labels=["diving"], model=folder)


# --- beyond the model


def _official(model, folder):
    """Write the weights of a model as the official code does."""
    names = {"taps.0": "prev_se.fc1", "taps.1": "curr_se.fc1", "taps.2": "next_se.fc1"}
    state = {}
    for name, tensor in model.state_dict().items():
        tap = name[name.find("taps.") : name.find("taps.") + 6] if "taps." in name else ""
        state[name.replace(tap, names[tap]) if tap else name] = tensor
    torch.save({"epoch": 1, "state_dict": state}, folder / "official.pt")
    return folder / "official.pt"


def test_converting_needs_no_clip_and_names_the_classes(build, tmp_path, video_path):
    checkpoint = _official(build(), tmp_path)
    said = list(convert("tam", checkpoint, tmp_path / "out", labels=["x", "y", "z"], settings={"image_size": 32}))
    assert [line.partition(" ")[0] for line in said] == ["read", "named", "wrote"]
    answer = kinoclip.classify(video_path, model=tmp_path / "out")
    assert {prediction.label for prediction in answer} == {"x", "y", "z"}


@pytest.mark.parametrize(
    ("fields", "flops", "gmacs"),
    [
        # printed by the authors' repository without the classifier, as "paper" counts: 32,831,963,136
        ({}, "paper", 32.831963136),
        # and 2048 * 400 for the classifier, once for the video
        ({}, "full", 32.831963136 + 0.0008192),
        # the official networks take 14.21, and 14.532 with the classifier on each frame, 7 * 512 * 400 more
        ({"temporal_pooling": "max"}, "full", 14.213873664),
        ({"depth": 18}, "full", 14.530973696),
    ],
    ids=str,
)
def test_eight_frames_cost_what_the_official_network_costs(fields, flops, gmacs):
    counted = profile(profile_config("tam", **fields), num_frames=8, flops=flops)
    assert counted.gmacs == pytest.approx(gmacs, abs=1e-9)
    assert counted.image_size == 224
