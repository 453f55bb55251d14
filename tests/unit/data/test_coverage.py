import json

from kinoclip.data import Coverage, load_videos
from kinoclip.data.kinoshapes import kinoshapes_dataset


def test_a_selection_is_counted_and_fingerprinted_anew(plant):
    dataset = load_videos(plant("x/a.mp4", "x/b.mp4", "y/c.mp4"))
    whole, part = Coverage.of(dataset), Coverage.of(dataset.select([0, 2]))
    assert (whole.found, part.found) == (3, 2)
    assert whole.fingerprint != part.fingerprint


def test_the_same_videos_in_another_order_and_layout_have_the_same_fingerprint(plant):
    one = load_videos(plant("a/brush_hair/1.mp4", "a/wave/2.avi"))
    table = "video,label\n2.mp4,Wave\n1.mp4,brush hair\n"
    other = load_videos(plant("b/flat/1.mp4", "b/flat/2.mp4", texts={"b/flat/t.csv": table}) / "b" / "flat")
    assert Coverage.of(one.select([1, 0])).fingerprint == Coverage.of(other).fingerprint


def test_another_label_gives_another_fingerprint(plant):
    table = "video,label\n1.mp4,{}\n"
    one = load_videos(plant("1.mp4", texts={"t.csv": table.format("x")}), labels=["x", "y"])
    other = load_videos(plant(texts={"t.csv": table.format("y")}), labels=["x", "y"])
    assert Coverage.of(one).fingerprint != Coverage.of(other).fingerprint


def test_coverage_survives_shuffling_and_saving(plant, tmp_path):
    dataset = load_videos(plant("a.mp4", texts={"t.csv": "video,label\na.mp4,x\nb.mp4,x\n"}))
    dataset.shuffle(seed=0).save_to_disk(str(tmp_path / "saved"))
    assert Coverage.of(type(dataset).load_from_disk(str(tmp_path / "saved"))).missing == ("b.mp4",)


def test_a_data_set_from_elsewhere_is_only_counted():
    assert Coverage.of(kinoshapes_dataset(2)) == Coverage(found=2)


def test_coverage_is_json():
    coverage = Coverage("ucf101", "test", expected=3783, found=2).with_undecodable(["\u00fc.avi"])
    assert json.loads(coverage.to_json())["undecodable"] == ["\u00fc.avi"]
    assert coverage.describe() == "2 of 3,783 (official) videos; 1 cannot be read, such as \u00fc.avi"


def test_long_lists_are_cut_and_counted():
    coverage = Coverage().with_missing([str(i) for i in range(50)])
    assert (coverage.num_missing, len(coverage.missing)) == (50, 20)
