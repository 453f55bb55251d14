"""Addresses that fsspec opens, and copies of their files."""

import json
import sys

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from huggingface_hub import constants

from kinoclip.addresses import (
    accessing,
    is_address,
    list_files,
    load_file,
    open_filesystem,
    store_file,
    working_copy,
)
from kinoclip.inference.record_output import RecordOutput

JOB = "-".join(["0123abcd"] * 5)


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    return fsspec.filesystem("memory")


@pytest.mark.parametrize(
    "name", ["s3://bucket/a.mp4", "gs://bucket/a.mp4", "hf://datasets/a/b/c.mp4", "memory://a.mp4"]
)
def test_protocols_of_fsspec_are_addresses(name):
    assert is_address(name)


@pytest.mark.parametrize(
    "name",
    [
        *("a.mp4", "/a/b.mp4", "s3:/a.mp4", "://a", b"s3://a/b", None),
        *("http://a/b.mp4", "https://a/b.mp4", "file:///a.mp4", "local:///a.mp4", "nothing://a"),
        *("zip://a.mp4::file:///b.zip", "simplecache::s3://bucket/a.mp4"),
    ],
)
def test_local_files_and_http_and_chains_are_no_addresses(name):
    assert not is_address(name)


def test_files_of_a_folder_are_listed_sorted_without_hidden_ones(memory):
    for name in ("/v/b.mp4", "/v/a/c.mp4", "/v/.hidden.mp4", "/v/.git/d.mp4", "/w/e.mp4"):
        memory.pipe_file(name, b"x")
    assert list_files("memory://v/") == list_files("memory://v") == ["memory://v/a/c.mp4", "memory://v/b.mp4"]
    assert list_files("memory://v/b.mp4") == ["memory://v/b.mp4"]
    with pytest.raises(FileNotFoundError, match=r"^memory://none: the file does not exist"):
        list_files("memory://none")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with pytest.raises(ImportError, match=r"^abfs://a/b.mp4: .*Run `pip install adlfs`"):
        open_filesystem("abfs://a/b.mp4")


class NoCredentialsError(Exception):
    """As botocore has one."""


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            NoCredentialsError("Unable to locate"),
            RuntimeError,
            "credentials for this address are missing .Unable to locate",
        ),
        (PermissionError("Forbidden"), OSError, "it cannot be accessed .Forbidden"),
        (FileNotFoundError("x"), FileNotFoundError, "the file does not exist"),
        (KeyError("odd"), OSError, "it cannot be accessed"),
    ],
)
def test_errors_of_a_file_system_have_one_line_and_the_address(error, kind, message):
    with pytest.raises(kind, match=f"^s3://b/k: {message}"), accessing("s3://b/k"):
        raise error


@pytest.mark.parametrize("place", ["memory://out/a.txt", "local"])
def test_a_stored_file_is_loaded_again_and_replaced(place, tmp_path):
    target = str(tmp_path / "a.txt") if place == "local" else place
    file, copy = tmp_path / "new", tmp_path / "copy"
    assert not load_file(target, copy)
    assert not copy.exists()
    for content in ("one", "two"):
        file.write_text(content)
        store_file(file, target)
        assert load_file(target, copy)
        assert copy.read_text() == content


def write(output, *videos):
    with RecordOutput(output, JOB) as records:
        for video in videos:
            if video not in records:
                records.append({"video": video, "job": JOB})
        records.finish(videos)


def outputs():
    return [*(constants.HF_HOME / "kinoclip" / "outputs").glob("*/*")]


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HOME", tmp_path / "home")


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_an_output_at_an_address_is_stored_whole_and_continued_from_there(suffix, memory, tmp_path):
    for videos in (("a",), ("a", "b")):
        with working_copy(f"memory://out/r{suffix}") as file:
            write(file, *videos)
        assert not outputs()
    write(tmp_path / f"r{suffix}", "a", "b")
    assert memory.cat_file(f"/out/r{suffix}") == (tmp_path / f"r{suffix}").read_bytes()


@pytest.mark.usefixtures("home")
def test_an_interrupted_output_stays_on_this_machine_and_is_continued(memory):
    def interrupted():
        with working_copy("memory://out/r.jsonl") as file:
            write(file, "a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in outputs()] == ["r.jsonl"]
    assert not memory.exists("/out/r.jsonl")
    with working_copy("memory://out/r.jsonl") as file:
        write(file, "a", "b")
    videos = [json.loads(line)["video"] for line in memory.cat_file("/out/r.jsonl").splitlines()]
    assert videos == ["a", "b"]
    assert not outputs()


@pytest.mark.usefixtures("home")
def test_a_refused_output_leaves_no_copy_and_names_the_address(memory):
    memory.pipe_file("/out/r.jsonl", b'{"no": "record"}\n')
    with (
        pytest.raises(ValueError, match=r"^memory://out/r.jsonl does not hold records"),
        working_copy("memory://out/r.jsonl") as file,
    ):
        write(file, "a")
    assert not outputs()


def test_a_local_output_is_written_in_place():
    with working_copy("out.jsonl") as file:
        assert file == "out.jsonl"
