import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, Video

from kinoclip.data import load_videos
from kinoclip.data.samples import class_names
from kinoclip.data.splits import divide, few_shot, keep_classes, select_list, write_list


def dataset_of(**counts):
    """A data set with these numbers of videos per class, without files."""
    names = list(counts)
    rows = [
        {"video": {"path": f"/d/{name}/{i}.mp4", "bytes": None}, "label": number, "name": f"{name}/ {i}.mp4"}
        for number, name in enumerate(names)
        for i in range(counts[name])
    ]
    features = Features({"video": Video(decode=False), "label": ClassLabel(names=names), "name": Value("string")})
    return Dataset.from_list(rows, features)


def test_few_shots_are_equally_many_of_each_class_and_depend_on_the_seed_only():
    dataset = dataset_of(jump=20, run=25)
    drawn = few_shot(dataset, 4)
    assert sorted(drawn["label"]) == [0] * 4 + [1] * 4
    assert len(set(drawn["name"])) == 8
    assert few_shot(dataset.shuffle(seed=7), 4)["name"] == drawn["name"] != few_shot(dataset, 4, seed=1)["name"]


def test_a_list_is_written_and_read_again(plant, tmp_path):
    dataset = load_videos(plant("jump/a b.mp4", "run/c.mp4", "run/d.mp4"))
    drawn = few_shot(dataset, 1, seed=3)
    path = write_list(drawn, tmp_path / "1 shot.txt")
    assert select_list(dataset, path)["name"] == drawn["name"]
    again = load_videos(path, videos=tmp_path / "data", labels=class_names(dataset))
    assert list(again["name"]) == list(drawn["name"])


def test_a_division_has_the_same_share_of_each_class_and_no_video_twice():
    dataset = dataset_of(jump=10, run=30, swim=2)
    train, validation = divide(dataset, 0.2)
    # 2 of 10, 6 of 30, and one of 2
    assert [validation["label"].count(number) for number in range(3)] == [2, 6, 1]
    assert sorted([*train["name"], *validation["name"]]) == sorted(dataset["name"])


def test_selected_classes_are_numbered_in_the_given_order():
    kept = keep_classes(dataset_of(jump=1, run=2, swim=1), ["Swim", "run"])
    assert class_names(kept) == ["Swim", "run"]
    assert kept["label"] == [1, 1, 0]


def test_what_cannot_be_divided_is_refused(tmp_path):
    several = Features({"label": List(ClassLabel(names=["a"])), "name": Value("string")})
    path = write_list(dataset_of(jump=1, run=1), tmp_path / "l.txt")
    for function, arguments, message in (
        (few_shot, (dataset_of(jump=2, run=9, swim=3), 4), r"must have 4 videos.* jump \(2\), swim \(3\)"),
        (few_shot, (Dataset.from_list([{"label": [0], "name": "x"}], several), 1), "several labels"),
        (
            divide,
            (dataset_of(jump=4, swim=1),),
            "'swim' has one video, which cannot be in both training and validation",
        ),
        (divide, (dataset_of(jump=4), 1.0), "between 0 and 1, got 1.0"),
        (keep_classes, (dataset_of(jump=1), ["fly"]), "'fly' are not among the data set's 1 classes"),
        (select_list, (dataset_of(run=1, jump=1), path), "line 1: 'jump/ 0.mp4 0' has the label 1"),
        (select_list, (dataset_of(swim=1), path), "is not in the data set"),
    ):
        with pytest.raises(ValueError, match=message):
            function(*arguments)
