import io
import tarfile

import pytest
from datasets import Dataset, DatasetDict, IterableDataset, Video

from kinoclip import RecognizerVideoProcessor
from kinoclip.data import Coverage, MissingSplitError, load_videos
from kinoclip.data.kinoshapes import encode_video, kinoshapes_clips, kinoshapes_dataset, write_kinoshapes, write_video
from kinoclip.data.samples import VideoSamples

FOLDERS = ("train/brush_hair/a.mp4", "train/wave/b.mp4", "val/wave/c.mp4")


def labels(dataset):
    return {row["name"]: dataset.features["label"].int2str(row["label"]) for row in dataset}


@pytest.fixture(scope="module")
def content():
    """The bytes of a small video."""
    return encode_video(next(iter(kinoshapes_clips(1))).frames)


def test_folders_are_classes_with_spaces_for_underscores(plant):
    dataset = load_videos(plant("brush_hair/a.mp4", "wave/b.mp4", "wave/._b.mp4"))
    assert labels(dataset) == {"brush_hair/a.mp4": "brush hair", "wave/b.mp4": "wave"}
    assert Coverage.of(dataset).layout == "folders"


def test_all_splits_of_folders_have_the_same_classes(plant):
    dataset = load_videos(plant(*FOLDERS), split="val")
    assert labels(dataset) == {"val/wave/c.mp4": "wave"}
    assert dataset.features["label"].names == ["brush hair", "wave"]


def test_several_split_folders_want_a_choice(plant):
    with pytest.raises(ValueError, match=r"splits train, validation. Say which: split='train'"):
        load_videos(plant(*FOLDERS))


def test_a_split_without_a_folder_is_refused_with_those_there_are(plant):
    with pytest.raises(ValueError, match=r"no folder of the split 'test', but train, validation"):
        load_videos(plant(*FOLDERS), split="test")


def test_labels_give_the_order_of_the_classes_in_any_spelling(plant):
    dataset = load_videos(plant(*FOLDERS), split="train", labels=["wave", "run", "Brush Hair"])
    assert dataset["label"] == [2, 0]
    assert labels(dataset)["train/brush_hair/a.mp4"] == "Brush Hair"


def test_a_folder_of_frames_is_a_video(plant):
    dataset = load_videos(plant("jump/one/img_00001.jpg", "jump/one/img_00002.jpg", "run/two/image_000001.jpg"))
    assert labels(dataset) == {"jump/one": "jump", "run/two": "run"}


def test_videos_without_labels_are_refused_with_a_way_out(plant):
    with pytest.raises(ValueError, match="holds 2 videos and nothing that says their labels"):
        load_videos(plant("a.mp4", "b.mp4"))


def test_a_table_beside_folders_of_classes_wants_a_choice(plant):
    root = plant("jump/a.mp4", "run/b.mp4", texts={"train.csv": "video,label\njump/a.mp4,jump high\n"})
    with pytest.raises(ValueError, match=r"holds train.csv and folders.*layout='table'"):
        load_videos(root, split="train")
    assert labels(load_videos(root, split="train", layout="table")) == {"jump/a.mp4": "jump high"}
    assert len(load_videos(root, layout="folders")) == 2


def test_tables_of_all_splits_have_the_same_classes(plant):
    texts = {"train.csv": "video,label\na.mp4,x\nb.mp4,z\n", "test.csv": "video,label\nc.mp4,y\n"}
    dataset = load_videos(plant("a.mp4", "b.mp4", "c.mp4", texts=texts), split="test")
    assert dataset.features["label"].names == ["x", "y", "z"]
    assert dataset["label"] == [1]


def test_a_list_of_another_machine_finds_its_files_by_name(plant):
    texts = {"val.txt": "/home/author/k400/val/-x_000001_000011.mp4 1\ntrain/missing.mp4 0\n"}
    root = plant("val/-x_000001_000011.mp4", texts=texts)
    dataset = load_videos(root / "val.txt", labels=["run", "jump"])
    assert labels(dataset) == {"val/-x_000001_000011.mp4": "jump"}
    assert Coverage.of(dataset).missing == ("train/missing.mp4",)


def test_a_video_that_is_listed_again_is_one_row(plant):
    dataset = load_videos(plant("a.mp4", texts={"train.txt": "a.mp4 0\na.mp4 0\n"}), labels=["x"])
    assert len(dataset) == 1
    assert Coverage.of(dataset).num_repeated == 1


def test_a_video_with_two_labels_is_refused(plant):
    root = plant("a.mp4", texts={"train.txt": "a.mp4 0\na.mp4 1\n"})
    with pytest.raises(ValueError, match=r"a.mp4 is listed as 'x' and as 'y'"):
        load_videos(root, labels=["x", "y"])


def test_a_label_outside_the_classes_is_named(plant):
    with pytest.raises(ValueError, match=r"'wave' of train/wave/b.mp4 is none of the 1 classes"):
        load_videos(plant(*FOLDERS), split="train", labels=["brush hair"])


def test_addresses_in_a_table_stay_as_they_are(plant):
    table = "video,label\nhttps://example.org/a.mp4,x\n"
    dataset = load_videos(plant(texts={"clips.csv": table}))
    assert dataset[0]["video"]["path"] == "https://example.org/a.mp4"


def test_kinoshapes_on_disk_load_and_decode(tmp_path):
    write_kinoshapes(tmp_path / "k" / "train", 2, masks=False)
    write_kinoshapes(tmp_path / "k" / "test", 2, split="test", masks=False)
    dataset = load_videos(tmp_path / "k", split="test")
    sample = VideoSamples(dataset, RecognizerVideoProcessor(num_frames=2))[1]
    assert dataset[1]["name"] == "test/videos/00001.mp4"
    assert sample["pixel_values_videos"].shape == (1, 2, 3, 224, 224)


def test_hostile_names_load_and_decode(tmp_path):
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


def test_a_saved_data_set_loads_with_one_order_of_classes(tmp_path, content):
    def part(*names):
        rows = Dataset.from_dict({"clip": [content] * len(names), "action": list(names)})
        return rows.cast_column("clip", Video(decode=False))

    DatasetDict(train=part("run", "jump"), test=part("swim")).save_to_disk(str(tmp_path / "saved"))
    dataset = load_videos(tmp_path / "saved", split="test")
    assert labels(dataset) == {"00000000": "swim"}
    assert dataset.features["label"].names == ["jump", "run", "swim"]


def test_a_loaded_data_set_of_paths_is_named_by_them():
    rows = Dataset.from_dict({"path": ["/d/a/1.mp4", "/d/b/1.mp4"], "label": ["x", "y"]})
    assert labels(load_videos(rows)) == {"a/1.mp4": "x", "b/1.mp4": "y"}


def test_columns_of_other_names_are_refused_with_those_there_are():
    with pytest.raises(ValueError, match="No column holds the video; there are clips, label"):
        load_videos(Dataset.from_dict({"clips": [b""], "label": ["x"]}))


def test_bare_numbers_for_labels_want_names():
    with pytest.raises(ValueError, match="bare numbers"):
        load_videos(Dataset.from_dict({"video": ["a.mp4"], "label": [1]}))


@pytest.mark.parametrize(
    "texts",
    [
        {"clips.csv": "video,label\na.mp4,x\n"},
        {"clips.csv": "video,label,split\na.mp4,x,train\n"},
        {"train.csv": "video,label\na.mp4,x\n"},
        {"train/metadata.jsonl": '{"video": "../a.mp4", "label": "x"}\n'},
    ],
    ids=["no splits", "column", "name", "folder"],
)
def test_a_table_is_never_taken_for_another_split(plant, texts):
    with pytest.raises(MissingSplitError):
        load_videos(plant("a.mp4", texts=texts), split="test")


def test_a_loaded_data_set_is_never_taken_for_another_split():
    with pytest.raises(MissingSplitError, match="Leave split= out"):
        load_videos(kinoshapes_dataset(1), split="test")


def test_a_table_of_several_splits_wants_a_choice(plant):
    root = plant("a.mp4", texts={"clips.csv": "video,label,split\na.mp4,x,train\nb.mp4,x,test\n"})
    with pytest.raises(ValueError, match=r"has the splits test, train. Say which"):
        load_videos(root)
    assert len(load_videos(root, split="train")) == 1


def test_a_list_of_a_known_data_set_has_its_classes(plant):
    root = plant("v_a.avi", texts={"my list.txt": "v_a.avi 100\n"})
    dataset = load_videos(root / "my list.txt", dataset="ucf101")
    assert labels(dataset) == {"v_a.avi": "YoYo"}


def test_archives_beside_their_videos_are_left_alone(plant):
    assert Coverage.of(load_videos(plant("a/x.mp4", "b/y.mp4", "all.tar"))).layout == "folders"


def test_a_folder_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        load_videos(tmp_path / "nowhere")


def test_a_name_that_the_hub_does_not_give_is_no_file_either(monkeypatch):
    def unreachable(*args, **options):
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr("datasets.load_dataset", unreachable)
    with pytest.raises(FileNotFoundError, match=r"no file or folder some/typo, and the Hub .*Couldn't reach it"):
        load_videos("some/typo")


def test_without_the_library_datasets_the_install_command_is_named(monkeypatch, plant):
    monkeypatch.setattr("kinoclip.data.loading.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'kinoclip\[train\]'"):
        load_videos(plant("a/x.mp4"))


def test_an_unknown_split_layout_or_data_set_is_refused_with_the_known_ones(plant):
    root = plant(*FOLDERS)
    with pytest.raises(ValueError, match="no split 'all'"):
        load_videos(root, split="all")
    with pytest.raises(ValueError, match=r"no layout 'tree'. Use one of folders, table"):
        load_videos(root, layout="tree")
    with pytest.raises(ValueError, match=r"no data set 'k400' in the catalog. Use one of kinetics400"):
        load_videos(root, dataset="k400")
