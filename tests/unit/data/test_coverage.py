import os

import pytest

from kinoclip.data import Coverage, catalog, dataset_facts, load_videos
from kinoclip.data.coverage import content_fingerprint, find_mistakes
from kinoclip.kinoshapes import kinoshapes_dataset


def test_a_selection_has_its_own_count_and_fingerprint(plant):
    dataset = load_videos(plant("x/a.mp4", "x/b.mp4", "y/c.mp4"))
    whole, part = Coverage.of(dataset), Coverage.of(dataset.select([0, 2]))
    assert (whole.found, part.found) == (3, 2)
    assert whole.fingerprint != part.fingerprint


def test_the_fingerprint_depends_on_videos_and_labels_not_on_order_and_layout(plant):
    one = load_videos(plant("a/brush_hair/1.mp4", "a/wave/2.avi"))
    tables = {
        "b/flat/t.csv": "video,label\n2.mp4,Wave\n1.mp4,brush hair\n",
        "b/flat/u.csv": "video,label\n1.mp4,Wave\n2.mp4,brush hair\n",
    }
    root = plant("b/flat/1.mp4", "b/flat/2.mp4", texts=tables) / "b" / "flat"
    same, other = (load_videos(root / name) for name in ("t.csv", "u.csv"))
    assert Coverage.of(one.select([1, 0])).fingerprint == Coverage.of(same).fingerprint
    assert Coverage.of(one).fingerprint != Coverage.of(other).fingerprint


def test_coverage_survives_shuffling_and_saving(plant, tmp_path):
    dataset = load_videos(plant("a.mp4", texts={"t.csv": "video,label\na.mp4,x\nb.mp4,x\n"}))
    dataset.shuffle(seed=0).save_to_disk(str(tmp_path / "saved"))
    assert Coverage.of(type(dataset).load_from_disk(str(tmp_path / "saved"))).missing == ("b.mp4",)


def test_coverage_is_described_and_long_lists_are_cut():
    assert Coverage.of(kinoshapes_dataset(2)) == Coverage(found=2)
    coverage = Coverage("ucf101", "test", expected=3783, found=2).with_undecodable(["\u00fc.avi"])
    assert coverage.to_dict()["undecodable"] == ["\u00fc.avi"]
    assert coverage.describe() == "2 of 3,783 (official) videos; 1 cannot be read, such as \u00fc.avi"
    coverage = Coverage().with_missing([str(i) for i in range(50)])
    assert (coverage.num_missing, len(coverage.missing)) == (50, 20)


@pytest.mark.parametrize(
    ("name", "split", "fold", "size"),
    [
        ("kinetics400", "validation", 1, 19907),
        ("ucf101", "train", 3, 9624),
        ("ucf101", None, 1, 13320),
        ("hmdb51", "test", 2, 1530),
        ("activitynet", None, 1, 14950),  # 10,024 + 4,926: test has no labels
        ("charades", None, 1, 9848),  # 7,985 + 1,863
        ("kinetics600", "train", 1, None),
    ],
)
def test_official_sizes_are_those_of_the_split_and_fold(name, split, fold, size):
    assert dataset_facts(name).official_size(split, fold) == size


def test_facts_agree_with_the_packaged_labels():
    for facts in catalog().values():
        assert facts.class_names is None or len(facts.class_names) == facts.num_classes
        assert not facts.sizes or facts.evaluated_split in facts.sizes
    # the labels of their test videos are not public
    on_validation = {name for name, facts in catalog().items() if facts.evaluated_split == "validation"}
    assert on_validation == {"activitynet", "kinetics400", "kinetics600", "ssv1", "ssv2"}


def test_likely_mistakes_are_named(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "b.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("video,label\na.mp4,jump\nb.mp4,run\ngone.mp4,jump\n")
    assert find_mistakes(load_videos(tmp_path / "list.csv", labels=["jump", "run", "swim"])) == [
        "1 listed videos do not exist, such as gone.mp4",
        "1 of 3 classes have no video, such as 'swim'",
    ]
    (tmp_path / "list.csv").write_text("video,label\na.mp4,jump\nb.mp4,jump\n")
    with pytest.raises(ValueError, match=r"All 2 videos are 'jump'\. Add videos of a second class"):
        find_mistakes(load_videos(tmp_path / "list.csv", labels=["jump", "run"]))


def test_the_fingerprint_of_the_content_changes_with_files_and_embedded_bytes(plant, tmp_path):
    root = plant("x/a.mp4", "y/b.mp4")
    before = content_fingerprint(load_videos(root))
    assert content_fingerprint(load_videos(root)) == before
    os.utime(root / "x" / "a.mp4", ns=(1, 1))
    assert content_fingerprint(load_videos(root)) != before
    clips = kinoshapes_dataset(4, seed=1, num_frames=8)
    assert content_fingerprint(clips) == content_fingerprint(kinoshapes_dataset(4, seed=1, num_frames=8))
    assert content_fingerprint(clips) != content_fingerprint(kinoshapes_dataset(4, seed=2, num_frames=8))
    assert content_fingerprint(clips.select([1, 0])) != content_fingerprint(clips.select([0, 1]))
