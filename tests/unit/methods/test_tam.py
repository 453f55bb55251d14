"""TAM: what its fields change, what it refuses, and what a video and a folder of it give."""

import json
from dataclasses import fields

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor, pipeline

import kinoclip
from kinoclip import RecognizerVideoProcessor, SllmConfig, SllmModel, SllmProcessor, TamConfig, TamModel, TamProcessor
from kinoclip.hub.converting import convert
from kinoclip.inference.profile import profile, profile_config
from kinoclip.methods.tam.modeling_tam import pool_time, shift_frames
from kinoclip.outputs import TextFeatures
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
def build():
    def build(**changes) -> TamModel:
        torch.manual_seed(0)
        return TamModel(TamConfig(**{**TINY, **changes})).eval()

    return build


@pytest.fixture
def pixels():
    return torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(build, tmp_path):
    """A published folder."""
    model = build()
    model.save_pretrained(tmp_path)
    TamProcessor.for_config(model.config).save_pretrained(tmp_path)
    return tmp_path


def test_pixels_alone_give_logits_for_the_rows_of_the_classifier(build, pixels):
    model = build()
    with torch.no_grad():
        output = model(pixel_values_videos=pixels)
        frames = model.encode_frames(pixels).embeds
    assert frames.shape == (2, 4, 16)
    torch.testing.assert_close(output.logits, model.fc(frames.mean(1)), atol=1e-6, rtol=1e-5)
    assert torch.equal(output.logits, output.votes["video"])


def test_candidates_are_the_rows_of_the_classifier(build):
    model = build()
    text = model.candidates()
    assert model.config.candidate_shapes is None
    assert torch.equal(text.embeds[0], model.fc.weight)
    assert torch.equal(text.branches["bias"][0, :, 0], model.fc.bias)


def test_fewer_candidates_keep_their_logits(build, pixels):
    model = build()
    text = model.candidates()
    two = TextFeatures(embeds=text.embeds[:, 1:], branches={"bias": text.branches["bias"][:, 1:]})
    with torch.no_grad():
        torch.testing.assert_close(model(pixels, text_features=two).logits, model(pixels).logits[:, 1:])


def test_candidates_without_a_bias_are_refused(build, pixels):
    model = build()
    with pytest.raises(ValueError, match="lack the bias of the classifier"):
        model(pixels, text_features=TextFeatures(embeds=model.fc.weight[None]))


def test_text_is_refused(build, pixels):
    with pytest.raises(ValueError, match=r"reads no text.*Leave input_ids out"):
        build()(pixels, torch.ones(1, 3, 77, dtype=torch.long))


def test_the_loss_is_cross_entropy(build, pixels):
    model = build()
    output = model(pixels, labels=torch.tensor([2, 0]))
    expected = torch.nn.functional.cross_entropy(output.logits, torch.tensor([2, 0]))
    torch.testing.assert_close(output.loss, expected)


def test_every_weight_learns(build, pixels):
    model = build().train()
    assert model.freeze() == []
    model(pixels, labels=torch.tensor([2, 0])).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_candidates_can_get_other_names(build, pixels):
    model = build()
    before = model(pixels).logits
    model.set_candidates(["a", "b", "c"], model.candidates())
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert torch.equal(model(pixels).logits, before)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["a", "b"], "2 names were given for the features of 3"), (["a", "b", "a"], "'a' names two")],
)
def test_names_of_candidates_must_fit(build, names, message):
    model = build()
    with pytest.raises(ValueError, match=message):
        model.set_candidates(names, model.candidates())


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


def test_block_stage_blocks_and_widths_shape_the_network(build):
    model = build(block="bottleneck", stage_blocks=[1, 2, 1, 1])
    assert len(model.layer2) == 2
    assert model.layer2[1].conv3.weight.shape == (32, 8, 1, 1)
    assert model.conv1.weight.shape == (8, 3, 7, 7)
    assert model.frame_width == 64


def _blended(build, frames, **changes):
    """Blend with weights 1, 10, 100, ... from the earliest neighbor on."""
    tam = build(**changes).layer1[0].tam
    for number, tap in enumerate(tam.taps):
        tap.weight.data.fill_(10**number)
    values = torch.tensor(frames).float().reshape(-1, 1, 1, 1).expand(-1, 8, 2, 2)
    with torch.no_grad():
        return tam(values, num_frames=3)[:, 0, 0, 0].tolist()


def test_blending_sums_neighbors_of_the_same_video_with_zeros_outside(build):
    # two videos: 1 2 3 and 4 5 6; x[t - 1] + 10 x[t] + 100 x[t + 1]
    assert _blended(build, [1, 2, 3, 4, 5, 6]) == [210, 321, 32, 540, 654, 65]


def test_blending_max_takes_the_largest_and_zeros_count(build):
    assert _blended(build, [1, 2, 3], blending="max") == [200, 300, 30]
    assert _blended(build, [-1, -2, -3], blending="max") == [0, 0, 0]


def test_blending_frames_widens_the_neighborhood(build):
    # x[t - 2] + 10 x[t - 1] + 100 x[t] + 1000 x[t + 1] + 10000 x[t + 2]
    assert _blended(build, [1, 2, 3], blending_frames=5) == [32100, 3210, 321]


def test_dense_blending_mixes_channels(build):
    assert build(dense_blending=True).layer1[0].tam.taps[0].weight.shape == (8, 8, 1, 1)
    # eight equal channels
    assert _blended(build, [1, 2, 3], dense_blending=True) == [1680, 2568, 256]


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


@pytest.mark.parametrize("num_frames", [1, 2, 11])
def test_without_temporal_pooling_any_number_of_frames_comes_out_as_it_went_in(build, num_frames):
    model = build(blending_frames=5)
    assert model.encode_frames(torch.randn(2, num_frames, 3, 32, 32)).embeds.shape == (2, num_frames, 16)


@pytest.mark.parametrize(
    ("offset", "expected"), [(-3, [0, 0]), (-1, [0, 1]), (0, [1, 2]), (1, [2, 0]), (2, [0, 0]), (5, [0, 0])]
)
def test_shifted_frames_leave_zeros_behind(offset, expected):
    assert shift_frames(torch.tensor([1.0, 2]).reshape(1, 2, 1, 1, 1), offset).flatten().tolist() == expected


def test_shortcut_pooled_averages_the_blended_frames_before_its_convolution(build):
    strided, pooled = (build(shortcut=kind).layer2[0] for kind in ("strided", "pooled"))
    assert [type(layer).__name__ for layer in strided.downsample] == ["Conv2d", "BatchNorm2d"]
    assert [type(layer).__name__ for layer in pooled.downsample] == ["AvgPool2d", "Conv2d", "BatchNorm2d"]
    assert (strided.shortcut_is_blended, pooled.shortcut_is_blended) == (False, True)


def test_dropout_acts_in_training_alone(build, pixels):
    model = build(dropout=0.9)
    text, frames = model.candidates(), model.encode_frames(pixels)
    assert torch.equal(model.aggregate(frames, text), frames.embeds.mean(1))
    assert not torch.equal(model.train().aggregate(frames, text), frames.embeds.mean(1))


def test_image_size_is_what_the_processor_cuts(build):
    assert TamProcessor.for_config(build().config).video_processor.crop_size["height"] == 32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage_blocks": [1, 1, 1]}, r"stage_blocks is \[1, 1, 1\]"),
        ({"stage_widths": [8, 8, 0, 8]}, r"stage_widths is \[8, 8, 0, 8\]"),
        ({"stem_width": 0}, "stem_width is 0"),
        ({"blending_frames": 0}, "blending_frames is 0"),
        ({"dropout": 1}, "dropout is 1"),
    ],
)
def test_fields_that_cannot_be_are_refused(changes, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        TamConfig(**{**TINY, **changes})


def test_every_field_of_tam_has_a_test_here():
    own = {field.name for field in fields(TamConfig)} & set(TamConfig.__annotations__)
    tested = {
        "depth", "block", "stage_blocks", "stage_widths", "stem_width", "blending_frames", "blending", "dense_blending",
        "temporal_pooling", "shortcut", "dropout", "image_size", "loss", "gather_features",
    }  # fmt: skip
    assert own - {"model_type", "shim_classes"} == tested


# --- labels and folders


@pytest.mark.parametrize("num_labels", [1, 2, 3])
def test_the_number_of_labels_comes_back_from_a_saved_config(tmp_path, num_labels):
    TamConfig(num_labels=num_labels).save_pretrained(tmp_path)
    assert TamConfig.from_pretrained(tmp_path).num_labels == num_labels


def test_a_config_has_the_labels_of_kinetics_in_number_unless_told():
    assert TamConfig().num_labels == 400


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
    with pytest.raises(ValueError, match="TAM reads no text"):
        TamProcessor.for_config(build().config)(**given)


def test_the_processor_refuses_a_tokenizer(build, tokenizer):
    with pytest.raises(ValueError, match="has no tokenizer"):
        TamProcessor.for_config(build().config, tokenizer)


def test_sampling_options_go_to_the_video_processor(build):
    videos = TamProcessor.for_config(build().config, sampling="consecutive", num_clips=10, num_crops=3).video_processor
    assert (videos.sampling, videos.num_clips, videos.num_crops) == ("consecutive", 10, 3)


def test_a_folder_holds_what_every_auto_class_needs(folder, video_path):
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "kinoclip_shim.py", "model.safetensors", "processor_config.json"
    }  # fmt: skip
    processor = AutoProcessor.from_pretrained(folder)
    videos = AutoVideoProcessor.from_pretrained(folder)
    assert (type(processor), type(videos)) == (TamProcessor, RecognizerVideoProcessor)
    expected = processor(videos=video_path)["pixel_values_videos"]
    assert expected.shape == (1, 4, 3, 32, 32)
    assert torch.equal(videos(video_path)["pixel_values_videos"], expected)
    shim = json.loads((folder / "processor_config.json").read_text())
    assert shim["auto_map"] == {"AutoProcessor": "kinoclip_shim.TamProcessor"}


def test_videos_are_classified_without_labels_in_every_way(folder, video_path):
    model = AutoModelForVideoClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        logits = model(**AutoProcessor.from_pretrained(folder)(videos=video_path)).logits
    expected = dict(zip(LABELS.values(), logits.softmax(-1)[0].tolist(), strict=True))
    by_function = dict(kinoclip.classify(video_path, model=folder))
    by_pipeline = pipeline("video-classification", model=str(folder))(str(video_path))
    by_zero_shot = pipeline("zero-shot-video-classification", model=str(folder))(str(video_path))
    assert by_function == pytest.approx(expected, abs=1e-6)
    assert {row["label"]: row["score"] for row in by_pipeline} == pytest.approx(expected, abs=1e-6)
    assert {row["label"]: row["score"] for row in by_zero_shot} == pytest.approx(expected, abs=1e-6)


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


def test_converting_refuses_a_clip(build, tmp_path, clip_folder):
    with pytest.raises(ValueError, match=r"reads no text\. Leave --clip out"):
        list(convert("tam", _official(build(), tmp_path), tmp_path / "out", clip=str(clip_folder)))


def test_converting_refuses_names_in_another_number(build, tmp_path):
    with pytest.raises(ValueError, match="2 names were given for the features of 3"):
        list(convert("tam", _official(build(), tmp_path), tmp_path / "out", labels=["x", "y"]))


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


def test_the_profile_takes_another_image_size_and_number_of_labels(folder):
    config = profile_config("tam", size=256, num_labels=10)
    assert (config.image_size, config.num_labels) == (256, 10)
    assert profile_config(folder, size=64).image_size == 64


@pytest.fixture
def sllm():
    """SLLM around a TAM whose frames are 64 wide, as its restorer's heads are."""
    torch.manual_seed(0)
    wrapped = TamConfig(**{**TINY, "stage_widths": [8, 8, 12, 64]})
    return SllmModel(SllmConfig(recognizer_config=wrapped, restorer_layers=1, num_frames=8)).eval()


def test_sllm_around_a_tam_runs_it_on_fewer_frames_and_learns(sllm):
    inputs = {
        "pixel_values_videos": torch.randn(2, 4, 3, 32, 32),
        "discarded_pixel_values": torch.randn(2, 3, 3, 32, 32),
    }
    output = sllm.train()(**inputs, labels=torch.tensor([0, 2]))
    output.loss.backward()
    assert output.frames.embeds.shape == (2, 7, 64)
    assert output.losses.keys() == {"video", "restoration"}
    assert sllm.recognizer.conv1.weight.grad.isfinite().all()


def test_sllm_around_a_tam_keeps_its_labels_and_reads_videos_alone(sllm, tmp_path, video_path):
    sllm.save_pretrained(tmp_path)
    SllmProcessor.for_config(sllm.config, None).save_pretrained(tmp_path)
    answer = kinoclip.classify(video_path, model=tmp_path)
    assert {prediction.label for prediction in answer} == set(LABELS.values())
    # every second of eight frames
    assert len(answer.frame_indices) == 4
