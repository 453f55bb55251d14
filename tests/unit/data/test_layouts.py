import os

import pytest

from kinoclip.data.layouts import FileTree, class_folders


def test_video_files_and_folders_of_frames_are_videos(plant):
    root = plant("a/x.mp4", "a/y/img_00001.jpg", "a/y/img_00002.jpg", "a/notes.txt", "b/z.WEBM")
    assert FileTree(root).videos == ["a/x.mp4", "a/y", "b/z.WEBM"]
    assert FileTree(root).others == ["a/notes.txt"]


def test_hidden_files_are_no_videos(plant):
    assert FileTree(plant("a/._x.mp4", "a/x.mp4", ".cache/y.mp4")).videos == ["a/x.mp4"]


def test_links_that_lead_round_in_circles_end(plant):
    root = plant("a/x.mp4")
    (root / "a" / "again").symlink_to(root)
    assert FileTree(root).videos == ["a/x.mp4"]


def test_a_file_is_found_below_other_folders_and_with_another_ending(plant):
    tree = FileTree(plant("train/riding_a_bike/-x_000001_000011.webm"))
    assert tree.find(["riding a bike/-x_000001_000011.mp4"]) == "train/riding_a_bike/-x_000001_000011.webm"


def test_of_files_with_one_name_the_one_in_the_most_similar_folders_is_meant(plant):
    tree = FileTree(plant("train/jump/1.mp4", "val/jump/1.mp4", "val/run/1.mp4"))
    assert tree.find(["/home/me/validation/jump/1.avi"]) == "val/jump/1.mp4"


def test_a_file_of_the_same_name_in_another_folder_is_another_video(plant):
    assert FileTree(plant("a/1.mp4")).find(["b/1.mp4"]) is None


def test_a_file_in_no_folder_is_found_by_its_name(plant):
    assert FileTree(plant("1.mp4")).find(["b/1.avi"]) == "1.mp4"


def test_a_name_that_several_files_fit_is_refused(plant):
    tree = FileTree(plant("a/1.mp4", "b/1.mp4"))
    with pytest.raises(ValueError, match=r"1.mp4 could be a/1.mp4 or b/1.mp4.*videos="):
        tree.find(["1.mp4"])


@pytest.mark.parametrize("name", ["!#&()[];~.mp4", "-dash.mp4", "ein \u00fcbler name.mp4", "a  b.c.mp4"])
def test_hostile_names_are_found(plant, name):
    assert FileTree(plant(f"class/{name}")).find([f"class/{name}"]) == f"class/{name}"


def test_a_name_with_accents_apart_is_the_same_name(plant):
    assert FileTree(plant("u\u0308ber.mp4")).find(["\u00fcber.mp4"]) == "u\u0308ber.mp4"


@pytest.mark.skipif(os.name == "nt", reason="names are UTF-16 there")
def test_a_name_that_is_no_text_is_refused(plant):
    root = plant("a.mp4")
    (root / os.fsdecode(b"\xff.mp4")).touch()
    with pytest.raises(ValueError, match=r"no UTF-8. Rename it"):
        FileTree(root).videos  # noqa: B018


def test_the_class_is_the_folder_and_the_split_the_folder_above():
    paths = ["train/jump/1.mp4", "val/run/2.mp4", "train/jump/more/3.mp4"]
    assert class_folders(paths) == {
        "train/jump/1.mp4": ("train", "jump"),
        "val/run/2.mp4": ("validation", "run"),
        "train/jump/more/3.mp4": ("train", "jump"),
    }


def test_a_folder_around_everything_is_no_class():
    assert class_folders(["videos/a/1.mp4", "videos/b/2.mp4"])["videos/a/1.mp4"] == (None, "a")


def test_known_classes_are_found_in_folders_of_any_depth():
    paths = ["part 1/brush_hair/brush_hair/1.avi", "other/2.avi"]
    assert class_folders(paths, ["brush hair"]) == {paths[0]: (None, "brush_hair"), paths[1]: (None, "other")}
