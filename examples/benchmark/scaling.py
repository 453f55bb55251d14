"""Measure how cost grows with work: python examples/benchmark/scaling.py --output FILE.json --picture FILE.svg.

One thing grows at a time: frames, labels, views, pixels of the video, videos in a batch. Each point is measured in a child of its own, which
starts with the model loaded, so that the peak of its memory is that of the point. Weights are random (BIKE on ViT-B/32).
"""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from measuring import describe_machine, make_video
from parts_videos import build_classifier

from kinoclip.modeling.outputs import TextFeatures

AXES = {
    "frames": (8, 16, 32, 64),
    "labels": (100, 400, 1000, 4000, 10_000),
    "views": (1, 3, 6, 12),
    "height of the video": (240, 480, 720, 1080),
    "videos in a batch": (1, 2, 4, 8, 16),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="file for the numbers, .json")
    parser.add_argument("--picture", type=Path, help="file for a picture of the numbers, .svg or .png")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    result = {"machine": describe_machine(), "points": []}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a process that has started threads must not be forked
    classifier = build_classifier("vitb32")
    with tempfile.TemporaryDirectory() as folder:
        videos = {
            h: make_video(Path(folder) / f"{h}.mp4", 12, 2, h * 16 // 9 // 2 * 2, h)
            for h in AXES["height of the video"]
        }
        for axis, work in AXES.items():
            for size in work:
                point = in_child(
                    lambda axis=axis, size=size: measure(classifier, axis, size, videos, options.rounds, threads)
                )
                result["points"].append({"axis": axis, "size": size, **point})
                print(json.dumps(result["points"][-1]), flush=True)
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    if options.picture:
        draw(result, options.picture)


def in_child(job: Callable[[], float]) -> dict:
    """Give the seconds that a job says, and the megabytes by which the memory of its process rose at most."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        before = resident_mb()
        seconds = job()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        os.write(writing, json.dumps({"seconds": round(seconds, 4), "mb": round(peak - before, 1)}).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return json.loads(said)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@torch.inference_mode()
def measure(classifier, axis: str, size: int, videos: dict, rounds: int, threads: int) -> float:
    """Give the median seconds per video, from the file to probabilities, the labels' text encoded before."""
    torch.set_num_threads(threads)
    processor, path = classifier.video_processor, videos[240]
    batch = 1
    match axis:
        case "frames":
            processor.num_frames = size
        case "labels":
            text = TextFeatures(embeds=torch.randn(1, size, 512), words=torch.randn(size, 77, 512))
            classifier.model.set_candidates([f"label {number}" for number in range(size)], text)
        case "views":
            processor.num_clips, processor.num_crops = max(1, size // 3), min(size, 3)
        case "height of the video":
            path = videos[size]
        case "videos in a batch":
            batch = size
    classifier.set_labels(None)
    return (
        statistics.median(times(lambda: classifier.answers([classifier.read(path) for _ in range(batch)]), rounds))
        / batch
    )


def times(job: Callable, rounds: int) -> Iterator[float]:
    for number in range(rounds + 1):
        start = time.perf_counter()
        job()
        if number:  # the first round warms up
            yield time.perf_counter() - start


def draw(result: dict, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, all_axes = plt.subplots(2, len(AXES), figsize=(14, 5), layout="constrained", sharex="col")
    for column, axis in zip(all_axes.T, AXES, strict=True):
        points = [point for point in result["points"] if point["axis"] == axis]
        sizes = [point["size"] for point in points]
        for axes, key, unit in zip(
            column, ("seconds", "mb"), ("seconds per video", "MB above the loaded model"), strict=True
        ):
            axes.plot(sizes, [point[key] for point in points], "o-", color="#2f6f9f")
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
            if axis == next(iter(AXES)):
                axes.set_ylabel(unit)
        column[1].set_xlabel(axis)
    figure.suptitle(
        f"BIKE ViT-B/32, {result['machine']['processor']}, {result['machine']['threads']} threads", fontsize=10
    )
    figure.savefig(path)


if __name__ == "__main__":
    main()
