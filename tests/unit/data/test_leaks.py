import shutil

import pytest

from kinoclip.data import load_videos
from kinoclip.data.kinoshapes import kinoshapes_dataset
from kinoclip.data.leaks import check_leaks

LINES = {"train.txt": "a/1.mp4 0\na/2.mp4 0\nb/3.mp4 1\n", "test.txt": "b/3.mp4 1\na/2.mp4 0\nb/4.mp4 1\n"}


def test_clean_splits_pass():
    check_leaks(kinoshapes_dataset(3), kinoshapes_dataset(3, split="test"))


def test_a_file_in_both_lists_is_a_leak(plant):
    root = plant("a/1.mp4", "a/2.mp4", "b/3.mp4", "b/4.mp4", texts=LINES)
    train, test = (load_videos(root / name, labels=["a", "b"]) for name in LINES)
    with pytest.raises(ValueError, match=r"2 of 3 test videos are in training too: b/3.mp4; a/2.mp4"):
        check_leaks(train, test)


def test_a_copy_under_another_name_is_a_leak(plant):
    root = plant(
        texts={"train/x/1.mp4": "same", "train/x/2.mp4": "else", "test/x/9.mp4": "same", "test/x/8.mp4": "ours"}
    )
    train, test = (load_videos(root, split=split) for split in ("train", "test"))
    with pytest.raises(ValueError, match=r"1 of 2 .*: test/x/9.mp4 \(in training: train/x/1.mp4\)"):
        check_leaks(train, test)


def test_files_of_one_size_with_the_same_ends_may_differ_between(plant):
    ends = "e" * 65536
    root = plant(texts={"train/x/1.mp4": f"{ends}middle{ends}", "test/x/2.mp4": f"{ends}center{ends}"})
    check_leaks(load_videos(root, split="train"), load_videos(root, split="test"))


def test_the_same_bytes_in_two_data_sets_are_a_leak():
    dataset = kinoshapes_dataset(3)
    with pytest.raises(ValueError, match="1 of 1"):
        check_leaks(dataset, dataset.select([2]))


def test_folders_of_the_same_frames_are_a_leak(plant):
    root = plant(texts={"train/x/1/img_1.jpg": "frame", "test/x/7/img_1.jpg": "frame"})
    with pytest.raises(ValueError, match="test/x/7"):
        check_leaks(load_videos(root, split="train"), load_videos(root, split="test"))


def test_in_a_data_set_of_the_catalog_the_name_tells_even_another_encoding(plant):
    root = plant(texts={"train/yoga/-x_000001_000011.mp4": "one", "val/yoga/-x_000001_000011.webm": "another"})
    train, test = (load_videos(root, split=split, dataset="kinetics400") for split in ("train", "validation"))
    with pytest.raises(ValueError, match="1 of 1"):
        check_leaks(train, test)


def test_equal_names_of_different_videos_of_ones_own_are_no_leak(plant):
    root = plant(texts={"train/x/1.mp4": "one", "test/x/1.mp4": "another"})
    check_leaks(load_videos(root, split="train"), load_videos(root, split="test"))


def test_copies_are_found_by_what_they_hold_wherever_they_lie(plant, tmp_path):
    root = plant(texts={"x/1.mp4": "one", "y/2.mp4": "two"})
    shutil.copytree(root, tmp_path / "copy")
    with pytest.raises(ValueError, match="2 of 2"):
        check_leaks(load_videos(root), load_videos(tmp_path / "copy"))
