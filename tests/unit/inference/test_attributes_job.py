"""Attributes of many videos: their names, their records and the file of them."""

import json
from pathlib import Path

import pytest
import torch
from datasets import Dataset, Features, Value, Video

from kinoclip.data import load_videos
from kinoclip.data.files import find_videos
from kinoclip.inference.attributes import AttributeFinder
from kinoclip.inference.attributes_job import AttributesJob, name_videos, write_found
from kinoclip.inference.feature_cache import FeatureCache
from kinoclip.storage import Journal
from kinoclip.text.attributes import read_attributes


def name_all(paths):
    return name_videos({path: find_videos([path]).videos for path in map(str, paths)})


@pytest.fixture(scope="module")
def finder(classifier):
    return AttributeFinder(classifier.model, classifier.processor, ["red", "blue", "star", "circle", "gray"], top_k=3)


def test_videos_of_a_folder_are_named_as_training_names_them(clips, tmp_path):
    for number, place in enumerate(("train/red/1.mp4", "train/blue/2.mp4", "validation/red/1.mp4")):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).symlink_to(clips[number])
    both = [name for split in ("train", "validation") for name in load_videos(tmp_path, split=split)["name"]]
    assert sorted(name_all([str(tmp_path)])) == sorted(both)
    file = str(tmp_path / "train/red/1.mp4")
    assert list(name_all([file, f"{tmp_path}/./train/red/1.mp4", "http://x.org/1.mp4"])) == [
        file,
        "http://x.org/1.mp4",
    ]
    with pytest.raises(ValueError, match=r"train/red/1.mp4 and .*validation/red/1.mp4 are both named red/1.mp4"):
        name_all([str(tmp_path / "train"), str(tmp_path / "validation")])


def test_processes_together_give_a_record_of_each_video_and_an_error_of_the_broken_one(finder, clips):
    rows = name_all(clips)
    job = AttributesJob(finder, rows.get, batch_size=2)
    whole = list(job.label(list(rows)))
    assert [record["video"] for record in whole] == clips
    assert [record.get("attributes") for record in whole if "error" not in record] == [
        finder.find(clip) for number, clip in enumerate(clips) if number != 3
    ]
    assert whole[3]["error"]["type"] == "VideoRefusedError"
    shares = [list(job.label(job.plan(list(rows), process, 2))) for process in (0, 1)]
    assert shares[0] == whole[:2] + whole[4:6]
    assert shares[1] == whole[2:4] + whole[6:]
    assert list(job.label(list(rows), done=set(clips[:5]))) == whole[5:]


def test_rows_may_be_bytes_and_intervals(finder, clips):
    path, content = clips[0], Path(clips[1]).read_bytes()
    rows = {
        "start": {"video": {"path": path, "bytes": None}, "start": 0.0, "end": 0.5},
        "end": {"video": {"path": path, "bytes": None}, "start": 1.0, "end": None},
        "bytes": {"video": {"path": None, "bytes": content}},
    }
    columns = {
        "video": Video(decode=False),
        "start": Value("float64"),
        "end": Value("float64"),
        "name": Value("string"),
    }
    table = [{"start": None, "end": None, **row, "name": name} for name, row in rows.items()]
    data = Dataset.from_list(table, features=Features(columns))
    records = list(AttributesJob(finder, lambda name: data[list(rows).index(name)]).label(list(rows)))
    expected = [finder.find(path, segment=(0.0, 0.5)), finder.find(path, segment=(1.0, None)), finder.find(content)]
    assert [record["attributes"] for record in records] == expected
    assert ["file" in record for record in records] == [True, True, False]


def test_kept_features_serve_another_lexicon_without_decoding(finder, clips, tmp_path, monkeypatch):
    rows, cache = name_all(clips[:3]), FeatureCache(tmp_path, finder.model, finder.processor.video_processor)
    first = list(AttributesJob(finder, rows.get, features=cache).label(list(rows)))
    assert first == list(AttributesJob(finder, rows.get).label(list(rows)))
    monkeypatch.setattr(type(finder.processor.video_processor), "sample", None)
    other = AttributeFinder(finder.model, finder.processor, [*finder.lexicon, "green"], top_k=3)
    second = list(AttributesJob(other, rows.get, features=cache).label(list(rows)))
    assert all(len(record["attributes"]) == 3 for record in second)
    assert first[0]["job"].split("-")[:3] == second[0]["job"].split("-")[:3]
    assert first[0]["job"] != second[0]["job"]


def test_features_that_are_no_numbers_are_an_error_of_the_video(finder, clips, monkeypatch):
    encode = finder.model.encode_frames
    monkeypatch.setattr(
        finder.model, "encode_frames", lambda pixels: type(f := encode(pixels))(embeds=f.embeds * torch.nan)
    )
    [record] = AttributesJob(finder, name_all(clips[:1]).get).label(clips[:1])
    assert record["error"]["type"] == "ScoreError"


def test_a_file_is_written_from_its_records_alone(tmp_path):
    records, job = Journal(tmp_path / "a.jsonl", ("video", "job")), "-".join(["0" * 8] * 5)
    for video, found in (("x", {"attributes": ["red"]}), ("y", {"error": {"type": "OSError", "message": "no"}})):
        records.append({"video": video, **found, "job": job})
    assert write_found(tmp_path / "a.json", records.path) == (1, 1)
    assert read_attributes(tmp_path / "a.json") == {"x": ["red"]}
    assert write_found(tmp_path / "a.json", records.path) == (1, 1)
    foreign = json.dumps({"z": {"classname_topk": ["red"]}})
    (tmp_path / "a.json").write_text(foreign)
    with pytest.raises(FileExistsError, match="not written by this command"):
        write_found(tmp_path / "a.json", records.path)
    assert (tmp_path / "a.json").read_text() == foreign
