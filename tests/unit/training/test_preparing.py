from dataclasses import replace

import pytest

from kinoclip.data.kinoshapes import benchmark, kinoshapes_clips, write_video
from kinoclip.data.samples import class_names
from kinoclip.data.splits import write_list
from kinoclip.text.attributes import write_attributes
from kinoclip.training.preparing import encode_attributes, prepare_data, read_phrases
from kinoclip.training.starting import start_model


def _write(root, numbers):
    clips = list(kinoshapes_clips(8, seed=6, labels=["red circle", "red star"]))
    for number in numbers:
        folder = root / clips[number].shape
        folder.mkdir(parents=True, exist_ok=True)
        write_video(folder / f"{number}.mp4", clips[number].frames[:2], 8)
    return root


@pytest.fixture
def folder(tmp_path):
    """Four clips of either shape, without splits."""
    return _write(tmp_path / "clips", range(8))


@pytest.fixture
def quarter(recipe):
    """The recipe with a quarter of the training videos held out where nothing else validates."""
    return recipe.with_settings({"data.held_out": 0.25})


def _sizes(parts):
    return tuple(None if part is None else len(part) for part in (parts.train, parts.validation, parts.test))


def _select(recipe, selection):
    return recipe.with_settings({"evaluation.selection": selection})


def test_data_without_splits_is_divided_the_same_way_each_time(folder, quarter):
    parts = prepare_data(quarter, folder)
    assert (sorted(parts.train["label"]), sorted(parts.validation["label"])) == ([0, 0, 0, 1, 1, 1], [0, 1])
    assert prepare_data(quarter, folder).validation["name"] == parts.validation["name"]
    assert parts.test is None


def test_the_test_part_is_measured_but_selects_nothing_by_default(tmp_path, recipe):
    _write(tmp_path / "train", range(6))
    _write(tmp_path / "test", range(6, 8))
    assert recipe.evaluation["selection"] == "last"
    parts = prepare_data(recipe, tmp_path)
    assert _sizes(parts) == (6, 2, 2)
    assert parts.validation["name"] == parts.test["name"]


def test_videos_that_select_the_epoch_are_held_out_of_training_not_of_the_test_part(tmp_path, quarter):
    _write(tmp_path / "train", range(6))
    _write(tmp_path / "test", range(6, 8))
    parts = prepare_data(_select(quarter, "validation"), tmp_path)
    # of three videos of each class, a quarter is one
    assert _sizes(parts) == (4, 2, 2)
    assert not set(parts.validation["name"]) & {*parts.train["name"], *parts.test["name"]}


def test_a_validation_part_of_the_data_selects_the_epoch(tmp_path, recipe):
    _write(tmp_path / "train", range(4))
    _write(tmp_path / "val", range(4, 6))
    _write(tmp_path / "test", range(6, 8))
    parts = prepare_data(_select(recipe, "validation"), tmp_path)
    assert _sizes(parts) == (4, 2, 2)
    assert parts.validation["name"] != parts.test["name"]


def test_selection_on_the_test_part_needs_its_name_and_a_test_part(tmp_path, folder, recipe):
    _write(tmp_path / "train", range(6))
    _write(tmp_path / "test", range(6, 8))
    parts = prepare_data(_select(recipe, "test"), tmp_path)
    assert parts.validation["name"] == parts.test["name"]
    with pytest.raises(ValueError, match=r"no split 'test', which evaluation\.selection"):
        prepare_data(_select(recipe, "test"), folder)


def test_the_validation_split_of_kinetics_is_the_part_that_papers_report(tmp_path, quarter):
    _write(tmp_path / "train", range(6))
    _write(tmp_path / "val", range(6, 8))
    kinetics = replace(_select(quarter, "validation"), dataset="kinetics400")
    parts = prepare_data(kinetics, tmp_path)
    # what selects is held out of training, since the other part is what is reported
    assert _sizes(parts) == (4, 2, 2)
    assert sorted(parts.test["name"]) == ["val/circle/6.mp4", "val/star/7.mp4"]


def test_base_classes_are_trained_and_validated_and_all_are_tested(tmp_path, recipe):
    _write(tmp_path / "train", range(6))
    _write(tmp_path / "test", range(6, 8))
    parts = prepare_data(recipe.with_settings({"data.classes": "base"}), tmp_path)
    assert (class_names(parts.train), class_names(parts.validation)) == (["circle"], ["circle"])
    assert class_names(parts.test) == ["circle", "star"]


def test_a_list_of_shots_names_the_training_videos(tmp_path, recipe):
    _write(tmp_path / "train", range(6))
    _write(tmp_path / "test", range(6, 8))
    train = prepare_data(recipe, tmp_path).train
    path = write_list(train.select([0, 5]), tmp_path / "shots.txt")
    parts = prepare_data(recipe.with_settings({"data.shot_list": str(path)}), tmp_path)
    assert list(parts.train["name"]) == [train[0]["name"], train[5]["name"]]


def test_a_table_without_splits_is_divided(folder, quarter):
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.mp4"))]
    (folder / "all.csv").write_text("\n".join(["video,label", *lines]))
    assert _sizes(prepare_data(quarter, folder / "all.csv")) == (6, 2, None)


def test_a_video_in_both_parts_is_refused(tmp_path, recipe):
    _write(tmp_path / "train", range(6))
    _write(tmp_path / "val", range(5, 8))
    with pytest.raises(ValueError, match="1 of 3 test videos are in training too"):
        prepare_data(recipe, tmp_path)


def test_videos_to_measure_on_are_not_trained_on(tmp_path, recipe):
    _write(tmp_path / "test", range(8))
    with pytest.raises(ValueError, match="none of the split 'train' to train on"):
        prepare_data(recipe, tmp_path)


def test_the_parts_of_the_procedural_benchmark_share_no_video(recipe, monkeypatch):
    for split in ("validation", "test"):
        monkeypatch.setitem(benchmark.CLIPS_PER_CLASS, split, 1)
    # 6 classes of motion, 2 training clips of each
    assert _sizes(prepare_data(recipe, "kinoshapes/motions:2")) == (12, 6, 6)


def test_few_shots_are_drawn_from_training_alone(folder, quarter):
    parts = prepare_data(quarter.with_settings({"data.shots": 1}), folder)
    assert (sorted(parts.train["label"]), len(parts.validation)) == ([0, 1], 2)


def test_attributes_are_found_by_the_names_of_videos(shapes, recipe, tmp_path):
    _, processor = start_model(recipe, ["a"])
    known = {name: [f"phrase {number}"] for number, name in enumerate(shapes["name"])}
    path = tmp_path / "attributes.json"
    write_attributes(path, known)
    described = recipe.with_settings({"data.attributes": str(path)})
    assert encode_attributes(described, shapes, processor).shape == (12, processor.context_length)
    missing = known.pop("clip-3.mp4")
    write_attributes(path, known)
    with pytest.raises(ValueError, match=r"no attributes of clip-3.mp4 \(1 of 12 videos are missing\)"):
        encode_attributes(described, shapes, processor)
    other = tmp_path / "test_attributes.json"
    write_attributes(other, {"clip-3.mp4": missing})
    both = described.with_settings({"data.test_attributes": str(other), "data.num_attributes": 1})
    assert read_phrases(both, shapes)["clip-3.mp4"] == ["phrase 3"]
