import io
import tarfile

import pytest
from datasets import Dataset, DatasetDict, IterableDataset, Video

from kinoclip import RecognizerVideoProcessor
from kinoclip.data import Coverage, MissingSplitError, load_videos
from kinoclip.data.samples import VideoSamples
from kinoclip.kinoshapes import (
    SPLITS,
    encode_video,
    kinoshapes_clips,
    kinoshapes_dataset,
    write_kinoshapes,
    write_video,
)
from kinoclip.kinoshapes.files import CLIPS_PER_CLASS

FOLDERS = ("train/brush_hair/a.mp4", "train/wave/b.mp4", "val/wave/c.mp4")
CSV = "video,label\n{}"


def labels(dataset):
    return {row["name"]: dataset.features["label"].int2str(row["label"]) for row in dataset}


@pytest.fixture(scope="module")
def content():
    """The bytes of a small video."""
    return encode_video(next(iter(kinoshapes_clips(1))).frames)


def test_folders_are_classes_with_spaces_for_underscores_and_may_hold_frames(plant):
    dataset = load_videos(plant("brush_hair/a.mp4", "wave/b/img_00001.jpg", "wave/b/img_00002.jpg", "all.tar"))
    assert labels(dataset) == {"brush_hair/a.mp4": "brush hair", "wave/b": "wave"}
    assert Coverage.of(dataset).layout == "folders"


def test_all_splits_of_folders_have_the_same_classes(plant):
    dataset = load_videos(plant(*FOLDERS), split="val")
    assert labels(dataset) == {"val/wave/c.mp4": "wave"}
    assert dataset.features["label"].names == ["brush hair", "wave"]


def test_labels_set_the_order_of_the_classes_in_any_spelling(plant):
    dataset = load_videos(plant(*FOLDERS), split="train", labels=["wave", "run", "Brush Hair"])
    assert dataset["label"] == [2, 0]
    assert labels(dataset)["train/brush_hair/a.mp4"] == "Brush Hair"


def test_a_table_beside_folders_of_classes_needs_a_choice(plant):
    root = plant("jump/a.mp4", "run/b.mp4", texts={"train.csv": CSV.format("jump/a.mp4,jump high\n")})
    with pytest.raises(ValueError, match=r"contains train.csv and class folders.*layout='table'"):
        load_videos(root, split="train")
    assert labels(load_videos(root, split="train", layout="table")) == {"jump/a.mp4": "jump high"}
    assert len(load_videos(root, layout="folders")) == 2


def test_tables_of_all_splits_have_the_same_classes(plant):
    texts = {"train.csv": CSV.format("a.mp4,x\nb.mp4,z\n"), "test.csv": CSV.format("c.mp4,y\n")}
    dataset = load_videos(plant("a.mp4", "b.mp4", "c.mp4", texts=texts), split="test")
    assert dataset.features["label"].names == ["x", "y", "z"]
    assert dataset["label"] == [1]


def test_a_list_finds_its_files_by_name_and_counts_what_is_missing_or_repeated(plant):
    row = "/home/author/k400/val/-x_000001_000011.mp4 1\n"
    root = plant("val/-x_000001_000011.mp4", texts={"val.txt": f"{row}train/missing.mp4 0\n{row}"})
    dataset = load_videos(root / "val.txt", labels=["run", "jump"])
    assert labels(dataset) == {"val/-x_000001_000011.mp4": "jump"}
    assert Coverage.of(dataset).missing == ("train/missing.mp4",)
    assert Coverage.of(dataset).num_repeated == 1


def test_a_list_of_a_known_data_set_has_its_classes(plant):
    root = plant("v_a.avi", texts={"my list.txt": "v_a.avi 100\n"})
    assert labels(load_videos(root / "my list.txt", dataset="ucf101")) == {"v_a.avi": "YoYo"}


def test_addresses_in_a_table_are_kept(plant):
    dataset = load_videos(plant(texts={"clips.csv": CSV.format("https://example.org/a.mp4,x\n")}))
    assert dataset[0]["video"]["path"] == "https://example.org/a.mp4"


def test_kinoshapes_on_disk_load_and_decode(tmp_path):
    write_kinoshapes(tmp_path / "k" / "train", 2, masks=False)
    write_kinoshapes(tmp_path / "k" / "test", 2, split="test", masks=False)
    dataset = load_videos(tmp_path / "k", split="test")
    sample = VideoSamples(dataset, RecognizerVideoProcessor(num_frames=2))[1]
    assert dataset[1]["name"] == "test/videos/00001.mp4"
    assert sample["pixel_values_videos"].shape == (1, 2, 3, 224, 224)


def test_kinoshapes_are_generated_by_name(monkeypatch):
    monkeypatch.setitem(CLIPS_PER_CLASS, "test", 1)
    loaded = load_videos("kinoshapes/motions", split="test")
    assert (len(loaded), loaded[0]["name"]) == (6, "motions/test/00000.mp4")
    assert Coverage.of(loaded).dataset == "kinoshapes"
    assert len(load_videos("kinoshapes/motions:2", split="train")) == 12
    assert [len(load_videos("kinoshapes/motions:2:3", split=split)) for split in ("train", "test")] == [12, 18]
    assert [len(load_videos("kinoshapes/motions:2:3:4", split=split)) for split in SPLITS] == [12, 18, 24]


def test_unusual_names_load_and_decode(tmp_path):
    folder = tmp_path / "#1 (a);~" / "-cl\u00e4ss [x]"
    folder.mkdir(parents=True)
    write_video(folder / "!#&()[];~ %41.mp4", next(iter(kinoshapes_clips(1))).frames)
    dataset = load_videos(tmp_path / "#1 (a);~")
    assert labels(dataset) == {"-cl\u00e4ss [x]/!#&()[];~ %41.mp4": "-cl\u00e4ss [x]"}
    VideoSamples(dataset, RecognizerVideoProcessor(num_frames=2))[0]


@pytest.mark.parametrize("streaming", [False, True])
def test_shards_of_webdataset_load(tmp_path, content, streaming):
    with tarfile.open(tmp_path / "shard-0000.tar", "w") as tar:
        for name, data in (("a.mp4", content), ("a.cls", b"1"), ("b.mp4", content), ("b.cls", b"0")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    dataset = load_videos(tmp_path, labels=["x", "y"], streaming=streaming)
    assert isinstance(dataset, IterableDataset if streaming else Dataset)
    assert [(row["name"], row["label"]) for row in dataset] == [("a", 1), ("b", 0)]
    assert next(iter(dataset))["video"]["bytes"] == content
    assert dataset.features["label"].names == ["x", "y"]


def test_shards_of_parquet_load(tmp_path):
    kinoshapes_dataset(3).to_parquet(str(tmp_path / "train-00000.parquet"))
    dataset = load_videos(tmp_path, split="train")
    assert dataset.column_names == ["video", "label", "name", "fps"]
    assert dataset.features["label"] == kinoshapes_dataset(3).features["label"]


def test_a_saved_data_set_has_one_order_of_classes(tmp_path, content):
    def part(*names):
        rows = Dataset.from_dict({"clip": [content] * len(names), "action": list(names)})
        return rows.cast_column("clip", Video(decode=False))

    DatasetDict(train=part("run", "jump"), test=part("swim")).save_to_disk(str(tmp_path / "saved"))
    dataset = load_videos(tmp_path / "saved", split="test")
    assert labels(dataset) == {"00000000": "swim"}
    assert dataset.features["label"].names == ["jump", "run", "swim"]


def test_the_rows_of_a_loaded_data_set_are_named_by_their_paths():
    rows = Dataset.from_dict({"path": ["/d/a/1.mp4", "/d/b/1.mp4"], "label": ["x", "y"]})
    assert labels(load_videos(rows)) == {"a/1.mp4": "x", "b/1.mp4": "y"}


@pytest.mark.parametrize(
    ("files", "texts", "options", "message"),
    [
        (FOLDERS, {}, {}, "splits train, validation. Choose one, such as split='train'"),
        (FOLDERS, {}, {"split": "test"}, "no folder of the split 'test'; found: train, validation"),
        (FOLDERS, {}, {"split": "train", "labels": ["wave"]}, "'brush_hair' of .* is not among the 1 classes"),
        (FOLDERS, {}, {"split": "all"}, "must be 'train', 'validation' or 'test', got 'all'"),
        (FOLDERS, {}, {"layout": "tree"}, "must be one of folders, table.* got 'tree'"),
        (FOLDERS, {}, {"dataset": "k400"}, "must be one of kinetics400.* got 'k400'"),
        (FOLDERS, {}, {"layout": "official"}, "needs the name of the data set"),
        (("a.mp4", "b.mp4"), {}, {}, "contains 2 videos without labels"),
        (("a.mp4",), {"l.txt": "a.mp4 0\na.mp4 1\n"}, {"labels": ["x", "y"], "layout": "list"}, "found: none"),
        (("a.mp4",), {"train.txt": "a.mp4 0\na.mp4 1\n"}, {"labels": ["x", "y"]}, "listed as 'x' and as 'y'"),
        (("a.mp4",), {"c.csv": "video,label,split\na.mp4,x,train\nb.mp4,x,test\n"}, {}, "splits test, train. Choose"),
    ],
)
def test_an_ambiguous_source_is_refused_with_advice(plant, files, texts, options, message):
    with pytest.raises(ValueError, match=message):
        load_videos(plant(*files, texts=texts), **options)


@pytest.mark.parametrize(
    "texts",
    [
        {"clips.csv": CSV.format("a.mp4,x\n")},
        {"clips.csv": "video,label,split\na.mp4,x,train\n"},
        {"train.csv": CSV.format("a.mp4,x\n")},
        {"train/metadata.jsonl": '{"video": "../a.mp4", "label": "x"}\n'},
    ],
    ids=["no splits", "column", "name", "folder"],
)
def test_a_table_is_never_used_for_another_split(plant, texts):
    with pytest.raises(MissingSplitError):
        load_videos(plant("a.mp4", texts=texts), split="test")


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (
            Dataset.from_dict({"clips": [b""], "label": ["x"]}),
            {},
            ValueError,
            "`video` is missing; there are clips, label",
        ),
        (Dataset.from_dict({"video": ["a.mp4"], "label": [1]}), {}, ValueError, "bare numbers"),
        (
            Dataset.from_dict({"video": ["a.mp4"], "label": ["x"]}),
            {"split": "test"},
            MissingSplitError,
            "Leave split=",
        ),
        ("kinoshapes/actions", {}, MissingSplitError, "needs a split"),
        ("kinoshapes/sports", {"split": "test"}, ValueError, "must be one of kinoshapes/actions"),
        (
            "kinoshapes/actions:1:2:3:4",
            {"split": "test"},
            ValueError,
            "training clips per class, of validation clips, and",
        ),
        ("kinofigures", {"split": "test"}, ValueError, "must be one of kinofigures/actions.*got 'kinofigures'"),
        ("nowhere", {}, FileNotFoundError, "file or folder nowhere does not exist"),
        ("some/typo", {}, FileNotFoundError, r"some/typo is neither a path nor .*Couldn't reach it"),
    ],
)
def test_data_that_cannot_be_loaded_is_refused(monkeypatch, source, options, error, message):
    def unreachable(*args, **options):
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(error, match=message):
        load_videos(source, **options)


def test_without_the_library_datasets_the_install_command_is_named(monkeypatch, plant):
    monkeypatch.setattr("kinoclip.data.load.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'kinoclip\[train\]'"):
        load_videos(plant("a/x.mp4"))
