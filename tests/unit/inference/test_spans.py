"""Spans of long videos."""

import weakref

import pytest
import torch

from kinoclip import (
    ActionClipModel,
    ActionClipProcessor,
    BikeModel,
    BikeProcessor,
    Classifier,
    SllmModel,
    SllmProcessor,
)
from kinoclip.inference.spans import SlidingWindowClassifier, TimedFrame, Window, find_spans, join_windows
from kinoclip.kinoshapes.benchmark import benchmark_dataset
from kinoclip.methods.auto import mini_clip_path
from kinoclip.modeling.classification import Span
from kinoclip.video import VideoReader

LABELS = ("red circle", "blue square")


def build(model_class, processor_class, **fields):
    torch.manual_seed(0)
    model = model_class.from_clip(mini_clip_path(), **fields).eval()
    return Classifier(model, processor_class.from_clip(mini_clip_path(), model.config), "mini")


@pytest.fixture(scope="module")
def mini():
    return Classifier.load("mini")


def window(start, *probabilities):
    return Window(start, start + 1.0, torch.tensor(probabilities))


def stream(count):
    generator = torch.Generator().manual_seed(0)
    for i in range(count):
        yield TimedFrame(i / 4, torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8, generator=generator))


def test_every_object_of_an_untrimmed_clip_is_found_about_when_it_is_there(mini):
    row = benchmark_dataset("untrimmed", "test", clips_per_class=1)[0]
    names = ["red circle", "red square", "red star", "green circle", "green square", "green star"]
    names += ["blue circle", "blue square", "blue star"]
    spans = find_spans(row["video"]["bytes"], mini, names, frames_per_second=8, window=4)
    truth = row["spans"]
    assert [span.label for span in spans] == [known["label"] for known in truth]
    # a window of four frames at eight per second sees half a second to either side
    assert [span.start_seconds for span in spans] == pytest.approx([t["start_seconds"] for t in truth], abs=0.5)
    assert [span.end_seconds for span in spans] == pytest.approx([t["end_seconds"] for t in truth], abs=0.5)


@pytest.mark.parametrize(
    ("classifier", "alone"),
    [
        (lambda: build(BikeModel, BikeProcessor), True),
        (lambda: build(ActionClipModel, ActionClipProcessor, temporal_shift=True), False),
    ],
    ids=["bike", "actionclip with shift"],
)
def test_a_window_of_a_stream_gets_what_its_frames_get_as_a_clip(classifier, alone):
    classifier = classifier()
    windows = SlidingWindowClassifier(classifier, LABELS, hop=2)
    found = list(windows.windows(stream(12)))

    # windows of 8 frames begin at 0, 2 and 4
    frames = torch.stack([timed.frame for timed in stream(12)])[4:12]
    pixels = classifier.video_processor.prepare_frames(frames)[None]
    with torch.inference_mode():
        expected = classifier.model(pixel_values_videos=pixels, text_features=classifier.text).logits[0].softmax(-1)
    assert windows.encodes_alone is alone
    assert [window.start_seconds for window in found] == [0.0, 0.5, 1.0]
    torch.testing.assert_close(found[-1].probabilities, expected, atol=1e-5, rtol=0)


def test_sllm_looks_at_the_frames_it_keeps():
    base = BikeModel.from_clip(mini_clip_path(), temporal_head="none")
    model = SllmModel.from_recognizer(base, rate=2, num_frames=8).eval()
    classifier = Classifier(model, SllmProcessor.from_clip(mini_clip_path(), model.config), "sllm")
    windows = SlidingWindowClassifier(classifier, LABELS)
    assert not windows.encodes_alone
    assert len(list(windows.windows(stream(8)))) == 1


def test_each_frame_is_encoded_once(mini, monkeypatch):
    windows = SlidingWindowClassifier(mini, LABELS, hop=1)
    seen = []
    encode = mini.model.encode_frames
    monkeypatch.setattr(mini.model, "encode_frames", lambda pixels: seen.append(pixels.shape[1]) or encode(pixels))
    list(windows.windows(stream(40)))
    assert sum(seen) == 40


def test_frames_are_freed_after_a_window_and_a_batch(mini):
    alive, most = weakref.WeakSet(), 0

    def frames():
        nonlocal most
        for timed in stream(200):
            alive.add(timed.frame)
            most = max(most, len(alive))
            yield timed

    assert len(list(SlidingWindowClassifier(mini, LABELS).windows(frames()))) > 90
    # two batches of 16, and the frame that is made
    assert most <= 33


def test_a_stream_shorter_than_a_window_repeats_its_last_frame(mini):
    [only] = SlidingWindowClassifier(mini, LABELS).windows(stream(3))
    assert (only.start_seconds, only.end_seconds) == (0.0, 0.5)
    assert list(SlidingWindowClassifier(mini, LABELS).windows([])) == []


def test_windows_that_agree_become_one_span():
    windows = [window(0.0, 0.9, 0.1), window(1.0, 0.7, 0.3), window(2.0, 0.2, 0.8), window(3.0, 0.45, 0.55)]
    spans = list(join_windows(windows, LABELS, 2))

    # the middles are 0.5, 1.5, 2.5, 3.5: the border between the second and the third is 2
    assert spans == [
        Span(0.0, 2.0, "red circle", pytest.approx(0.8)),
        Span(2.0, 4.0, "blue square", pytest.approx(0.675)),
    ]


def test_background_and_labels_below_the_threshold_have_no_span():
    windows = [window(0.0, 0.4, 0.35, 0.25), window(1.0, 0.9, 0.1, 0.0), window(2.0, 0.1, 0.1, 0.8)]
    spans = list(join_windows(windows, (*LABELS, "nothing"), 2))
    assert spans == [Span(1.0, 2.0, "red circle", pytest.approx(0.9))]


def test_short_spans_are_left_out(mini):
    video = benchmark_dataset("untrimmed", "test", clips_per_class=1)[0]["video"]["bytes"]
    assert find_spans(video, mini, ["red circle", "green star"], min_seconds=60) == []


def test_wrong_numbers_are_named(mini):
    video = benchmark_dataset("untrimmed", "test", clips_per_class=1)[0]["video"]["bytes"]
    with pytest.raises(ValueError, match=r"threshold must be .* got 2"):
        find_spans(video, mini, LABELS, threshold=2)
    with pytest.raises(ValueError, match="frames_per_second must be above 0"):
        find_spans(video, mini, LABELS, frames_per_second=0)
    with pytest.raises(ValueError, match="window must be at least 1"):
        find_spans(video, mini, LABELS, window=0)


def test_pictures_without_a_clock_are_refused(mini):
    frames = torch.zeros(4, 32, 32, 3, dtype=torch.uint8).numpy()
    with VideoReader(frames) as reader:
        assert reader.duration_seconds is None
    with pytest.raises(ValueError, match="has no timestamps"):
        find_spans(frames, mini, LABELS)
