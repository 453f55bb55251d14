import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, Video

from kinoclip.data import load_videos
from kinoclip.data.samples import class_names
from kinoclip.data.splits import base_and_novel, divide, few_shot, keep_classes, select_list, write_list


def dataset_of(**counts):
    """A data set with so many videos of each class; nothing is behind their paths."""
    names = list(counts)
    rows = [
        {"video": {"path": f"/d/{name}/{i}.mp4", "bytes": None}, "label": number, "name": f"{name}/ {i}.mp4"}
        for number, name in enumerate(names)
        for i in range(counts[name])
    ]
    features = Features({"video": Video(decode=False), "label": ClassLabel(names=names), "name": Value("string")})
    return Dataset.from_list(rows, features)


def test_few_shots_are_as_many_of_each_class():
    drawn = few_shot(dataset_of(jump=5, run=9), 3)
    assert sorted(drawn["label"]) == [0, 0, 0, 1, 1, 1]
    assert len(set(drawn["name"])) == 6


def test_the_same_seed_draws_the_same_videos_from_any_order():
    dataset = dataset_of(jump=20, run=20)
    assert few_shot(dataset, 4)["name"] == few_shot(dataset.shuffle(seed=7), 4)["name"]
    assert few_shot(dataset, 4)["name"] != few_shot(dataset, 4, seed=1)["name"]


def test_classes_with_too_few_videos_are_named():
    with pytest.raises(ValueError, match=r"4 videos of each class.*fewer of jump \(2\), swim \(3\)"):
        few_shot(dataset_of(jump=2, run=9, swim=3), 4)


def test_a_drawn_list_is_written_and_read_again(tmp_path):
    dataset = dataset_of(jump=5, run=5)
    drawn = few_shot(dataset, 2, seed=3)
    path = write_list(drawn, tmp_path / "2 shots.txt")
    assert select_list(dataset, path)["name"] == drawn["name"]


def test_a_written_list_loads_from_the_folder_of_the_videos(plant, tmp_path):
    dataset = load_videos(plant("jump/a b.mp4", "run/c.mp4"))
    path = write_list(dataset, tmp_path / "l.txt")
    again = load_videos(path, videos=tmp_path / "data", labels=class_names(dataset))
    assert list(again["name"]) == list(dataset["name"])


def test_a_list_of_other_labels_is_refused(tmp_path):
    path = write_list(dataset_of(jump=1, run=1), tmp_path / "l.txt")
    with pytest.raises(ValueError, match=r"line 1: 'jump/ 0.mp4 0' has the label 1"):
        select_list(dataset_of(run=1, jump=1), path)
    with pytest.raises(ValueError, match="is not in the data set"):
        select_list(dataset_of(swim=1), path)


def test_a_division_has_the_same_share_of_each_class_and_nothing_twice():
    dataset = dataset_of(jump=10, run=30, swim=2)
    train, validation = divide(dataset, 0.2)
    # 2 of 10, 6 of 30, and one of 2
    assert [validation["label"].count(number) for number in range(3)] == [2, 6, 1]
    assert sorted([*train["name"], *validation["name"]]) == sorted(dataset["name"])


def test_a_class_with_one_video_cannot_be_divided():
    with pytest.raises(ValueError, match="'swim' has one video"):
        divide(dataset_of(jump=4, swim=1))


def test_kept_classes_are_numbered_as_they_are_given():
    kept = keep_classes(dataset_of(jump=1, run=2, swim=1), ["Swim", "run"])
    assert class_names(kept) == ["Swim", "run"]
    assert kept["label"] == [1, 1, 0]


def test_an_unknown_class_to_keep_is_named():
    with pytest.raises(ValueError, match="no class 'fly'"):
        keep_classes(dataset_of(jump=1), ["fly"])


def test_base_classes_are_trained_with_few_shots_and_novel_ones_never():
    train, test = dataset_of(a=20, b=20, c=20), dataset_of(a=2, b=2, c=2)
    base, base_test, novel_test = base_and_novel(train, test, shots=4)
    assert (class_names(base), len(base)) == (["a", "b"], 8)
    assert (class_names(base_test), len(base_test)) == (["a", "b"], 4)
    assert (class_names(novel_test), len(novel_test)) == (["c"], 2)


def test_videos_with_several_labels_are_refused():
    features = Features({"label": List(ClassLabel(names=["a"])), "name": Value("string")})
    with pytest.raises(ValueError, match="several labels"):
        few_shot(Dataset.from_list([{"label": [0], "name": "x"}], features), 1)
