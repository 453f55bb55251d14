"""`kinoclip classify` with Parquet, backgrounds and stored features, and `kinoclip embed` and `search`."""

import csv
import json
import shutil
import sys

import pytest
from clip_files import write_clips

from kinoclip.cli import main
from kinoclip.inference.records import read_records
from kinoclip.kinoshapes import kinoshapes_clips

OBJECTS = ["red circle", "blue square", "green star"]
LABELS = ",".join(OBJECTS)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    clips = kinoshapes_clips(3, seed=4, labels=OBJECTS)
    folder = write_clips(tmp_path_factory.mktemp("videos"), clips, "{clip.label}.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_a_parquet_holds_the_records_of_a_jsonl_and_is_not_written_again(videos, tmp_path, capsys):
    for name in ("out.jsonl", "out.parquet"):
        assert run("classify", videos, "--model", "mini", "--labels", LABELS, "--output", tmp_path / name) == 0
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert read_records(tmp_path / "out.parquet") == records
    before = (tmp_path / "out.parquet").read_bytes()
    capsys.readouterr()
    assert run("classify", videos, "--model", "mini", "--labels", LABELS, "--output", tmp_path / "out.parquet") == 0
    assert "4 of 4 are done already" in capsys.readouterr().err
    assert (tmp_path / "out.parquet").read_bytes() == before


def test_an_output_in_the_folder_itself_is_not_labelled(videos, tmp_path):
    folder = shutil.copytree(videos, tmp_path / "videos")
    output = folder / "labels.csv"
    for _ in range(2):
        options = ("--output", output, "--features", folder / "features")
        assert run("classify", folder, "--model", "mini", "--labels", LABELS, *options) == 0
    assert len(list(csv.DictReader(output.open(newline="")))) == 4


def test_a_query_finds_its_video(videos, tmp_path, capsys):
    index = tmp_path / "videos.safetensors"
    assert run("embed", videos, "--model", "mini", "--output", index, "--pooling", "mean") == 0
    assert "3 videos, 128 numbers each, without 1 that cannot be read" in capsys.readouterr().err
    assert run("search", index, "a red circle", "a green star", "--top-k", 1) == 0
    query, found, *_ = capsys.readouterr().out.splitlines()
    assert query == "a red circle"
    assert found.endswith("red circle.mp4")
    assert run("search", index, "a blue square", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["query"] == "a blue square"
    assert answer["videos"][0]["video"] == str(videos / "blue square.mp4")
    assert len(answer["videos"]) == 3


@pytest.mark.parametrize(
    ("name", "said"), [("v.parquet", "must end in .safetensors"), ("v.safetensors", "--pooling mean")]
)
def test_embeddings_that_cannot_be_made_are_refused_in_one_line(name, said, videos, tmp_path, capsys):
    assert run("embed", videos, "--model", "mini", "--output", tmp_path / name) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_other_failures_are_one_line(videos, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    assert run("classify", videos, "--model", "mini", "--labels", LABELS, "--features", tmp_path / "file") == 2
    assert "File exists" in capsys.readouterr().err.splitlines()[-1]
    monkeypatch.setattr("kinoclip.cli.options.find_launch", lambda device: object())
    assert run("classify", videos, "--model", "mini", "--labels", LABELS) == 2
    assert "give --output" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert run("classify", videos, "--model", "mini", "--labels", LABELS, "--output", tmp_path / "out.parquet") == 1
    assert "pip install 'kinoclip[train]'" in capsys.readouterr().err
