"""Videos and outputs in an object store: `kinoclip classify` against a server with the interface of S3 over HTTP."""

import json

import numpy as np
import pytest
import torch

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
import fsspec
from clip_files import write_clips
from s3_server import serve_s3

from kinoclip.cli import main
from kinoclip.kinoshapes import kinoshapes_clips, write_video
from kinoclip.video import VideoReader, _remote

OPTIONS = ("--model", "mini", "--labels", "red circle,blue square,green star", "--batch-size", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("videos"), kinoshapes_clips(3, seed=5, split="test", num_frames=8))


@pytest.fixture(scope="module")
def server(folder):
    with serve_s3() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        store = fsspec.filesystem("s3", skip_instance_cache=True)
        store.mkdir("bucket")
        for path in folder.iterdir():
            store.put_file(str(path), f"bucket/videos/{path.name}")
        yield server


@pytest.fixture
def store(server):
    fsspec.filesystem("s3").clear_instance_cache()
    return fsspec.filesystem("s3")


def classify(*arguments):
    return main(["classify", *map(str, arguments), *OPTIONS])


def answers(content):
    records = [json.loads(line) for line in content.splitlines()]
    return {record["video"].rpartition("/")[2]: (record["label"], record["predictions"]) for record in records}


def test_a_folder_is_labelled_as_its_local_copy_and_the_output_is_stored(folder, store, tmp_path):
    assert classify(folder, "--output", tmp_path / "local.jsonl") == 0
    assert classify("s3://bucket/videos/", "--output", "s3://bucket/out.jsonl") == 0
    content = store.cat_file("bucket/out.jsonl")
    assert [json.loads(line)["video"] for line in content.splitlines()] == [
        f"s3://bucket/videos/{n}.mp4" for n in range(3)
    ]
    assert answers(content) == answers((tmp_path / "local.jsonl").read_bytes())


def test_a_stored_output_is_continued_with_the_videos_that_are_new(server, store):
    output = ("--output", "s3://bucket/continued.jsonl")
    assert classify("s3://bucket/videos/0.mp4", *output) == 0
    before = server.bytes_of("0.mp4"), server.bytes_of("1.mp4")
    assert classify("s3://bucket/videos/0.mp4", "s3://bucket/videos/1.mp4", *output) == 0
    assert server.bytes_of("0.mp4") == before[0]
    assert server.bytes_of("1.mp4") > before[1]
    assert len(answers(store.cat_file("bucket/continued.jsonl"))) == 2


def test_a_list_of_addresses_is_a_file_or_an_address(store, capsys, tmp_path):
    store.pipe_file("bucket/list.txt", b"s3://bucket/videos/2.mp4\ns3://bucket/videos/0.mp4\n")
    assert classify("--videos-file", "s3://bucket/list.txt") == 0
    assert list(answers(capsys.readouterr().out)) == ["2.mp4", "0.mp4"]


@pytest.mark.usefixtures("store")
def test_a_missing_object_is_an_error_record(tmp_path):
    assert classify("s3://bucket/videos/0.mp4", "s3://bucket/none.mp4", "--output", tmp_path / "out.jsonl") == 0
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert records[1]["error"] == {
        "type": "FileNotFoundError",
        "message": "s3://bucket/none.mp4: the file does not exist.",
    }


@pytest.mark.parametrize("path", ["s3://bucket/none/", "s3://nowhere/none/"])
@pytest.mark.usefixtures("store")
def test_a_missing_folder_is_one_error(path, capsys):
    assert classify(path) == 2
    assert capsys.readouterr().err == f"kinoclip: {path}: the file does not exist.\n"


@pytest.mark.parametrize("path", ["s3://bucket/videos/", "s3://bucket/videos/0.mp4"])
@pytest.mark.usefixtures("store")
def test_missing_credentials_are_one_error(path, monkeypatch, capsys, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    fsspec.filesystem("s3").clear_instance_cache()
    assert classify(path) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"kinoclip: {path}: credentials for this address are missing")


def test_a_few_frames_of_a_long_video_transfer_a_small_part_of_it(server, store, tmp_path, monkeypatch):
    monkeypatch.setattr(_remote, "_BLOCK_BYTES", 1 << 14)
    noise = np.random.default_rng(0).integers(0, 255, (260, 32, 128, 3), dtype=np.uint8)
    path = write_video(tmp_path / "long.mp4", noise)  # a key frame every 250 frames
    store.put_file(str(path), "bucket/long.mp4")
    with VideoReader("s3://bucket/long.mp4") as reader, VideoReader(path) as local:
        assert reader.num_frames == 260
        assert torch.equal(reader.frames([5, 255]), local.frames([5, 255]))
    assert server.bytes_of("long.mp4") < 0.3 * path.stat().st_size
