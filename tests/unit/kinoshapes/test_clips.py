"""KinoShapes: the pixels agree with the labels, spans and masks."""

import io
import json
from dataclasses import replace

import av
import numpy as np
import pytest

from kinoclip.kinoshapes import (
    BACKGROUNDS,
    OBJECTS,
    SHAPES,
    VERBS,
    ClipSpec,
    Segment,
    clip_generator,
    encode_video,
    kinoshapes_clips,
    kinoshapes_dataset,
    label_names,
    render,
    sample_spec,
    write_kinoshapes,
    write_video,
)

GROWING = Segment("red", "star", "growing", 0, 12)


def act(verb, shape="circle", seed=5, **options):
    """One object that does one thing for 16 frames."""
    return render(ClipSpec((Segment("red", shape, verb, 0, 16),), seed=seed, **options))


def centroids(clip):
    """(x, y) of the object in each frame."""
    return np.array([[columns.mean(), rows.mean()] for rows, columns in map(np.nonzero, clip.masks)])


def decode(content):
    with av.open(io.BytesIO(content)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_the_same_seed_gives_the_same_bytes():
    options = {"untrimmed": True, "num_segments": 2, "distractors": 2}
    first, second = (render(sample_spec(clip_generator(7, "train", 3), **options)) for _ in range(2))
    assert first.spec == second.spec
    assert first.frames.tobytes() == second.frames.tobytes()
    assert first.masks.tobytes() == second.masks.tobytes()
    assert (first.frames.shape, first.frames.dtype) == ((16, 96, 128, 3), np.uint8)
    assert (first.masks.shape, first.masks.dtype) == ((16, 96, 128), np.bool_)


@pytest.mark.parametrize("other", [(8, "train", 3), (7, "test", 3), (7, "train", 4)])
def test_another_seed_split_or_index_gives_another_clip(other):
    first, second = (render(sample_spec(clip_generator(*key))) for key in ((7, "train", 3), other))
    assert not np.array_equal(first.frames, second.frames)


@pytest.mark.parametrize(
    ("verb", "axis", "sign"),
    [("moving left", 0, -1), ("moving right", 0, 1), ("moving up", 1, -1), ("moving down", 1, 1)],
)
def test_a_motion_has_the_direction_of_its_name(verb, axis, sign):
    steps = np.diff(centroids(act(verb)), axis=0)
    assert (steps[:, axis] * sign > 0.5).all()
    assert np.abs(steps[:, 1 - axis]).max() < 0.5


def test_what_grows_gains_area_and_what_shrinks_loses_it():
    for verb, sign in (("growing", 1), ("shrinking", -1)):
        assert (np.diff(act(verb).masks.sum(axis=(1, 2)).astype(int)) * sign > 0).all()


def test_what_spins_stays_in_place_and_changes_its_pixels():
    clip = act("spinning", shape="circle")
    assert np.ptp(centroids(clip), axis=0).max() < 1
    assert (clip.frames[0] != clip.frames[5]).any()


def test_what_bounces_goes_up_twice_and_what_circles_returns():
    path = centroids(act("bouncing"))
    assert list(np.sign(np.diff(np.sign(np.diff(path[:, 1]))))).count(-1) == 2
    assert np.ptp(path[:, 0]) < 0.5
    path = centroids(act("circling"))
    assert np.hypot(*(path[0] - path[-1])) < 1
    assert np.ptp(path, axis=0).min() > 20


def test_what_blinks_is_visible_for_two_frames_and_hidden_for_two():
    # 8 frames per second / 4 = 2 frames on, 2 frames off.
    assert act("blinking").masks.any(axis=(1, 2)).tolist() == [True, True, False, False] * 4


def test_left_and_right_hold_the_same_frames_in_another_order():
    left, right = (centroids(act(verb))[:, 0] for verb in ("moving left", "moving right"))
    np.testing.assert_allclose(left, right[::-1], atol=0.5)


@pytest.mark.parametrize(("shape", "background"), list(zip(SHAPES, BACKGROUNDS, strict=True)))
def test_the_mask_covers_the_pixels_of_the_objects_color(shape, background):
    clip = act("circling", shape=shape, background=background)
    red, green, blue = np.moveaxis(clip.frames.astype(int), -1, 0)
    reddish = (red > 1.8 * green) & (red > 1.8 * blue)
    assert (reddish == clip.masks).mean() > 0.98
    assert clip.masks.any(axis=(1, 2)).all()


def test_an_object_stays_inside_the_central_square():
    for verb in VERBS:
        masks = act(verb).masks
        assert not any(part.any() for part in (masks[:, :, :16], masks[:, :, -16:], masks[:, [0, -1]]))


def test_an_untrimmed_clip_is_empty_outside_its_span():
    clip = render(sample_spec(np.random.default_rng(2), verb="spinning", untrimmed=True))
    span = clip.spans[0]
    expected = [span.start_frame <= frame < span.end_frame for frame in range(16)]
    assert clip.masks.any(axis=(1, 2)).tolist() == expected
    assert 6 <= sum(expected) <= 9


def test_a_span_has_frames_and_seconds():
    segments = (Segment("red", "star", "growing", 4, 10), Segment("blue", "ring", "spinning", 10, 16))
    clip = render(ClipSpec(segments, background="striped", fps=8))
    first, second = clip.spans
    assert (first.label, first.start_seconds, first.end_seconds) == ("red star", 0.5, 1.25)
    assert (second.label, second.start_frame, second.end_frame) == ("blue ring", 10, 16)
    assert clip.caption == "a red star growing then a blue ring spinning on a striped background"
    assert second.caption == "a blue ring spinning on a striped background"


def test_two_segments_show_two_different_objects():
    spec = sample_spec(np.random.default_rng(0), num_segments=2, labels=["red circle", "blue square"])
    assert sorted(segment.label for segment in spec.segments) == ["blue square", "red circle"]


def test_distractors_change_frames_but_not_masks():
    spec = ClipSpec((Segment("red", "circle", "blinking", 0, 16),), seed=3)
    plain, crowded = render(spec), render(replace(spec, distractors=2))
    assert not np.array_equal(plain.frames[2], crowded.frames[2])
    assert not crowded.masks[2].any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segment("pink", "star", "growing", 0, 4), "color must be one of red, .*, got 'pink'"),
        (lambda: Segment("red", "star", "growing", 4, 4), "is empty"),
        (lambda: ClipSpec((GROWING,), num_frames=8), "end within 8 frames"),
        (lambda: ClipSpec((GROWING, replace(GROWING, start=8))), "must not overlap"),
        (lambda: ClipSpec((GROWING,), background="pink"), "background must be one of plain, .*, got 'pink'"),
        (lambda: ClipSpec((GROWING,), height=20), "at least 32 pixels, got 128x20"),
        (lambda: label_names("mood"), "one of object, .*, got 'mood'"),
        (lambda: clip_generator(0, "dev", 0), "one of train, validation, test, got 'dev'"),
        (lambda: sample_spec(np.random.default_rng(0), label="pink star"), "label='pink star'"),
        (lambda: encode_video(np.zeros((2, 33, 32, 3), np.uint8)), "even width and height, got 32x33"),
        (lambda: encode_video(np.zeros((2, 32, 32, 3))), "must be uint8"),
    ],
)
def test_an_invalid_value_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_written_video_decodes_to_its_frames(tmp_path):
    clip = act("moving left", background="checkered")
    path = write_video(tmp_path / "clip.mp4", clip.frames, fps=8)
    frames = decode(path.read_bytes())
    assert frames.shape == clip.frames.shape
    # crf 18 loses little: under 4 of 255 on average.
    assert np.abs(frames.astype(int) - clip.frames).mean() < 4
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_folder_holds_videos_masks_and_metadata(tmp_path):
    records = write_kinoshapes(tmp_path / "kino", 3, seed=1, label="verb", split="test")
    lines = (tmp_path / "kino" / "metadata.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == records
    assert [record["label"] for record in records] == list(VERBS[:3])
    clip = next(kinoshapes_clips(1, 1, split="test", label="verb"))
    assert np.array_equal(np.load(tmp_path / "kino" / records[0]["masks"])["masks"], clip.masks)
    assert len(decode((tmp_path / "kino" / records[0]["file_name"]).read_bytes())) == 16


def test_a_folder_with_files_is_kept_and_a_failure_leaves_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("keep me")
    with pytest.raises(FileExistsError, match="not empty"):
        write_kinoshapes(tmp_path / "a", 1)
    assert (tmp_path / "a" / "notes.txt").read_text() == "keep me"
    with pytest.raises(ValueError, match="labels"):
        write_kinoshapes(tmp_path / "kino", 1, num_segments=9)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_labels_are_even_and_can_be_limited():
    clips = kinoshapes_clips(12, label="shape", height=32, width=32, num_frames=4)
    assert [clip.shape for clip in clips] == [*SHAPES, *SHAPES]
    clips = kinoshapes_clips(4, labels=["red circle", "blue ring"], num_frames=4)
    assert [clip.label for clip in clips] == ["red circle", "blue ring"] * 2


def test_a_dataset_has_bytes_class_ids_captions_and_spans():
    dataset = kinoshapes_dataset(3, seed=1, untrimmed=True)
    row = dataset[1]
    assert dataset.features["label"].names == list(OBJECTS)
    assert dataset.features["label"].int2str(row["label"]) == row["object"] == "red square"
    assert len(decode(row["video"]["bytes"])) == row["num_frames"] == 16
    assert row["spans"][0]["label"] == "red square"
    assert row["spans"][0]["caption"] == row["caption"]
