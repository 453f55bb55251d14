"""Jobs on a cluster of two machines (both this one): processes and machines that are killed, and runs that continue."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("ray.data", reason="pip install 'kinoclip[ray]'")
if sys.platform != "linux":
    pytest.skip("machines of a cluster are simulated on Linux only", allow_module_level=True)
import ray
import ray_jobs
from clip_files import write_clips
from ray.cluster_utils import Cluster

from kinoclip.cli import main
from kinoclip.inference.ray_job import RayJob
from kinoclip.inference.records import read_records
from kinoclip.kinoshapes import kinoshapes_clips

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # as the tests beside it
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
        cluster.add_node(**NODE)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Twelve short clips, of which one is a text."""
    clips = kinoshapes_clips(12, seed=5, split="test", num_frames=8)
    folder = write_clips(tmp_path_factory.mktemp("videos"), clips, "{number:02}.mp4")
    (folder / "05.mp4").write_text("no video")
    return sorted(map(str, folder.iterdir()))


@pytest.fixture(scope="module")
def expected(videos, tmp_path_factory):
    """The records that one process writes."""
    return list(ray_jobs.build(tmp_path_factory.mktemp("one") / "notes", 0).label(videos))


@pytest.fixture
def job(cluster, tmp_path):
    return RayJob(partial(ray_jobs.build, tmp_path / "notes", 0.3), str(tmp_path / "out"), batch_size=1, shard_size=2)


def notes(tmp_path):
    """The process and the video of each reading."""
    return [line.split(" ", 1) for line in (tmp_path / "notes").read_text().splitlines()]


def records(job):
    return [record for path in sorted(Path(job.output).iterdir()) for record in read_records(path)]


def test_killed_processes_and_machines_lose_and_repeat_nothing(job, cluster, videos, expected, tmp_path):
    [node] = cluster.worker_nodes
    results = job.run(videos)
    shards = [next(results)]
    os.kill(int(notes(tmp_path)[-1][0]), signal.SIGKILL)
    shards.append(next(results))
    cluster.remove_node(node, allow_graceful=False)
    shards += results
    cluster.add_node(**NODE)
    assert len(shards) == 6
    assert [sum(shard[name] for shard in shards) for name in ("videos", "failed")] == [12, 1]
    assert records(job) == expected
    # each kill interrupts one file of two videos
    assert {video for _, video in notes(tmp_path)} == set(videos)
    assert len(notes(tmp_path)) <= 12 + 2 * 2


def test_a_stopped_job_reads_what_is_left(job, videos, expected, tmp_path):
    results = job.run(videos)
    finished = [next(results), next(results)]
    results.close()
    ready = {record["video"] for record in records(job)}
    assert len(ready) >= 4
    assert len(finished) == 2
    before = len(notes(tmp_path))
    again = list(job.run(videos))
    assert {video for _, video in notes(tmp_path)[before:]} == set(videos) - ready
    assert sum(shard["done"] for shard in again) == len(ready)
    assert records(job) == expected


@pytest.mark.usefixtures("cluster")
def test_the_command_writes_the_records_of_one_machine_and_refuses_another_list(videos, tmp_path, capsys):
    command = ["classify", *videos[:5], "--model", "mini", "--labels", ",".join(ray_jobs.LABELS), "--batch-size", "1"]
    output = ("--output", str(tmp_path / "out.jsonl"), "--on", "ray", "--shard-size", "2")
    assert main([*command, "--output", str(tmp_path / "one.jsonl")]) == 0
    assert main([*command, *output]) == 0
    parts = sorted((tmp_path / "out.jsonl").iterdir())
    assert b"".join(part.read_bytes() for part in parts) == (tmp_path / "one.jsonl").read_bytes()
    assert "5/5 videos" in capsys.readouterr().err
    assert main([*command[:2], *command[3:], *output]) == 2
    assert "holds records of another list of videos" in capsys.readouterr().err
