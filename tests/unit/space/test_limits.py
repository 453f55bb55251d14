"""What a visitor may ask for is checked before any work is done."""

import numpy as np
import pytest

from kinoclip.kinoshapes import write_video
from kinoclip.space.limits import Limits, VisitError, check_video, pair_names, read_labels, read_names
from kinoclip.video import VideoReader

LIMITS = Limits(megabytes=1, seconds=1.5, labels=3, letters=12)


def test_labels_stand_one_a_line():
    assert read_labels(" red circle \n\nblue, square\r\n", LIMITS) == ("red circle", "blue, square")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Labels are missing. Write what the video may show, one label per line."),
        (" \n \n", "Labels are missing."),
        ("a\nb\nc\nd", "At most 3 labels are allowed, got 4."),
        ("a\n" + "b" * 13, "A label may have at most 12 letters, label 2 has 13."),
        ("a\na", "The label 'a' is given twice."),
    ],
)
def test_labels_that_cannot_be_used_are_refused_with_a_sentence(text, message):
    with pytest.raises(VisitError, match="^" + message.replace(".", r"\.")):
        read_labels(text, LIMITS)


def test_chinese_names_belong_to_the_labels_in_the_same_place():
    assert pair_names(("a", "b"), read_names("甲\n乙", LIMITS)) == {"a": "甲", "b": "乙"}
    assert pair_names(("a", "b"), ()) == {}
    with pytest.raises(VisitError, match="got 2 labels and 1 names"):
        pair_names(("a", "b"), ("甲",))


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    file = tmp_path / "large.mp4"
    file.write_bytes(bytes(1_600_000))
    with pytest.raises(VisitError, match=r"^A file may have at most 1 MB, got 2 MB"):
        check_video(str(file), LIMITS)


def test_the_pixels_to_decode_are_counted_and_bounded(video_path):
    with VideoReader(video_path) as reader:
        pixels = reader.num_frames * reader.height * reader.width
    assert check_video(str(video_path), Limits()) == check_video(str(video_path), Limits(), 8) == pixels
    small = Limits(gigapixels=pixels / 2e9)
    with pytest.raises(
        VisitError, match=r"million pixels to decode, .* smaller version, or switch the time line off\."
    ):
        check_video(str(video_path), small)
    with pytest.raises(VisitError, match=r"smaller version\.$"):
        check_video(str(video_path), small, 8)


def test_only_frames_near_the_sampled_ones_count(tmp_path):
    path = write_video(tmp_path / "long.mp4", np.zeros((200, 32, 32, 3), np.uint8))
    assert check_video(str(path), Limits(), 2) == 2 * 60 * 32 * 32
    assert check_video(str(path), Limits()) == 200 * 32 * 32


def test_a_video_that_is_too_long_is_refused(video_path):
    check_video(str(video_path), Limits(seconds=2.0))
    with pytest.raises(VisitError, match="A video may last at most"):
        check_video(str(video_path), LIMITS)
