import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, AutoVideoProcessor

from kinoclip import BikeConfig, BikeProcessor, RecognizerVideoProcessor
from kinoclip.processing import check_labels
from kinoclip.video_processing import is_one_video


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


def test_several_templates_give_the_first_axis(bike_processor, tokenizer, tiny_fields):
    config = BikeConfig(**tiny_fields)
    processor = BikeProcessor.for_config(config, tokenizer, templates=["a {}.", "the {}"])
    assert processor(text=["star"])["input_ids"].shape == (2, 1, 77)


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
    assert loaded.video_processor.num_views == 12
    assert loaded.return_word_mask


def test_the_video_processor_alone_survives_too(tmp_path):
    processor = RecognizerVideoProcessor(num_frames=3, sampling="dense", size={"shortest_edge": 99})
    processor.save_pretrained(tmp_path)
    loaded = AutoVideoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert (loaded.num_frames, loaded.sampling, loaded.size["shortest_edge"]) == (3, "dense", 99)


def test_a_folder_holds_what_loads_it_without_this_package_being_imported(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert {"kinoclip_shim.py", "processor_config.json", "tokenizer.json"} <= {p.name for p in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("labels", "said"),
    [([], "no labels"), (["a", " "], "Label 2 of 2"), (["a", "b", "a"], "given twice"), (["a", 3], "Label 2 of 2")],
)
def test_labels_that_cannot_be_told_apart_are_an_error(labels, said):
    with pytest.raises(ValueError, match=said):
        check_labels(labels)


def test_nothing_to_process_is_an_error(processor):
    with pytest.raises(ValueError, match="nothing to process"):
        processor()


def test_an_empty_list_of_videos_is_an_error(processor):
    with pytest.raises(ValueError, match="list of videos is empty"):
        processor(videos=[])


def test_an_unknown_option_is_an_error(processor, frames):
    with pytest.raises(TypeError, match="num_frame"):
        processor(videos=frames, num_frame=3)


def test_other_tensors_than_torchs_are_an_error(processor):
    with pytest.raises(ValueError, match="use 'pt'"):
        processor(text=["a"], return_tensors="np")


def test_a_template_without_a_place_for_the_label_is_an_error(tokenizer, tiny_fields):
    with pytest.raises(ValueError, match="template"):
        BikeProcessor.for_config(BikeConfig(**tiny_fields), tokenizer, templates=["a video"])


def test_images_of_224_are_cut_from_256_and_others_from_their_own_size(tokenizer):
    assert BikeProcessor.for_config(BikeConfig(), None).size["shortest_edge"] == 256
    large = BikeConfig(vision_config={"image_size": 336, "patch_size": 14})
    assert BikeProcessor.for_config(large, None).size["shortest_edge"] == 336
