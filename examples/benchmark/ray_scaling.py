"""Measure what Ray costs: python examples/benchmark/ray_scaling.py [--output FILE.json]. Linux, two cores or more.

Labels copies of a video with a random ViT-B/32 (BIKE, 8 frames) in one process on two cores, and in four actors on a cluster of two
machines that have one of these cores each. Both take turns in each round; ratios are medians within rounds. The steady rate leaves out
what comes before the first answers: processes that start, and models that are loaded.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import ray
import torch
from features import build, make_videos
from measuring import describe_machine, ratio
from ray.cluster_utils import Cluster

from kinoclip import Classifier
from kinoclip.inference.batch_job import ClassifyJob
from kinoclip.inference.ray_job import RayJob
from kinoclip.inference.records import read_records

WORKERS, MACHINES = 4, 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="file for the numbers, .json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--videos", type=int, default=256)
    parser.add_argument("--shard-size", type=int, default=8)
    parser.add_argument("--mini", action="store_true", help="the embedded model, to try this script")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:MACHINES]
    start_cluster(cores)
    torch.set_num_threads(len(cores))
    job = partial(build_job, options.mini)
    rates: dict[str, list[tuple[float, float]]] = {"one process": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        videos = make_videos(Path(folder), options.videos)
        for number in range(options.rounds):
            output = f"{folder}/out-{number}"
            spread = RayJob(job, output, batch_size=1, shard_size=options.shard_size, workers=WORKERS)
            runs = {"one process": lambda: run_here(job, videos), "ray": lambda run=spread: run_ray(run, videos)}
            for name in sorted(runs, reverse=number % 2 == 1):
                rates[name].append(runs[name]())
        parts = sorted(Path(output).iterdir())
        records = {record["video"]: record["label"] for part in parts for record in read_records(part)}
        same = records == {record["video"]: record["label"] for record in job("cpu").label(videos)}
    result = {"machine": describe_machine(), "videos": options.videos, "workers": WORKERS, "same_labels": same}
    for name, pairs in rates.items():
        whole, steady = ([round(pair[part], 3) for pair in pairs] for part in (0, 1))
        result[name] = {"videos_per_second": {"whole": whole, "steady": steady}}
    for part, name in enumerate(("whole", "steady")):
        one, many = ([pair[part] for pair in rates[kind]] for kind in ("one process", "ray"))
        result[f"ray_to_one_process_{name}"] = ratio(many, one)
    print(json.dumps(result, indent=1))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n")
    ray.shutdown()


def start_cluster(cores: list[int]) -> None:
    """Start one machine per core; its processes inherit the core."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    cluster = Cluster()
    for core in cores:
        os.sched_setaffinity(0, {core})
        cluster.add_node(num_cpus=WORKERS // MACHINES, object_store_memory=80_000_000, include_dashboard=False)
    os.sched_setaffinity(0, cores)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)


def build_job(mini: bool, device: str) -> ClassifyJob:
    """Build the job of every worker."""
    classifier = Classifier.load("mini", device=device) if mini else build()
    return ClassifyJob(classifier, ("red circle", "blue square") if mini else None, batch_size=1)


def run_here(job: partial, videos: list[str]) -> tuple[float, float]:
    start = time.perf_counter()
    done = [(time.perf_counter(), 1) for _ in job("cpu").label(videos)]
    return rate(start, done, 1)


def run_ray(job: RayJob, videos: list[str]) -> tuple[float, float]:
    shutil.rmtree(job.output, ignore_errors=True)
    start = time.perf_counter()
    done = [(time.perf_counter(), shard["videos"]) for shard in job.run(videos)]
    return rate(start, done, WORKERS)


def rate(start: float, done: list[tuple[float, int]], warm: int) -> tuple[float, float]:
    """Return videos per second of the whole job, and after the first `warm` results."""
    end = done[-1][0]
    rest = sum(count for _, count in done[warm:])
    return sum(count for _, count in done) / (end - start), rest / max(end - done[warm - 1][0], 1e-9)


if __name__ == "__main__":
    main()
