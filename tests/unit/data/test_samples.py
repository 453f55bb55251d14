import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value, Video
from torch.utils.data import DataLoader

from kinoclip import RecognizerVideoProcessor
from kinoclip.data.kinoshapes import encode_video, kinoshapes_dataset
from kinoclip.data.samples import VideoSamples, class_names, collate
from kinoclip.video import VideoDecodeError


@pytest.fixture(scope="module")
def dataset():
    return kinoshapes_dataset(4, seed=5)


@pytest.fixture
def processor():
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    return RecognizerVideoProcessor(num_frames=4, **sizes)


def gray_video(num_frames=24, fps=8):
    """A video whose frame i has the gray level 10 * i."""
    return encode_video(np.stack([np.full((64, 64, 3), 10 * i, np.uint8) for i in range(num_frames)]), fps)


def gray_rows(label, rows, **columns):
    features = Features({"video": Video(decode=False), "label": label, **columns})
    return Dataset.from_list([{"video": {"bytes": gray_video(), "path": None}, **row} for row in rows], features)


def levels(pixels, processor):
    """Read the gray levels of frames (..., T, 3, H, W) back, in tens."""
    red = pixels[..., 0, 16, 16] * processor.image_std[0] + processor.image_mean[0]
    return (red * 255 / 10).round().int().flatten().tolist()


def test_without_augmentation_a_sample_is_what_the_processor_makes(dataset, processor):
    expected = processor.sample(dataset[1]["video"]["bytes"]).pixel_values
    sample = VideoSamples(dataset, processor)[1]
    assert torch.equal(sample["pixel_values_videos"], expected)
    assert sample["labels"] == dataset[1]["label"]
    assert sample["index"] == 1


def test_a_center_crop_without_chance_is_what_the_processor_makes(dataset, processor):
    settings = {"augmentation": "center_crop", "flip": False, "grayscale": 0.0, "random_frames": False}
    sample = VideoSamples(dataset, processor, **settings)[1]
    assert torch.equal(sample["pixel_values_videos"], VideoSamples(dataset, processor)[1]["pixel_values_videos"])


@pytest.mark.parametrize(
    "settings",
    [
        {"augmentation": "resized_crop"},
        {"augmentation": "multi_scale_crop", "color_jitter": 1.0},
        {"augmentation": "center_crop", "randaugment": [2, 9], "erasing": 1.0},
        {"augmentation": "center_crop", "rotation": 90.0},
    ],
    ids=str,
)
def test_the_same_seed_epoch_and_index_give_the_same_sample(dataset, processor, settings):
    first = VideoSamples(dataset, processor, seed=3, **settings)[2]
    torch.rand(7)
    second = VideoSamples(dataset, processor, seed=3, **settings)[2]
    assert torch.equal(first["pixel_values_videos"], second["pixel_values_videos"])
    assert first["pixel_values_videos"].shape == (1, 4, 3, 32, 32)


def test_another_epoch_gives_another_crop(dataset, processor):
    samples = VideoSamples(dataset, processor, augmentation="resized_crop")
    first = samples[0]["pixel_values_videos"]
    samples.set_epoch(1)
    assert not torch.equal(first, samples[0]["pixel_values_videos"])


def test_augmenting_leaves_the_generator_of_torch_as_it_was(dataset, processor):
    samples = VideoSamples(dataset, processor, augmentation="center_crop", randaugment=(2, 9), erasing=1.0)
    before = torch.get_rng_state()
    samples[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_change_nothing(dataset, processor):
    samples = VideoSamples(dataset, processor, augmentation="resized_crop", randaugment=(2, 9))
    alone = next(iter(DataLoader(samples, 4, collate_fn=collate)))
    loader = DataLoader(samples, 4, collate_fn=collate, num_workers=1, multiprocessing_context="spawn")
    assert torch.equal(next(iter(loader))["pixel_values_videos"], alone["pixel_values_videos"])


def test_every_frame_of_a_clip_is_changed_alike(processor):
    still = encode_video(np.full((16, 64, 96, 3), 90, np.uint8) + np.arange(96, dtype=np.uint8)[:, None], crf=0)
    features = Features({"video": Video(decode=False), "label": ClassLabel(names=["a"])})
    dataset = Dataset.from_list([{"video": {"bytes": still, "path": None}, "label": 0}], features)
    options = {"color_jitter": 1.0, "randaugment": (2, 9), "erasing": 1.0}
    pixels = VideoSamples(dataset, processor, augmentation="resized_crop", **options)[0]["pixel_values_videos"]
    # one grey level, which the encoder may move, is about 0.015
    assert (pixels - pixels[:, :1]).abs().max() < 0.1


def test_a_flip_that_is_off_never_mirrors(dataset, processor):
    samples = VideoSamples(
        dataset, processor, augmentation="center_crop", flip=False, grayscale=0.0, random_frames=False
    )
    plain = VideoSamples(dataset, processor)
    for epoch in range(4):
        samples.set_epoch(epoch)
        assert torch.equal(samples[0]["pixel_values_videos"], plain[0]["pixel_values_videos"])


def test_training_draws_one_frame_from_each_part_of_the_video(processor):
    dataset = gray_rows(ClassLabel(names=["a"]), [{"label": 0}])
    samples = VideoSamples(dataset, processor, augmentation="center_crop")
    seen = set()
    for epoch in range(12):
        samples.set_epoch(epoch)
        drawn = levels(samples[0]["pixel_values_videos"], processor)
        # 24 frames in 4 parts of 6
        assert [index // 6 for index in drawn] == [0, 1, 2, 3]
        seen.add(tuple(drawn))
    assert len(seen) > 4


def test_a_segment_is_all_that_is_seen_of_a_video(processor):
    rows = [{"label": 0, "start": 1.0, "end": 1.5}, {"label": 0, "start": None, "end": float("nan")}]
    dataset = gray_rows(ClassLabel(names=["a"]), rows, start=Value("float64"), end=Value("float64"))
    samples = VideoSamples(dataset, processor)
    # at 8 frames per second: frames 8 to 11; and all 24
    assert levels(samples[0]["pixel_values_videos"], processor) == [8, 9, 10, 11]
    assert levels(samples[1]["pixel_values_videos"], processor) == [0, 6, 12, 18]


def test_a_segment_shorter_than_a_frame_shows_the_frame_on_the_screen(processor):
    columns = {"start": Value("float64"), "end": Value("float64")}
    dataset = gray_rows(ClassLabel(names=["a"]), [{"label": 0, "start": 1.05, "end": 1.1}], **columns)
    assert levels(VideoSamples(dataset, processor)[0]["pixel_values_videos"], processor) == [8, 8, 8, 8]


def test_a_segment_beyond_the_end_is_an_error_that_names_the_video(processor):
    columns = {"name": Value("string"), "start": Value("float64"), "end": Value("float64")}
    rows = [{"label": 0, "name": "a clip", "start": 9.0, "end": 10.0}]
    dataset = gray_rows(ClassLabel(names=["a"]), rows, **columns)
    with pytest.raises(VideoDecodeError, match=r"a clip: .*9.0 s.*3.0 s"):
        VideoSamples(dataset, processor)[0]


def test_several_labels_become_a_multi_hot_row(processor):
    dataset = gray_rows(List(ClassLabel(names=["a", "b", "c"])), [{"label": [0, 2]}, {"label": []}])
    batch = collate([VideoSamples(dataset, processor)[i] for i in range(2)])
    assert batch["labels"].tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_discarded_frames_lie_between_the_kept_ones_and_are_cropped_as_they_are(processor):
    processor.keep_every = 2
    dataset = gray_rows(ClassLabel(names=["a"]), [{"label": 0}])
    plain = VideoSamples(dataset, processor, discarded=True)[0]
    cropped = VideoSamples(dataset, processor, discarded=True, augmentation="resized_crop", random_frames=False)[0]
    for sample in (plain, cropped):
        # of frames 0, 6, 12, 18 the first and third are kept, and the fourth lies after the last kept one
        assert levels(sample["pixel_values_videos"], processor) == [0, 12]
        assert levels(sample["discarded_pixel_values"], processor) == [6]


def test_a_batch_has_the_views_of_a_video_one_behind_another(dataset, processor):
    processor.num_clips, processor.num_crops = 2, 3
    samples = VideoSamples(dataset, processor)
    batch = collate([samples[0], samples[3]])
    assert batch["pixel_values_videos"].shape == (12, 4, 3, 32, 32)
    assert torch.equal(batch["pixel_values_videos"][6:], samples[3]["pixel_values_videos"])
    assert batch["index"].tolist() == [0, 3]
    assert batch["labels"].tolist() == [dataset[0]["label"], dataset[3]["label"]]


def test_an_unreadable_video_is_named(processor):
    features = Features({"video": Video(decode=False), "label": ClassLabel(names=["a"]), "name": Value("string")})
    rows = [
        {"video": {"bytes": b"no video", "path": None}, "label": 0, "name": "#1 (bad).mp4"},
        {"video": {"bytes": None, "path": "/nowhere/x.mp4"}, "label": 0, "name": "x.mp4"},
    ]
    samples = VideoSamples(Dataset.from_list(rows, features), processor)
    with pytest.raises(VideoDecodeError, match=r"#1 \(bad\).mp4: "):
        samples[0]
    with pytest.raises(VideoDecodeError, match=r"/nowhere/x.mp4"):
        samples[1]


def test_an_unknown_option_is_refused_with_the_known_ones(dataset, processor):
    with pytest.raises(TypeError, match=r"no option mixup. It has flip, grayscale"):
        VideoSamples(dataset, processor, augmentation="resized_crop", mixup=0.8)


def test_an_option_without_augmentation_is_refused(dataset, processor):
    with pytest.raises(ValueError, match="augmentation='center_crop'"):
        VideoSamples(dataset, processor, flip=True)


def test_a_streamed_data_set_is_refused_with_a_way_out(dataset, processor):
    with pytest.raises(TypeError, match="without streaming"):
        VideoSamples(dataset.to_iterable_dataset(), processor)


def test_labels_that_are_no_classes_are_refused_with_a_way_out(processor):
    dataset = gray_rows(Value("string"), [{"label": "a"}])
    with pytest.raises(ValueError, match="ClassLabel"):
        class_names(dataset)


def test_a_clip_is_turned_as_a_whole(processor):
    clips = np.zeros((24, 64, 64, 3), np.uint8)
    clips[:, :, :32] = 200  # the left half is bright in every frame
    features = Features({"video": Video(decode=False), "label": ClassLabel(names=["a"])})
    dataset = Dataset.from_list([{"video": {"bytes": encode_video(clips, 8), "path": None}, "label": 0}], features)
    settings = {"augmentation": "center_crop", "flip": False, "grayscale": 0.0, "random_frames": False}
    plain = VideoSamples(dataset, processor, **settings)[0]["pixel_values_videos"][0]
    turned = VideoSamples(dataset, processor, seed=1, rotation=90.0, **settings)[0]["pixel_values_videos"][0]
    assert (turned - plain).abs().mean() > 0.1
    torch.testing.assert_close(turned[0], turned[3], atol=0.05, rtol=0)


def test_an_angle_beyond_half_a_turn_is_refused(dataset, processor):
    with pytest.raises(ValueError, match=r"rotation is 200\. Give degrees from 0 to 180"):
        VideoSamples(dataset, processor, augmentation="center_crop", rotation=200)


def test_a_second_pass_over_a_video_draws_other_random_numbers(dataset, processor):
    samples = VideoSamples(dataset, processor, augmentation="resized_crop")
    first, second = samples[1], samples[len(samples) + 1]
    assert (first["index"], second["index"], first["labels"]) == (1, 1, second["labels"])
    assert first["draw"] != second["draw"]
    assert not torch.equal(first["pixel_values_videos"], second["pixel_values_videos"])
