import shutil

import pytest

from kinoclip.data import load_videos
from kinoclip.data.leaks import check_leaks
from kinoclip.kinoshapes import kinoshapes_dataset

ENDS = "e" * 65536  # only the ends of files are read first


@pytest.fixture
def check(plant):
    def check_splits(texts, other="test", **options):
        root = plant(texts=texts)
        check_leaks(*(load_videos(root, split=split, **options) for split in ("train", other)))

    return check_splits


def test_a_file_in_both_lists_is_a_leak(plant):
    lists = {"train.txt": "a/1.mp4 0\na/2.mp4 0\nb/3.mp4 1\n", "test.txt": "b/3.mp4 1\na/2.mp4 0\nb/4.mp4 1\n"}
    root = plant("a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4", texts=lists)
    with pytest.raises(ValueError, match=r"2 of 3 test videos are in training too: b/3.mp4; a/2.mp4"):
        check_leaks(*(load_videos(root / name, labels=["a", "b"]) for name in lists))


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (
            {"train/x/1.mp4": "same", "train/x/2.mp4": "else", "test/x/9.mp4": "same", "test/x/8.mp4": "ours"},
            {},
            r"1 of 2 .*: test/x/9.mp4 \(in training: train/x/1.mp4\)",
        ),
        ({"train/x/1/img_1.jpg": "frame", "test/x/7/img_1.jpg": "frame"}, {}, "test/x/7"),
        # a name of the catalog identifies a video in any encoding
        (
            {"train/yoga/-x_000001_000011.mp4": "one", "val/yoga/-x_000001_000011.webm": "another"},
            {"dataset": "kinetics400", "other": "validation"},
            "1 of 1",
        ),
    ],
    ids=["copy", "frames", "catalog"],
)
def test_the_same_video_under_another_name_or_encoding_is_a_leak(check, texts, options, message):
    with pytest.raises(ValueError, match=message):
        check(texts, **options)


@pytest.mark.parametrize(
    "texts",
    [
        {"train/x/1.mp4": "one", "test/x/1.mp4": "another"},
        {"train/x/1.mp4": f"{ENDS}middle{ENDS}", "test/x/2.mp4": f"{ENDS}center{ENDS}"},
    ],
    ids=["equal names", "equal ends"],
)
def test_different_videos_are_not_a_leak(check, texts):
    check(texts)


def test_copies_are_found_by_their_content_in_any_folder_and_in_memory(plant, tmp_path):
    root = plant(texts={"x/1.mp4": "one", "y/2.mp4": "two"})
    shutil.copytree(root, tmp_path / "copy")
    with pytest.raises(ValueError, match="2 of 2"):
        check_leaks(load_videos(root), load_videos(tmp_path / "copy"))
    clips = kinoshapes_dataset(3)
    check_leaks(clips, kinoshapes_dataset(3, split="test"))
    with pytest.raises(ValueError, match="1 of 1"):
        check_leaks(clips, clips.select([2]))
