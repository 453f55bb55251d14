import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, AutoVideoProcessor

from kinoclip import BikeConfig, BikeProcessor, RecognizerVideoProcessor
from kinoclip.modeling.processing import load_tokenizer
from kinoclip.modeling.video_processing import is_one_video


@pytest.fixture
def frames():
    """Twelve frames (T, H, W, 3) whose gray level is their number times ten."""
    return np.stack([np.full((40, 60, 3), 10 * i, np.uint8) for i in range(12)])


@pytest.fixture
def processor(bike_processor):
    return bike_processor


def test_labels_become_ids_padded_with_zero_to_the_whole_context(processor, tokenizer):
    ids = processor(text=["red circle", "star"])["input_ids"]
    assert ids.shape == (1, 2, 77)
    expected = tokenizer("This is a video about star")["input_ids"]
    assert ids[0, 1, : len(expected)].tolist() == expected
    assert not ids[0, 1, len(expected) :].any()


def test_the_word_mask_marks_the_tokens_of_the_label_alone(tokenizer, tiny_fields):
    config = BikeConfig(**tiny_fields, saliency_words="label")
    processor = BikeProcessor.for_config(config, tokenizer)
    inputs = processor(text=["red circle"])
    marked = inputs["input_ids"][0, 0][inputs["word_mask"][0, 0]]
    assert tokenizer.decode(marked) == "red circle"


def test_attributes_become_one_sentence_cut_to_the_best_five(processor, tokenizer):
    phrases = ["red", "blue", "green", "star", "ring", "square"]
    ids = processor(attributes=[phrases])["attribute_input_ids"]
    expected = tokenizer("This is a video about red,blue,green,star,ring")["input_ids"]
    assert ids.shape == (1, 77)
    assert ids[0, : len(expected)].tolist() == expected


def test_a_long_sentence_of_attributes_keeps_its_end_token(processor, tokenizer):
    ids = processor(attributes=[["very long phrase " * 20] * 5])["attribute_input_ids"]
    assert ids[0, 76] == tokenizer.eos_token_id


def test_frames_are_those_of_the_sampling_rule(processor, frames):
    sample = processor.video_processor.sample(frames)
    # 4 of 12 frames: the starts of four segments
    assert sample.indices == [0, 3, 6, 9]
    assert sample.frames[:, 0, 0, 0].tolist() == [0, 30, 60, 90]
    assert sample.pixel_values.shape == (1, 4, 3, 32, 32)


def test_pixels_are_normalized_with_clips_mean_and_deviation(processor, frames):
    pixels = processor(videos=frames)["pixel_values_videos"]
    # the second frame is gray 30: (30 / 255 - 0.48145466) / 0.26862954
    assert pixels[0, 1, 0, 0, 0].item() == pytest.approx((30 / 255 - 0.48145466) / 0.26862954, abs=1e-6)


def test_views_come_crop_by_crop_and_clip_by_clip(processor, frames):
    sample = processor.video_processor.sample(frames, num_clips=2, num_crops=3)
    assert sample.pixel_values.shape == (6, 4, 3, 32, 32)
    # tick = 12 / 4 = 3, so the clips start at 0 and at 2
    assert sample.indices == [0, 3, 6, 9, 2, 5, 8, 11]
    # the frames are plain, so every crop of a clip is the same
    torch.testing.assert_close(sample.pixel_values[0], sample.pixel_values[2])
    assert not torch.equal(sample.pixel_values[0], sample.pixel_values[1])


def test_a_video_shorter_than_num_frames_repeats_frames(processor, frames):
    assert processor.video_processor.sample(frames[:3]).indices == [0, 0, 1, 2]


def test_a_list_of_images_is_one_video(processor, frames):
    images = [Image.fromarray(frame) for frame in frames]
    assert is_one_video(images)
    torch.testing.assert_close(
        processor(videos=images)["pixel_values_videos"], processor(videos=frames)["pixel_values_videos"]
    )


def test_a_list_of_videos_is_a_batch(processor, frames, video_path):
    pixels = processor(videos=[frames, str(video_path), torch.from_numpy(frames)])["pixel_values_videos"]
    assert pixels.shape == (3, 4, 3, 32, 32)
    torch.testing.assert_close(pixels[0], pixels[2])


def test_metadata_says_which_frames_were_taken(processor, video_path):
    metadata = processor(videos=str(video_path), return_metadata=True)["video_metadata"]
    assert metadata == [
        {"indices": [0, 4, 8, 12], "timestamps": [0.0, 0.5, 1.0, 1.5], "num_frames": 16, "duration_seconds": 2.0}
    ]


def test_all_settings_survive_the_auto_processor(tokenizer, tiny_fields, tmp_path):
    config = BikeConfig(**tiny_fields, saliency_words="label")
    processor = BikeProcessor.for_config(
        config, tokenizer, templates=["a {}."], attribute_template="{}", num_attributes=3, num_clips=4, num_crops=3
    )
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is BikeProcessor
    assert loaded.to_dict() == processor.to_dict()
    assert (loaded.video_processor.num_clips, loaded.video_processor.num_crops) == (4, 3)
    assert loaded.return_word_mask


def test_the_video_processor_alone_survives_too(tmp_path):
    processor = RecognizerVideoProcessor(num_frames=3, sampling="dense", size={"shortest_edge": 99})
    processor.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert (loaded.num_frames, loaded.sampling, loaded.size["shortest_edge"]) == (3, "dense", 99)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to process"),
        ({"videos": []}, "list of videos is empty"),
        ({"text": ["a"], "return_tensors": "np"}, "must be 'pt'"),
        ({"videos": np.zeros((4, 8, 8, 3), np.uint8), "num_frame": 3}, "Unknown options .*: num_frame"),
    ],
)
def test_wrong_arguments_are_an_error(processor, given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        processor(**given)


def test_a_template_without_a_place_for_the_label_is_an_error(tokenizer, tiny_fields):
    with pytest.raises(ValueError, match="template"):
        BikeProcessor.for_config(BikeConfig(**tiny_fields), tokenizer, templates=["a video"])


def test_a_processor_without_a_tokenizer_reads_videos_alone_and_survives_saving(tiny_fields, frames, tmp_path):
    processor = BikeProcessor.for_config(BikeConfig(**tiny_fields), None)
    processor.save_pretrained(tmp_path)
    assert "tokenizer.json" not in {path.name for path in tmp_path.iterdir()}
    BikeConfig(**tiny_fields).save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is BikeProcessor
    assert not loaded.reads_text
    torch.testing.assert_close(loaded(videos=frames), processor(videos=frames))
    with pytest.raises(ValueError, match="has no tokenizer"):
        loaded(text=["star"])


def test_a_folder_or_file_without_a_tokenizer_is_refused(tmp_path, clip_folder):
    assert load_tokenizer(clip_folder, 1114).eos_token_id == 1113
    with pytest.raises(ValueError, match="has 1114 tokens, but the model has 3"):
        load_tokenizer(clip_folder, 3)
    with pytest.raises(ValueError, match="lacks its tokenizer"):
        load_tokenizer(tmp_path)


def test_images_of_224_are_cut_from_256_and_others_from_their_own_size(tokenizer):
    assert BikeProcessor.for_config(BikeConfig(), None).video_processor.size["shortest_edge"] == 256
    large = BikeConfig(vision_config={"image_size": 336, "patch_size": 14})
    assert BikeProcessor.for_config(large, None).video_processor.size["shortest_edge"] == 336


def test_the_usual_call_of_a_processor_works(processor, frames):
    expected = processor(text=["star"], videos=frames, num_frames=2)
    flat = processor(text=["star"], videos=frames, num_frames=2, padding=True, return_tensors="pt")
    options = {"text_kwargs": {"padding": "max_length"}, "common_kwargs": {"return_tensors": "pt"}}
    grouped = processor(text=["star"], videos=frames, **options, videos_kwargs={"num_frames": 2})
    for found in (flat, grouped):
        assert found.keys() == expected.keys() == set(processor.model_input_names)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert processor(text=["star"], max_length=60)["input_ids"].shape == (1, 1, 60)
    assert processor(text=["star " * 99], truncation=True)["input_ids"].shape == (1, 1, 77)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": False}, "padding must be True"),
        ({"add_special_tokens": False}, "Unknown options .*: add_special_tokens"),
        ({"text_kwargs": {"stride": 2}}, "Unknown options .*: stride"),
        ({"padding": True, "text_kwargs": {"padding": True}}, "passed two times"),
    ],
)
def test_options_of_texts_that_cannot_be_honored_are_refused(processor, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        processor(text=["star"], **options)


def _pixels(processor, video, **options):
    return processor.video_processor(video, **options)["pixel_values_videos"]


@pytest.mark.parametrize("at_call", [True, False])
@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"do_sample_frames": False}, (1, 12, 3, 32, 32)),
        ({"size": {"shortest_edge": 50}, "do_center_crop": False}, (1, 4, 3, 50, 62)),
        ({"size": {"height": 36, "width": 34}, "do_center_crop": False}, (1, 4, 3, 36, 34)),
        ({"do_resize": False, "do_center_crop": False}, (1, 4, 3, 40, 50)),
        ({"crop_size": {"height": 20, "width": 30}}, (1, 4, 3, 20, 30)),
        ({"fps": 2}, (1, 3, 3, 32, 32)),
    ],
)
def test_options_of_videos_change_the_shape_at_call_and_at_construction(frames, at_call, options, shape):
    video = np.broadcast_to(frames[:, :1, :1], (len(frames), 40, 50, 3))
    saved = {"num_frames": 4, "size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    clock = {"video_metadata": [{"fps": 8.0}]}  # 12 frames are 1.5 seconds
    made = RecognizerVideoProcessor(**saved | ({} if at_call else options))
    assert made(video, **clock, **(options if at_call else {}))["pixel_values_videos"].shape == shape


def test_options_of_pixels_are_honored(processor, frames):
    raw = _pixels(processor, frames, do_rescale=False, do_normalize=False)
    assert raw.max() > 1
    torch.testing.assert_close(_pixels(processor, frames, do_normalize=False), raw / 255)
    torch.testing.assert_close(_pixels(processor, frames, rescale_factor=-1.0, do_normalize=False), -raw)
    torch.testing.assert_close(_pixels(processor, frames, image_mean=0.5, image_std=0.25), (raw / 255 - 0.5) / 0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"do_convert_rgb": False}, "do_convert_rgb must be left out"),
        ({"do_pad": True}, "do_pad must be left out"),
        ({"data_format": "channels_last"}, "data_format must be left out"),
        ({"fps": 2}, "needs the duration"),
        ({"fps": 2, "num_frames": 2}, "both set the number of frames"),
        ({"video_metadata": [{}, {}]}, "one entry per video, got 2 for 1"),
        ({"do_center_crop": False, "num_crops": 3}, "num_crops must be 1"),
    ],
)
def test_options_of_videos_that_cannot_be_honored_are_refused(processor, frames, options, message):
    with pytest.raises(ValueError, match=message):
        processor.video_processor(frames, **options)
