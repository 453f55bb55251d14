import json

import pytest

from kinoclip.data import Coverage, load_videos
from kinoclip.data.catalog import recognize
from kinoclip.data.files import FileTree


def rows(dataset):
    """Return name and label of each row."""
    names = dataset.features["label"].names
    return sorted((row["name"], names[row["label"]]) for row in dataset)


KINETICS = """label,youtube_id,time_start,time_end,split
"petting cat",-abc,5,15,{split}
"massaging person's head",xyz,12,22,{split}
"""


def test_kinetics_files_have_id_and_seconds_and_lie_in_folders_of_classes(plant):
    root = plant("val/petting_cat/-abc_000005_000015.mp4", texts={"validate.csv": KINETICS.format(split="val")})
    dataset = load_videos(root, split="validation", dataset="kinetics400")
    assert rows(dataset) == [("val/petting_cat/-abc_000005_000015.mp4", "petting cat")]
    coverage = Coverage.of(dataset)
    assert (coverage.listed, coverage.found, coverage.expected) == (2, 1, 19907)
    assert coverage.missing == ("validate/massaging person's head/xyz_000012_000022",)
    assert coverage.describe().startswith("1 of 19,907 (official) videos; 1 are listed and missing, such as validate/")


def test_kinetics_folders_alone_are_enough(plant):
    root = plant("train/petting_cat/a.mp4", "train/yoga/b.mp4")
    dataset = load_videos(root, split="train", dataset="kinetics400")
    assert rows(dataset) == [("train/petting_cat/a.mp4", "petting cat"), ("train/yoga/b.mp4", "yoga")]
    assert Coverage.of(dataset).layout == "folders"


UCF = {
    "classInd.txt": "1 ApplyEyeMakeup\n37 HandstandPushups\n",
    "trainlist01.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n",
    "testlist01.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi\r\n",
    "trainlist02.txt": "HandstandPushups/v_HandStandPushups_g01_c01.avi 37\n",
    "testlist02.txt": "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi\n",
}
UCF_FILES = (
    "UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi",
    "UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi",
)


def test_ucf_classes_come_from_folders_and_splits_from_the_fold(plant):
    root = plant(*UCF_FILES, texts=UCF)
    assert rows(load_videos(root, split="train")) == [(UCF_FILES[0], "ApplyEyeMakeup")]
    assert rows(load_videos(root, split="train", fold=2)) == [(UCF_FILES[1], "HandstandPushups")]
    dataset = load_videos(root, split="test")
    assert rows(dataset) == [(UCF_FILES[1], "HandstandPushups")]
    assert len(dataset.features["label"].names) == 101
    assert Coverage.of(dataset).expected == 3783
    assert Coverage.of(load_videos(root)).expected == 13320


def test_hmdb_lists_mark_train_test_and_unused_videos(plant):
    files = ("hmdb/brush_hair/a!#&()[];~.avi", "hmdb/brush_hair/b.avi", "hmdb/sword/c.avi", "hmdb/sword/d.avi")
    root = plant(
        *files,
        texts={
            "splits/brush_hair_test_split1.txt": "a!#&()[];~.avi 1 \nb.avi 2 \n",
            "splits/sword_test_split1.txt": "c.avi 0 \nd.avi 1 \n",
            "splits/sword_test_split2.txt": "c.avi 1 \n",
        },
    )
    assert rows(load_videos(root, split="train")) == [(files[0], "brush hair"), (files[3], "sword")]
    assert rows(load_videos(root, split="test")) == [(files[1], "brush hair")]
    assert len(load_videos(root)) == 4
    assert rows(load_videos(root, split="train", fold=2)) == [(files[2], "sword")]


ACTIVITYNET = {
    "database": {
        "-a": {"subset": "training", "annotations": [{"label": "Zumba", "segment": [1.5, 4]}, {"label": "Zumba", "segment": [5, 5]}]},
        "b": {"subset": "validation", "annotations": [{"label": "Archery", "segment": [0, 9]}]},
        "c": {"subset": "testing", "annotations": []},
    }
}  # fmt: skip


def test_activitynet_files_may_begin_with_v(plant):
    root = plant("all/v_-a.mkv", "all/b.mp4", texts={"activity_net.v1-3.min.json": json.dumps(ACTIVITYNET)})
    assert rows(load_videos(root, split="train")) == [("all/v_-a.mkv", "Zumba")]
    assert len(load_videos(root)) == 2
    with pytest.raises(ValueError, match="no labels for the split 'test'"):
        load_videos(root, split="test")


def test_activitynet_gives_intervals_and_leaves_out_empty_ones(plant):
    root = plant("v_-a.mkv", texts={"activity_net.v1-3.min.json": json.dumps(ACTIVITYNET)})
    dataset = load_videos(root, split="train", segments=True)
    assert dataset[0]["name"] == "v_-a.mkv#t=1.5,4:Zumba"
    assert (dataset[0]["start"], dataset[0]["end"]) == (1.5, 4.0)
    assert Coverage.of(dataset).dropped == 1
    assert Coverage.of(dataset).found == 1


CHARADES = {
    "Charades_v1_classes.txt": "c000 Holding some clothes\nc001 Putting clothes somewhere\n",
    "Charades_v1_train.csv": 'id,scene,script,actions,length\nAB12C,Home,"He sits, ""well"".",'
    "c001 11.90 21.20;c000 0.00 12.60;c001 30.00 31.00,24.83\nXY34Z,Home,text,,10.0\n",
}


def test_charades_videos_have_several_labels_or_none(plant):
    root = plant("Charades_v1_480/AB12C.mp4", "Charades_v1_480/XY34Z.mp4", texts=CHARADES)
    dataset = load_videos(root, split="train")
    assert dataset["label"] == [[0, 1], []]
    assert dataset.features["label"].feature.names == ["Holding some clothes", "Putting clothes somewhere"]


def test_charades_intervals_that_begin_after_the_end_are_left_out(plant):
    root = plant("rgb/AB12C/AB12C-000001.jpg", texts=CHARADES)
    dataset = load_videos(root, split="train", segments=True)
    assert dataset["label"] == [1, 0]
    assert dataset["end"] == [21.2, 12.6]
    assert dataset["fps"] == [24.0, 24.0]
    assert Coverage.of(dataset).dropped == 1


def test_something_something_v1_has_frames_in_numbered_folders(plant):
    texts = {"something-something-v1-validation.csv": "74225;Unfolding something\n1;Holding something\n"}
    root = plant("frames/74225/00001.jpg", "frames/74225/00002.jpg", texts=texts)
    dataset = load_videos(root, split="validation")
    assert rows(dataset) == [("frames/74225", "Unfolding something")]
    assert dataset["fps"] == [12.0]


def test_something_something_v2_classes_are_templates_without_brackets(plant):
    record = {"id": "78687", "label": "holding potato", "template": "Holding [something] next to [something]"}
    root = plant("v/78687.webm", "v/5.webm", texts={"labels/train.json": json.dumps([record]), "labels/test-answers.csv": "5;Holding something\n"})  # fmt: skip
    assert rows(load_videos(root, split="train", dataset="ssv2")) == [
        ("v/78687.webm", "Holding something next to something")
    ]
    assert rows(load_videos(root, split="test", dataset="ssv2")) == [("v/5.webm", "Holding something")]


def test_annotations_and_videos_may_lie_in_different_folders(plant, tmp_path):
    plant("videos/ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi", **{"texts": {f"lists/{k}": v for k, v in UCF.items()}})
    dataset = load_videos(tmp_path / "data" / "lists", split="train", videos=tmp_path / "data" / "videos")
    assert dataset[0]["name"] == "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi"


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (UCF, {"split": "train"}, "None of the 1 listed videos.*ApplyEyeMakeup.*Class/v_Class_g01_c01.avi"),
        (UCF, {"split": "validation"}, "has the splits train, test, not 'validation'"),
        (UCF, {"split": "train", "fold": 4}, "must be 1 to 3, got 4"),
        ({}, {"dataset": "ucf101"}, "trainlist01.txt.*https://www.crcv.ucf.edu"),
        (
            {"a/trainlist01.txt": "", "b/trainlist01.txt": ""},
            {"dataset": "ucf101"},
            "both a/trainlist01.txt and b/trainl",
        ),
        ({"train.csv": "label,id\nx,y\n"}, {"dataset": "kinetics600"}, "not a row of Kinetics"),
        (
            {"Charades_v1_train.csv": CHARADES["Charades_v1_train.csv"]},
            {"split": "train"},
            "Charades_v1_classes.txt with the names of the classes is missing.*prior.allenai.org",
        ),
    ],
)
def test_annotations_that_cannot_be_used_are_refused_with_advice(plant, texts, options, message):
    with pytest.raises(ValueError, match=message):
        load_videos(plant("x.avi", texts=texts), **options)


def test_folders_without_official_files_are_not_recognized(plant):
    assert recognize(FileTree(plant("a/x.mp4", texts={"train.csv": "video,label\n"}))) is None
