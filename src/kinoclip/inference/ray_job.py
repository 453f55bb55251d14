"""Batch jobs on a Ray cluster: the list of videos in shards, each with an output of its own.

Ray Data gives the shards to a pool of actors, restarts actors that are killed, and repeats their shards. A shard is an ordinary job with
an ordinary output (`RecordOutput`), which is written on the actor's machine and then stored whole under a name that depends on the list
of videos alone. So a repeated shard replaces the same file, and a finished one is kept.
"""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from kinoclip.addresses import called, is_address, list_files, load_file, store_file
from kinoclip.inference.batch_job import GPU_BATCH_SIZE, BatchJob
from kinoclip.inference.record_output import RecordOutput, Retry
from kinoclip.inference.records import SUFFIXES, check_job, read_records
from kinoclip.storage import exclusive, hash_json, remove_all_temporaries

SHARD_SIZE = 256


@dataclass(frozen=True)
class RayJob:
    """How the records of many videos are computed on a Ray cluster.

    Args:
        build: returns the job, for a device ("cpu" or "cuda"); picklable.
        output: folder that all machines see, or an address; the end of its name, .jsonl or .csv, is the format of its files,
            otherwise Parquet.
        device: "cpu" or "cuda", for one GPU per actor; "auto" for GPUs if the cluster has any.
        batch_size: of the job.
        shard_size: videos per file; rounded up to whole batches.
        workers: number of actors; by default one for each GPU, or for each machine.
        top_k: predictions per row of a CSV.
        retry: see `RecordOutput`.
    """

    build: Callable[[str], BatchJob]
    output: str
    device: str = "auto"
    batch_size: int | None = None
    shard_size: int = SHARD_SIZE
    workers: int | None = None
    top_k: int = 5
    retry: Retry | None = None

    def run(self, videos: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Compute the records of all videos; yield "videos", "done" (before this run) and "failed", the numbers of each shard.

        Raises:
            ImportError: Ray is not installed.
            ValueError: the output holds records of another list of videos or another job.
            RuntimeError: another job writes to the output, or the cluster has too few resources.
        """
        try:
            import ray.data  # noqa: F401
        except ImportError as error:
            raise ImportError("Ray Data is not installed. Run `pip install 'kinoclip[ray]'`.") from error
        if is_address(self.output):
            yield from self._run(self._shards(videos))
            return
        Path(self.output).mkdir(parents=True, exist_ok=True)
        with exclusive(self.output):
            remove_all_temporaries(Path(self.output))
            yield from self._run(self._shards(videos))

    def _shards(self, videos: Sequence[str]) -> dict[str, Sequence[str]]:
        """Return the videos of each file; batches are those of the whole list."""
        suffix = Path(self.output).suffix
        suffix = suffix if suffix in SUFFIXES else ".parquet"
        step = self.batch_size or GPU_BATCH_SIZE
        size = math.ceil(self.shard_size / step) * step
        digest = hash_json([list(videos), size])[:8]
        parts = (videos[start : start + size] for start in range(0, len(videos), size))
        return {f"part-{number:06}-{digest}{suffix}": part for number, part in enumerate(parts)}

    def _check_folder(self, shards: dict[str, Sequence[str]]) -> str | None:
        """Return the job that made the records of the output; None if it is new."""
        try:
            found = {name.rpartition("/")[2]: name for name in list_files(self.output)}
        except FileNotFoundError:
            return None
        others = [name for name in found if name.startswith("part-") and name not in shards]
        if others:
            raise ValueError(
                f"{self.output} holds records of another list of videos, or of another --shard-size or --batch-size, such as "
                f"{others[0]}. Choose another output."
            )
        for name in sorted(found.keys() & shards):
            with tempfile.TemporaryDirectory() as folder:
                load_file(found[name], Path(folder, name))
                return str(read_records(Path(folder, name))[0]["job"])
        return None

    def _run(self, shards: dict[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
        import ray
        from ray.data import ActorPoolStrategy, DataContext, from_items

        before = self._check_folder(shards)
        is_own = not ray.is_initialized()
        handler = signal.getsignal(signal.SIGTERM)
        if is_own:
            # no reports over the network, and no messages of its C++ code
            os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"} | os.environ)
            ray.init(logging_level=logging.ERROR, log_to_driver=False)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, handler)  # Ray sets its own
        try:
            has_gpu, workers, cores = self._resources([node["Resources"] for node in ray.nodes() if node["Alive"]])
            job = partial(self.build, "cuda" if has_gpu else "cpu")
            is_local = not all("://" in video for part in shards.values() for video in part)
            writer = (job, self, before, cores, os.getcwd() if is_local else None)  # noqa: PTH109
            DataContext.get_current().enable_progress_bars = False
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
            rows = [{"name": name, "videos": json.dumps(list(part))} for name, part in shards.items()]
            pool = ActorPoolStrategy(
                min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=1
            )
            options: dict[str, Any] = {"batch_size": 1, "compute": pool, "num_cpus": cores, "num_gpus": int(has_gpu)}
            done = from_items(rows, override_num_blocks=len(rows)).map_batches(
                ShardWriter, fn_constructor_args=writer, **options
            )
            for row in done.iter_rows():
                result = pickle.loads(row["result"])  # noqa: S301  (of this package)
                if isinstance(result, Exception):
                    raise result
                check_job(Path(self.output), before := before or result["job"], result["job"])
                yield result
        finally:
            if is_own:
                ray.shutdown()

    def _resources(self, nodes: Sequence[dict[str, float]]) -> tuple[bool, int, int]:
        """Return whether actors have a GPU, their number, and the cores of each."""
        has_gpu = self.device == "cuda" or (self.device == "auto" and any(node.get("GPU") for node in nodes))
        usable = [node for node in nodes if node.get("GPU" if has_gpu else "CPU")]
        if not usable:
            raise RuntimeError(f"No machine of the Ray cluster has a {'GPU' if has_gpu else 'CPU'}. Add one.")
        workers = self.workers or (int(sum(node["GPU"] for node in usable)) if has_gpu else len(usable))
        cores = min(int(node.get("CPU", 1)) for node in usable) // math.ceil(workers / len(usable))
        return has_gpu, workers, max(1, cores)


@dataclass
class ShardWriter:
    """Writes the records of shards, in an actor.

    Args:
        build: returns the job; called for the first shard.
        settings: of the whole job.
        before: job that made the records of the output.
        cores: for reading and computing.
        folder: to which the names of local files are relative.
    """

    build: Callable[[], BatchJob]
    settings: RayJob
    before: str | None
    cores: int
    folder: str | None

    @cached_property
    def job(self) -> BatchJob:
        """The job, whose model is loaded once."""
        if self.folder is not None:
            os.chdir(self.folder)
        torch.set_num_threads(self.cores)
        job = self.build()
        if self.before and self.settings.retry != "changed":
            check_job(Path(self.settings.output), self.before, job.identity)
        return job

    def write(self, name: str, videos: Sequence[str]) -> dict[str, Any]:
        """Write the records of one shard that are not there yet, and return its numbers."""
        job, target = self.job, f"{self.settings.output.rstrip('/')}/{name}"
        plan = replace(job.plan(videos), cores=self.cores)
        top_k = min(self.settings.top_k, len(plan.labels))
        failed = 0
        with tempfile.TemporaryDirectory(prefix="kinoclip-") as folder:
            file = Path(folder, name)
            load_file(target, file)
            output = RecordOutput(file, job.identity, top_k, locate=job.path, retry=self.settings.retry)
            with called(file, target), output:
                done = sum(video in output for video in videos)
                for record in job.label(plan, done=output):
                    output.append(record)
                    failed += "error" in record
                output.finish(videos)
            if done < len(videos):
                store_file(file, target)
        return {"videos": len(videos), "done": done, "failed": failed, "job": job.identity}

    def __call__(self, rows: dict[str, Any]) -> dict[str, list[bytes]]:
        """Write the shard of a row; errors are results, so that they reach the user as they are."""
        try:
            result: Any = self.write(str(rows["name"][0]), json.loads(str(rows["videos"][0])))
        except Exception as error:
            result = error
        try:
            pickle.loads(pickle.dumps(result))  # noqa: S301
        except Exception:  # an error with arguments of its own
            result = RuntimeError(f"{type(result).__name__}: {result}")
        return {"result": [pickle.dumps(result)]}
