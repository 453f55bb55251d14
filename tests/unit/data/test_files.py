import os

import pytest

from kinoclip.data.files import FileTree, class_folders


def test_video_files_and_folders_of_frames_are_videos_and_hidden_files_are_not(plant):
    root = plant("a/x.mp4", "a/y/img_1.jpg", "a/y/img_2.jpg", "a/notes.txt", "b/z.WEBM", "a/._x.mp4", ".cache/y.mp4")
    (root / "a" / "again").symlink_to(root)  # a cycle
    assert FileTree(root).videos == ["a/x.mp4", "a/y", "b/z.WEBM"]
    assert FileTree(root).others == ["a/notes.txt"]


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [
        (["train/riding_a_bike/-x_1.webm"], "riding a bike/-x_1.mp4", "train/riding_a_bike/-x_1.webm"),
        (["train/jump/1.mp4", "val/jump/1.mp4", "val/run/1.mp4"], "/me/validation/jump/1.avi", "val/jump/1.mp4"),
        (["a/1.mp4"], "b/1.mp4", None),  # another folder is another video
        (["1.mp4"], "b/1.avi", "1.mp4"),
        (["u\u0308ber.mp4"], "\u00fcber.mp4", "u\u0308ber.mp4"),  # macOS decomposes accents
        (["a/1.data"], "a/1.data", "a/1.data"),
        (["1.mp4"], "../data/1.data", None),
        *((["class/" + n], "class/" + n, "class/" + n) for n in ("!#&()[];~.mp4", "-dash.mp4", "a  b.c.mp4")),
    ],
)
def test_a_video_is_found_by_the_names_of_an_annotation(plant, files, name, found):
    assert FileTree(plant(*files)).find([name]) == found


def test_a_name_that_several_files_match_is_refused(plant):
    with pytest.raises(ValueError, match=r"1.mp4 could be a/1.mp4 or b/1.mp4.*videos="):
        FileTree(plant("a/1.mp4", "b/1.mp4")).find(["1.mp4"])


@pytest.mark.skipif(os.name == "nt", reason="names are UTF-16 there")
def test_a_file_name_that_is_not_utf8_is_refused(plant):
    root = plant("a.mp4")
    (root / os.fsdecode(b"\xff.mp4")).touch()
    with pytest.raises(ValueError, match=r"is not UTF-8. Rename it"):
        FileTree(root).videos  # noqa: B018


def test_the_class_is_the_folder_and_the_split_the_folder_above():
    paths = ["train/jump/1.mp4", "val/run/2.mp4", "train/jump/more/3.mp4"]
    splits = [("train", "jump"), ("validation", "run"), ("train", "jump")]
    assert class_folders(paths) == dict(zip(paths, splits, strict=True))
    assert class_folders(["videos/a/1.mp4", "videos/b/2.mp4"])["videos/a/1.mp4"] == (None, "a")


def test_known_classes_are_found_in_folders_of_any_depth():
    paths = ["part 1/brush_hair/brush_hair/1.avi", "other/2.avi"]
    assert class_folders(paths, ["brush hair"]) == {paths[0]: (None, "brush_hair"), paths[1]: (None, "other")}
