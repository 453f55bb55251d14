import shutil
from dataclasses import replace

import pytest

from kinoclip.data.samples import class_names
from kinoclip.data.splits import write_list
from kinoclip.kinoshapes import kinoshapes_clips, write_video
from kinoclip.kinoshapes.files import CLIPS_PER_CLASS
from kinoclip.text.attributes import write_attributes
from kinoclip.training.data import encode_attributes, load_attributes, prepare_data


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eight clips of two shapes, without splits."""
    root = tmp_path_factory.mktemp("clips")
    for number, clip in enumerate(kinoshapes_clips(8, seed=6, labels=["red circle", "red star"])):
        (root / clip.shape).mkdir(exist_ok=True)
        write_video(root / clip.shape / f"{number}.mp4", clip.frames[:2], 8)
    return root


@pytest.fixture
def split(clips, tmp_path):
    """The function that copies clips into splits and prepares the data of a recipe."""

    def prepare(recipe, **parts):
        for name, numbers in parts.items():
            for clip in (path for path in clips.glob("*/*.mp4") if int(path.stem) in numbers):
                (tmp_path / name / clip.parent.name).mkdir(parents=True, exist_ok=True)
                shutil.copy(clip, tmp_path / name / clip.parent.name)
        return prepare_data(recipe, tmp_path)

    return prepare


@pytest.fixture
def quarter(recipe):
    """The recipe with a quarter of the training videos held out if there is no validation part."""
    return recipe.with_settings({"data.held_out": 0.25})


def _sizes(parts):
    return tuple(None if part is None else len(part) for part in (parts.train, parts.validation, parts.test))


def _select(recipe, selection):
    return recipe.with_settings({"evaluation.selection": selection})


def test_data_without_splits_is_divided_the_same_way_each_time(clips, quarter):
    parts = prepare_data(quarter, clips)
    assert (sorted(parts.train["label"]), sorted(parts.validation["label"])) == ([0, 0, 0, 1, 1, 1], [0, 1])
    assert prepare_data(quarter, clips).validation["name"] == parts.validation["name"]
    assert parts.test is None


def test_a_table_without_splits_is_divided(clips, quarter, tmp_path):
    folder = shutil.copytree(clips, tmp_path / "copy")
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.mp4"))]
    (folder / "all.csv").write_text("\n".join(["video,label", *lines]))
    assert _sizes(prepare_data(quarter, folder / "all.csv")) == (6, 2, None)


def test_the_test_part_is_measured_but_selects_nothing_by_default(split, recipe):
    assert recipe.evaluation["selection"] == "last"
    parts = split(recipe, train=range(6), test=range(6, 8))
    assert _sizes(parts) == (6, 2, 2)
    assert parts.validation["name"] == parts.test["name"]


def test_videos_that_select_the_epoch_are_held_out_of_training_not_of_the_test_part(split, quarter):
    parts = split(_select(quarter, "validation"), train=range(6), test=range(6, 8))
    # of three videos of each class, a quarter is one
    assert _sizes(parts) == (4, 2, 2)
    assert not set(parts.validation["name"]) & {*parts.train["name"], *parts.test["name"]}


def test_a_validation_part_of_the_data_selects_the_epoch(split, recipe):
    parts = split(_select(recipe, "validation"), train=range(4), val=range(4, 6), test=range(6, 8))
    assert _sizes(parts) == (4, 2, 2)
    assert parts.validation["name"] != parts.test["name"]


def test_selection_on_the_test_part_needs_its_name_and_a_test_part(split, clips, recipe):
    parts = split(_select(recipe, "test"), train=range(6), test=range(6, 8))
    assert parts.validation["name"] == parts.test["name"]
    with pytest.raises(ValueError, match=r"no split 'test', which evaluation\.selection"):
        prepare_data(_select(recipe, "test"), clips)


def test_the_validation_split_of_kinetics_is_the_part_that_papers_report(split, quarter):
    kinetics = replace(_select(quarter, "validation"), dataset="kinetics400")
    parts = split(kinetics, train=range(6), val=range(6, 8))
    # the videos that select are held out of training
    assert _sizes(parts) == (4, 2, 2)
    assert sorted(parts.test["name"]) == ["val/circle/6.mp4", "val/star/7.mp4"]


def test_base_classes_are_trained_and_validated_and_all_are_tested(split, recipe):
    parts = split(recipe.with_settings({"data.classes": "base"}), train=range(6), test=range(6, 8))
    assert (class_names(parts.train), class_names(parts.validation)) == (["circle"], ["circle"])
    assert class_names(parts.test) == ["circle", "star"]


def test_shots_are_drawn_from_training_or_named_by_a_list(split, clips, quarter, tmp_path):
    parts = prepare_data(quarter.with_settings({"data.shots": 1}), clips)
    assert (sorted(parts.train["label"]), len(parts.validation)) == ([0, 1], 2)
    train = split(quarter, train=range(6), test=range(6, 8)).train
    path = write_list(train.select([0, 5]), tmp_path / "shots.txt")
    parts = split(quarter.with_settings({"data.shot_list": str(path)}))
    assert list(parts.train["name"]) == [train[0]["name"], train[5]["name"]]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": range(6), "val": range(5, 8)}, "1 of 3 test videos are in training too"),
        ({"test": range(8)}, "has no split 'train' to train on"),
    ],
)
def test_measured_videos_are_not_trained_on(split, recipe, parts, message):
    with pytest.raises(ValueError, match=message):
        split(recipe, **parts)


def test_the_parts_of_the_procedural_benchmark_share_no_video(recipe, monkeypatch):
    for name in ("validation", "test"):
        monkeypatch.setitem(CLIPS_PER_CLASS, name, 1)
    # 6 classes of motion, 2 training clips of each
    assert _sizes(prepare_data(recipe, "kinoshapes/motions:2")) == (12, 6, 6)


def test_attributes_are_found_by_the_names_of_videos(shapes, recipe, processor, tmp_path):
    known = {name: [f"phrase {number}"] for number, name in enumerate(shapes["name"])}
    path, other = tmp_path / "attributes.json", tmp_path / "test_attributes.json"
    write_attributes(path, known)
    described = recipe.with_settings({"data.attributes": str(path)})
    assert encode_attributes(described, shapes, processor).shape == (12, processor.context_length)
    write_attributes(other, {"clip-3.mp4": known.pop("clip-3.mp4")})
    write_attributes(path, known)
    with pytest.raises(ValueError, match=r"no attributes of clip-3.mp4 \(1 of 12 videos are missing\)"):
        encode_attributes(described, shapes, processor)
    both = described.with_settings({"data.test_attributes": str(other), "data.num_attributes": 1})
    assert load_attributes(both, shapes)["clip-3.mp4"] == ["phrase 3"]
