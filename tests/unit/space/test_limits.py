"""What a visitor may ask for is checked before any work is done."""

import pytest

from kinoclip.space.limits import Limits, VisitError, check_video, pair_names, read_labels, read_names

LIMITS = Limits(megabytes=1, seconds=1.5, labels=3, letters=12)


def test_labels_stand_one_a_line():
    assert read_labels(" red circle \n\nblue, square\r\n", LIMITS) == ("red circle", "blue, square")


def test_a_single_line_is_cut_at_commas():
    assert read_labels("diving, archery,", LIMITS) == ("diving", "archery")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "There are no labels. Write what the video may show, one name a line."),
        (" \n \n", "There are no labels."),
        ("a\nb\nc\nd", "These are 4 labels. Write at most 3."),
        ("a\n" + "b" * 13, "Label 2 has 13 letters. Write at most 12 in a line."),
        ("a\na", "The label 'a' is given twice."),
    ],
)
def test_labels_that_cannot_be_used_are_refused_with_a_sentence(text, said):
    with pytest.raises(VisitError, match="^" + said.replace(".", r"\.")):
        read_labels(text, LIMITS)


def test_chinese_names_belong_to_the_labels_in_the_same_place():
    assert pair_names(("a", "b"), read_names("甲\n乙", LIMITS)) == {"a": "甲", "b": "乙"}
    assert pair_names(("a", "b"), ()) == {}
    with pytest.raises(VisitError, match="There are 2 labels, but 1 Chinese names"):
        pair_names(("a", "b"), ("甲",))


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    file = tmp_path / "large.mp4"
    file.write_bytes(bytes(1_600_000))
    with pytest.raises(VisitError, match=r"^This file has 2 MB\. Choose one of at most 1 MB"):
        check_video(str(file), LIMITS)


def test_a_video_that_is_too_long_is_refused(video_path):
    check_video(str(video_path), Limits(seconds=2.0))
    with pytest.raises(VisitError, match="Choose one of at most"):
        check_video(str(video_path), LIMITS)
