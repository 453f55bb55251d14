"""Shards of a job on a cluster, without the cluster: their names, their files, and the share of each machine."""

import sys
from functools import partial
from pathlib import Path

import pytest
import ray_jobs

from kinoclip.inference.ray_job import RayJob, ShardWriter
from kinoclip.inference.records import read_records


def build(*_):
    raise AssertionError("a job was built")


@pytest.mark.parametrize(
    ("batch_size", "shard_size", "sizes"),
    [(1, 3, [3, 3, 3, 1]), (4, 3, [4, 4, 2]), (None, 3, [8, 2]), (None, 256, [10])],
)
def test_shards_are_whole_batches_of_the_list(batch_size, shard_size, sizes):
    shards = RayJob(build, "out", batch_size=batch_size, shard_size=shard_size)._shards(list("abcdefghij"))
    assert [len(part) for part in shards.values()] == sizes
    assert "".join("".join(part) for part in shards.values()) == "abcdefghij"
    assert list(shards) == sorted(shards)


@pytest.mark.parametrize(
    ("output", "suffix"),
    [("out", ".parquet"), ("s3://b/o.parquet", ".parquet"), ("o.jsonl", ".jsonl"), ("o.csv", ".csv")],
)
def test_names_of_files_depend_on_the_list_and_its_shards_alone(output, suffix):
    [name] = RayJob(build, output)._shards(["a", "b"])
    assert name.startswith("part-000000-")
    assert name.endswith(suffix)
    assert [name] == list(RayJob(build, output, retry="errors", workers=3)._shards(["a", "b"]))
    assert name not in RayJob(build, output)._shards(["a", "c"])
    assert name not in RayJob(build, output, shard_size=8)._shards(["a", "b"])


CPU, GPU = {"CPU": 8.0}, {"CPU": 16.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("device", "workers", "nodes", "expected"),
    [
        ("auto", None, [CPU, CPU], (False, 2, 8)),
        ("auto", 8, [CPU, CPU], (False, 8, 2)),
        ("auto", 40, [CPU, CPU], (False, 40, 1)),
        ("auto", None, [CPU, GPU, GPU], (True, 8, 4)),
        ("cpu", None, [CPU, GPU], (False, 2, 8)),
        ("cuda", 2, [CPU, GPU], (True, 2, 8)),
    ],
)
def test_workers_share_the_cores_of_the_smallest_machine(device, workers, nodes, expected):
    assert RayJob(build, "out", device=device, workers=workers)._resources(nodes) == expected


def test_a_cluster_without_the_device_is_an_error():
    with pytest.raises(RuntimeError, match="No machine of the Ray cluster has a GPU"):
        RayJob(build, "out", device="cuda")._resources([CPU])


def test_a_missing_ray_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"Run `pip install 'kinoclip\[ray\]'`"):
        next(RayJob(build, "out").run(["a"]))


@pytest.fixture
def write(video_path, tmp_path):
    """A function that writes a shard of one video and a text, as a new actor does; `notes` in the folder has what was read."""
    (tmp_path / "text.mp4").write_text("no video")
    videos = [str(video_path), str(tmp_path / "text.mp4")]

    def write(name="part.jsonl", labels=ray_jobs.LABELS, before=None, **settings):
        job = partial(ray_jobs.build, tmp_path / "notes", 0.0, labels=labels)
        writer = ShardWriter(job, RayJob(job, str(tmp_path), **settings), before, 1, None)
        return writer.write(name, videos)

    return write


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_shard_is_written_once(suffix, write, tmp_path):
    first = write(f"part.{suffix}")
    before = (tmp_path / f"part.{suffix}").read_bytes()
    assert [record.get("label") for record in read_records(tmp_path / f"part.{suffix}")][1:] == [None]
    again = write(f"part.{suffix}")
    assert (first["videos"], first["done"], first["failed"]) == (2, 0, 1)
    assert (again["videos"], again["done"], again["failed"]) == (2, 2, 0)
    assert (tmp_path / f"part.{suffix}").read_bytes() == before
    assert len((tmp_path / "notes").read_text().splitlines()) == 2


def test_errors_of_a_shard_are_read_again_on_request(write, tmp_path):
    write()
    again = write(retry="errors")
    assert (again["done"], again["failed"]) == (1, 1)
    read = [line.rpartition("/")[2] for line in (tmp_path / "notes").read_text().splitlines()]
    assert sorted(read) == ["clip.mp4", "text.mp4", "text.mp4"]


def test_a_shard_of_another_job_is_refused_and_named(write, tmp_path):
    job = write()["job"]
    for before in (job, None):
        with pytest.raises(ValueError, match=rf"^{tmp_path}.* holds records that were made with other labels"):
            write(labels=("red circle", "blue ring"), before=before)
    assert write(labels=("red circle", "blue ring"), before=job, retry="changed")["done"] == 0


def test_a_file_of_somebody_else_is_not_replaced(write, tmp_path):
    (tmp_path / "part.jsonl").write_text("mine\n")
    with pytest.raises(ValueError, match=rf"^{tmp_path}/part.jsonl does not hold records"):
        write()
    assert (tmp_path / "part.jsonl").read_text() == "mine\n"


def test_a_folder_with_another_list_of_videos_is_refused(tmp_path):
    job = RayJob(build, str(tmp_path))
    Path(tmp_path, *job._shards(["a"])).touch()
    with pytest.raises(ValueError, match="holds records of another list of videos"):
        job._check_folder(job._shards(["a", "b"]))
