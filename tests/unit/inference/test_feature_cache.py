"""Stored features: when they are used, and when they are computed again."""

import json
import logging
import os
import shutil

import pytest
import torch
from PIL import Image

from kinoclip import Classifier, Text4VisConfig, Text4VisModel, VideoDecodeError
from kinoclip.inference.batch_job import ClassifyJob
from kinoclip.inference.feature_cache import FeatureCache
from kinoclip.modeling.outputs import TextFeatures

LABELS = ("red circle", "blue square")


@pytest.fixture
def classifier(clip_folder):
    return Classifier.load(clip_folder)


@pytest.fixture
def cache(classifier, tmp_path):
    return FeatureCache(tmp_path / "features", classifier.model, classifier.video_processor)


@pytest.fixture
def clip(video_path, tmp_path):
    return shutil.copy(video_path, tmp_path / "clip.mp4")


def label(classifier, cache, video, labels=LABELS):
    return json.dumps(list(ClassifyJob(classifier, labels, features=cache).label([str(video)])))


@pytest.fixture
def no_pixels(classifier, monkeypatch):
    """Make decoding and the vision tower fail from here on, when it is called."""

    def refuse(*_, **__):
        raise AssertionError("something was decoded or encoded")

    def apply():
        monkeypatch.setattr(type(classifier.video_processor), "sample", refuse)
        monkeypatch.setattr(type(classifier.model), "encode_frames", refuse)

    return apply


def test_a_second_job_decodes_and_encodes_nothing_and_gives_the_same_records(classifier, cache, clip, no_pixels):
    plain = label(classifier, None, clip)
    first = label(classifier, cache, clip)
    others = label(classifier, None, clip, ("green star", "red ring"))
    no_pixels()
    assert label(classifier, cache, clip) == first == plain
    assert label(classifier, cache, clip, ("green star", "red ring")) == others


def test_a_moved_video_and_a_folder_of_frames_are_recognized(classifier, cache, clip, tmp_path, no_pixels):
    (tmp_path / "frames").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 0, 0)).save(tmp_path / "frames" / f"{number}.png")
    first = label(classifier, cache, tmp_path / "frames")
    label(classifier, cache, clip)
    clip.rename(tmp_path / "moved.mp4")
    no_pixels()
    label(classifier, cache, tmp_path / "moved.mp4")
    assert label(classifier, cache, tmp_path / "frames") == first


def test_a_changed_video_is_read_again_though_name_size_and_time_stay(classifier, cache, clip):
    label(classifier, cache, clip)
    before = clip.stat()
    content = bytearray(clip.read_bytes())
    content[-1] ^= 1
    clip.write_bytes(content)
    os.utime(clip, ns=(before.st_atime_ns, before.st_mtime_ns))
    label(classifier, cache, clip)
    assert len(list(cache.store.folder.iterdir())) == 2


def test_a_video_that_changes_while_it_is_read_is_not_stored(classifier, cache, clip, monkeypatch):
    sample = type(classifier.video_processor).sample

    def change(self, video, **options):
        found = sample(self, video, **options)
        clip.write_bytes(clip.read_bytes() + b"more")
        return found

    monkeypatch.setattr(type(classifier.video_processor), "sample", change)
    label(classifier, cache, clip)
    assert not list(cache.store.folder.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        lambda model, processor: setattr(processor, "num_frames", 4),
        lambda model, processor: setattr(processor, "sampling", "uniform"),
        lambda model, processor: model.to(torch.bfloat16),
        lambda model, processor: next(model.vision_model.parameters()).data.mul_(2),
    ],
    ids=["frames", "sampling", "dtype", "weights"],
)
def test_another_model_or_processor_has_features_of_its_own(classifier, cache, clip, change):
    label(classifier, cache, clip)
    change(classifier.model, classifier.video_processor)
    other = FeatureCache(cache.store.folder, classifier.model, classifier.video_processor)
    label(Classifier(classifier.model, classifier.processor), other, clip)
    assert len(list(cache.store.folder.iterdir())) == 2


def flip_last_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "said"),
    [(lambda path: path.write_bytes(path.read_bytes()[:-100]), "is not used"), (flip_last_bit, "content has changed")],
    ids=["truncated", "flipped bit"],
)
def test_a_damaged_file_is_named_and_computed_again(classifier, cache, clip, damage, said, caplog):
    first = label(classifier, cache, clip)
    [path] = cache.store.folder.iterdir()
    damage(path)
    with caplog.at_level(logging.WARNING):
        assert label(classifier, cache, clip) == first
    assert str(path) in caplog.text
    assert said in caplog.text
    caplog.clear()
    assert label(classifier, cache, clip) == first
    assert not caplog.text


def test_features_of_another_video_are_not_believed(classifier, cache, clip, tmp_path, caplog):
    first = label(classifier, cache, clip)
    [path] = cache.store.folder.iterdir()
    other = tmp_path / "other.mp4"
    other.write_bytes(clip.read_bytes() + b"more")
    label(classifier, cache, other)
    [second] = set(cache.store.folder.iterdir()) - {path}
    shutil.copy(second, path)
    assert label(classifier, cache, clip) == first
    assert "it holds something else" in caplog.text


def test_a_video_that_cannot_be_read_leaves_nothing(cache, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoDecodeError):
        cache.read(str(tmp_path / "broken.mp4"))
    with pytest.raises(FileNotFoundError):
        cache.read(str(tmp_path / "none.mp4"))
    assert not list(cache.store.folder.iterdir())


def test_a_model_whose_frames_depend_on_more_is_refused_with_the_reason(tiny_fields, bike_processor, tmp_path):
    class Prompted(Text4VisModel):
        def encode_frames(self, pixel_values_videos, input_ids):
            raise NotImplementedError

    model = Prompted(Text4VisConfig(**tiny_fields))
    with pytest.raises(ValueError, match=r"depend on more than the pixels \(input_ids\)"):
        FeatureCache(tmp_path / "features", model, bike_processor.video_processor)


def test_an_encoded_video_cannot_be_explained(classifier, cache, clip):
    encoded = cache.encode([cache.read(str(clip))])
    classifier.set_labels(LABELS)
    with pytest.raises(ValueError, match="encoded already"):
        classifier.answers(encoded, explain=True)


@pytest.mark.parametrize("change", ["nothing", "labels", "damage"])
def test_texts_are_read_once_and_again_after_a_change(classifier, tmp_path, monkeypatch, caplog, change):
    def encode(labels):
        other = Classifier(classifier.model, classifier.processor)
        other.store_features(tmp_path)
        other.set_labels(labels)
        return other.text

    first = encode(LABELS)
    read = []
    plain = type(classifier.model).encode_text
    monkeypatch.setattr(type(classifier.model), "encode_text", lambda *a, **k: read.append(k) or plain(*a, **k))
    (file,) = tmp_path.iterdir()
    if change == "damage":
        flip_last_bit(file)
    again = encode(LABELS[::-1] if change == "labels" else LABELS)

    assert len(read) == (change != "nothing")
    assert ("its content has changed" in caplog.text) == (change == "damage")
    expected = first.embeds.flip(1) if change == "labels" else first.embeds
    torch.testing.assert_close(again.embeds, expected)


def test_the_features_of_words_and_chinese_names_are_stored_too(cache, classifier):
    text = TextFeatures(
        embeds=torch.rand(1, 2, 4), words=torch.rand(2, 3, 4), branches={"chinese": torch.rand(1, 2, 5)}
    )
    classifier.model.encode_text = lambda **_: text
    inputs = {"input_ids": torch.ones(1, 2, 3, dtype=torch.long)}
    cache.encode_text(**inputs)
    classifier.model.encode_text = None
    found = cache.encode_text(**inputs)
    assert torch.equal(found.words, text.words)
    assert torch.equal(found.branches["chinese"], text.branches["chinese"])
    assert found.word_mask is None


def test_the_key_of_a_video_is_that_of_its_content_and_settings(cache, clip):
    store = cache.store
    assert store.video_key(clip) == store.video_key(clip.read_bytes()) != store.video_key(clip, [0.0, 1.0])
