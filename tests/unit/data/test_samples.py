import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value, Video
from torch.utils.data import DataLoader

from kinoclip import RecognizerVideoProcessor
from kinoclip.data.augmentation import ClipAugmentation
from kinoclip.data.samples import ReadableSamples, VideoSamples, class_names, collate, collate_readable
from kinoclip.kinoshapes import encode_video, kinoshapes_dataset
from kinoclip.video import VideoDecodeError

UNCHANGED = {"crop": "center_crop", "flip": False, "grayscale": 0.0}
STILL = {"augmentation": ClipAugmentation(**UNCHANGED), "random_frames": False}


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


def rows_of(content, label, rows, **columns):
    features = Features({"video": Video(decode=False), "label": label, **columns})
    return Dataset.from_list([{"video": {"bytes": content, "path": None}, **row} for row in rows], features)


def gray_rows(label, rows, **columns):
    return rows_of(gray_video(), label, rows, **columns)


def levels(pixels, processor):
    """Return the gray levels of frames (..., T, 3, H, W), in tens."""
    red = pixels[..., 0, 16, 16] * processor.image_std[0] + processor.image_mean[0]
    return (red * 255 / 10).round().int().flatten().tolist()


def test_without_augmentation_a_sample_is_the_output_of_the_processor(dataset, processor):
    expected = processor.sample(dataset[1]["video"]["bytes"]).pixel_values
    sample = VideoSamples(dataset, processor)[1]
    assert torch.equal(sample["pixel_values_videos"], expected)
    assert (sample["labels"], sample["index"]) == (dataset[1]["label"], 1)
    samples = VideoSamples(dataset, processor, **STILL)
    for epoch in range(4):  # without flips, a center crop changes nothing
        samples.set_epoch(epoch)
        assert torch.equal(samples[1]["pixel_values_videos"], expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": "resized_crop"},
        {"crop": "multi_scale_crop", "color_jitter": 1.0},
        {"crop": "center_crop", "randaugment": [2, 9], "erasing": 1.0},
        {"crop": "center_crop", "rotation": 90.0},
    ],
    ids=str,
)
def test_the_same_seed_epoch_and_index_give_the_same_sample(dataset, processor, settings):
    augmentation = ClipAugmentation(**settings)
    first = VideoSamples(dataset, processor, seed=3, augmentation=augmentation)[2]
    torch.rand(7)
    second = VideoSamples(dataset, processor, seed=3, augmentation=augmentation)[2]
    assert torch.equal(first["pixel_values_videos"], second["pixel_values_videos"])
    assert first["pixel_values_videos"].shape == (1, 4, 3, 32, 32)


def test_another_epoch_or_pass_gives_another_crop(dataset, processor):
    samples = VideoSamples(dataset, processor, augmentation=ClipAugmentation())
    first, second = samples[1], samples[len(samples) + 1]
    assert (first["index"], second["index"], first["labels"]) == (1, 1, second["labels"])
    assert first["draw"] != second["draw"]
    assert not torch.equal(first["pixel_values_videos"], second["pixel_values_videos"])
    samples.set_epoch(1)
    assert not torch.equal(first["pixel_values_videos"], samples[1]["pixel_values_videos"])


def test_augmentation_keeps_the_state_of_torchs_generator(dataset, processor):
    samples = VideoSamples(
        dataset, processor, augmentation=ClipAugmentation("center_crop", randaugment=(2, 9), erasing=1.0)
    )
    before = torch.get_rng_state()
    samples[0]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("start", ["fork", "spawn"])  # of Linux; of macOS and Windows
def test_workers_change_nothing(dataset, processor, start):
    samples = VideoSamples(dataset, processor, augmentation=ClipAugmentation(randaugment=(2, 9)))
    alone = next(iter(DataLoader(samples, 4, collate_fn=collate)))
    loader = DataLoader(samples, 4, collate_fn=collate, num_workers=1, multiprocessing_context=start)
    assert torch.equal(next(iter(loader))["pixel_values_videos"], alone["pixel_values_videos"])


def test_every_frame_of_a_clip_is_changed_alike(processor):
    still = encode_video(np.full((16, 64, 96, 3), 90, np.uint8) + np.arange(96, dtype=np.uint8)[:, None], crf=0)
    dataset = rows_of(still, ClassLabel(names=["a"]), [{"label": 0}])
    options = {"color_jitter": 1.0, "randaugment": (2, 9), "erasing": 1.0}
    pixels = VideoSamples(dataset, processor, augmentation=ClipAugmentation(**options))[0]["pixel_values_videos"]
    # one grey level, which the encoder may move, is about 0.015
    assert (pixels - pixels[:, :1]).abs().max() < 0.1


def test_training_draws_one_frame_from_each_part_of_the_video(processor):
    dataset = gray_rows(ClassLabel(names=["a"]), [{"label": 0}])
    samples = VideoSamples(dataset, processor, augmentation=ClipAugmentation("center_crop"))
    seen = set()
    for epoch in range(12):
        samples.set_epoch(epoch)
        drawn = levels(samples[0]["pixel_values_videos"], processor)
        # 24 frames in 4 parts of 6
        assert [index // 6 for index in drawn] == [0, 1, 2, 3]
        seen.add(tuple(drawn))
    assert len(seen) > 4


def test_only_the_segment_of_a_video_is_read(processor):
    rows = [
        {"label": 0, "name": "a", "start": 1.0, "end": 1.5},  # at 8 frames per second: frames 8 to 11
        {"label": 0, "name": "b", "start": None, "end": float("nan")},  # all 24 frames
        {"label": 0, "name": "c", "start": 1.05, "end": 1.1},  # shorter than a frame
        {"label": 0, "name": "a clip", "start": 9.0, "end": 10.0},  # after the end
    ]
    columns = {"name": Value("string"), "start": Value("float64"), "end": Value("float64")}
    samples = VideoSamples(gray_rows(ClassLabel(names=["a"]), rows, **columns), processor)
    for index, expected in enumerate(([8, 9, 10, 11], [0, 6, 12, 18], [8, 8, 8, 8])):
        assert levels(samples[index]["pixel_values_videos"], processor) == expected
    with pytest.raises(VideoDecodeError, match=r"a clip: .*9.0 s.*3.0 s"):
        samples[3]


def test_several_labels_become_a_multi_hot_row(processor):
    dataset = gray_rows(List(ClassLabel(names=["a", "b", "c"])), [{"label": [0, 2]}, {"label": []}])
    batch = collate([VideoSamples(dataset, processor)[i] for i in range(2)])
    assert batch["labels"].tolist() == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


def test_discarded_frames_lie_between_the_kept_ones_with_the_same_crop(processor):
    processor.keep_every = 2
    dataset = gray_rows(ClassLabel(names=["a"]), [{"label": 0}])
    plain = VideoSamples(dataset, processor, discarded=True)[0]
    options = {"augmentation": ClipAugmentation(), "random_frames": False}
    cropped = VideoSamples(dataset, processor, discarded=True, **options)[0]
    for sample in (plain, cropped):
        # of frames 0, 6, 12, 18 the first and third are kept, and the fourth comes after the last kept one
        assert levels(sample["pixel_values_videos"], processor) == [0, 12]
        assert levels(sample["discarded_pixel_values"], processor) == [6]


def test_the_views_of_a_video_are_consecutive_in_a_batch(dataset, processor):
    processor.num_clips, processor.num_crops = 2, 3
    samples = VideoSamples(dataset, processor)
    batch = collate([samples[0], samples[3]])
    assert batch["pixel_values_videos"].shape == (12, 4, 3, 32, 32)
    assert torch.equal(batch["pixel_values_videos"][6:], samples[3]["pixel_values_videos"])
    assert batch["index"].tolist() == [0, 3]
    assert batch["labels"].tolist() == [dataset[0]["label"], dataset[3]["label"]]


@pytest.fixture
def broken(processor):
    """Four videos, of which the second and the last cannot be read."""
    rows = [{"label": 0, "name": name} for name in ("a", "#1 (bad).mp4", "c", "d")]
    dataset = gray_rows(ClassLabel(names=["a"]), rows, name=Value("string"))
    videos = [row["video"] for row in dataset]
    videos[1], videos[3] = {"bytes": b"no video", "path": None}, {"bytes": None, "path": "/nowhere/x.mp4"}
    dataset = dataset.remove_columns("video").add_column("video", videos, feature=Video(decode=False))
    return VideoSamples(dataset, processor, seed=1)


def test_an_unreadable_video_is_named(broken):
    with pytest.raises(VideoDecodeError, match=r"#1 \(bad\).mp4: "):
        broken[1]
    with pytest.raises(VideoDecodeError, match=r"/nowhere/x.mp4"):
        broken[3]


def test_a_batch_leaves_out_unreadable_videos_and_lists_them(broken):
    samples = ReadableSamples(broken)
    batch = collate_readable([samples[i] for i in range(4)])
    assert batch["index"].tolist() == [0, 2]
    assert [row for row, _ in batch["failed"]] == [1, 3]
    assert "#1 (bad).mp4" in batch["failed"][0][1]
    assert list(collate_readable([samples[1]])) == ["failed"]


def test_another_video_replaces_an_unreadable_one_reproducibly(broken):
    first, again = (ReadableSamples(broken, replacements=10)[1] for _ in range(2))
    assert first["index"] == again["index"] in (0, 2)
    assert first["failed"][0][0] == 1
    broken.dataset = broken.dataset.select([1])
    with pytest.raises(VideoDecodeError, match="bad"):
        ReadableSamples(broken, replacements=3)[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": 200}, "must be 0 to 180 degrees, got 200"),
        ({"erasing": 2}, "erasing must be a probability"),
        ({"crop": "crop"}, "must be one of center_crop"),
    ],
)
def test_invalid_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ClipAugmentation(**options)


def test_data_sets_without_random_access_or_classes_are_refused(dataset, processor):
    with pytest.raises(TypeError, match="without streaming"):
        VideoSamples(dataset.to_iterable_dataset(), processor)
    with pytest.raises(ValueError, match="ClassLabel"):
        class_names(gray_rows(Value("string"), [{"label": "a"}]))


def test_all_frames_of_a_clip_are_rotated_equally(processor):
    clips = np.zeros((24, 64, 64, 3), np.uint8)
    clips[:, :, :32] = 200  # the left half is bright in every frame
    dataset = rows_of(encode_video(clips, 8), ClassLabel(names=["a"]), [{"label": 0}])
    plain = VideoSamples(dataset, processor, **STILL)[0]["pixel_values_videos"][0]
    options = {**STILL, "augmentation": ClipAugmentation(**UNCHANGED, rotation=90.0)}
    turned = VideoSamples(dataset, processor, seed=1, **options)[0]["pixel_values_videos"][0]
    assert (turned - plain).abs().mean() > 0.1
    torch.testing.assert_close(turned[0], turned[3], atol=0.05, rtol=0)
