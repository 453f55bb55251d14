import pytest

from kinoclip.data.kinoshapes import kinoshapes_clips, write_video
from kinoclip.text.attributes import write_attributes
from kinoclip.training.preparing import encode_attributes, prepare_data
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


def test_data_without_splits_is_divided_the_same_way_each_time(folder, recipe):
    train, validation = prepare_data(recipe, folder, validation=0.25)
    assert (sorted(train["label"]), sorted(validation["label"])) == ([0, 0, 0, 1, 1, 1], [0, 1])
    assert prepare_data(recipe, folder, validation=0.25)[1]["name"] == validation["name"]


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_splits_are_taken_as_they_are(tmp_path, recipe, held_out):
    _write(tmp_path / "train", range(6))
    _write(tmp_path / held_out, range(6, 8))
    assert [len(part) for part in prepare_data(recipe, tmp_path)] == [6, 2]


def test_a_table_without_splits_is_divided(folder, recipe):
    lines = [f"{path.relative_to(folder)},{path.parent.name}" for path in sorted(folder.rglob("*.mp4"))]
    (folder / "all.csv").write_text("\n".join(["video,label", *lines]))
    assert [len(part) for part in prepare_data(recipe, folder / "all.csv", validation=0.25)] == [6, 2]


def test_a_video_in_both_parts_is_refused(tmp_path, recipe):
    _write(tmp_path / "train", range(6))
    _write(tmp_path / "val", range(5, 8))
    with pytest.raises(ValueError, match="1 of 3 test videos are in training too"):
        prepare_data(recipe, tmp_path)


def test_videos_to_measure_on_are_not_trained_on(tmp_path, recipe):
    _write(tmp_path / "test", range(8))
    with pytest.raises(ValueError, match="none of the split 'train' to train on"):
        prepare_data(recipe, tmp_path)


def test_few_shots_are_drawn_from_training_alone(folder, recipe):
    train, validation = prepare_data(recipe.with_settings({"data.shots": 1}), folder, validation=0.25)
    assert (sorted(train["label"]), len(validation)) == ([0, 1], 2)


def test_attributes_are_found_by_the_names_of_videos(shapes, recipe, tmp_path):
    _, processor = start_model(recipe, ["a"])
    known = {name: [f"phrase {number}"] for number, name in enumerate(shapes["name"])}
    path = tmp_path / "attributes.json"
    write_attributes(path, known)
    assert encode_attributes(str(path), shapes, processor).shape == (12, processor.context_length)
    del known["clip-3.mp4"]
    write_attributes(path, known)
    with pytest.raises(ValueError, match=r"has no attributes of clip-3.mp4 \(1 of 12 videos are missing\)"):
        encode_attributes(str(path), shapes, processor)
