"""Compare motion curves in cost and in what they find: python examples/benchmark/motion.py [--output FILE.json].

Cost: seconds for the curve of one file, all curves in turns; ratios to MGSampler's differences of pixels are medians within rounds.
Found: on KinoShapes clips in which an object is visible for two frames of sixteen, the share of clips of which four sampled frames
show it; and the correlation of each curve with that of pixels.
"""

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from measuring import describe_machine, make_video, ratio, take_turns

from kinoclip import VideoReader
from kinoclip.kinoshapes.benchmark import action_classes, benchmark_dataset
from kinoclip.video.motion import CURVES
from kinoclip.video.sampling import sample_by_motion, segment_centers

SIZES = {"256p": (340, 256), "720p": (1280, 720)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="file for the numbers, .json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=int, default=20, help="of each class")
    options = parser.parse_args()
    result = {"machine": describe_machine(), "found": find_needles(options.clips)}
    with tempfile.TemporaryDirectory() as folder:
        for name, (width, height) in SIZES.items():
            path = make_video(Path(folder) / f"{name}.mp4", 60, width=width, height=height)
            times = take_turns({kind: partial(measure, path, kind) for kind in CURVES}, options.rounds)
            result[name] = {
                kind: {"seconds": round(statistics.median(each), 4), "of_pixels": ratio(each, times["pixels"])}
                for kind, each in times.items()
            }
    print(json.dumps(result, indent=1))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


def measure(path: str | bytes, kind: str) -> list[float]:
    with VideoReader(path) as reader:
        return CURVES[kind](reader).tolist()


def find_needles(clips: int) -> dict:
    needles = {row for row, known in enumerate(action_classes("actions")) if known.group == "needle"}
    hits = {kind: [] for kind in ("uniform", *CURVES)}
    correlations = {kind: [] for kind in CURVES}
    for row in benchmark_dataset("actions", "test", clips_per_class=clips):
        if row["label"] not in needles:
            continue
        _, span, _ = row["spans"]  # the needle is between two parts of another object
        curves = {kind: measure(row["video"]["bytes"], kind) for kind in CURVES}
        taken = {kind: sample_by_motion(curve, 4) for kind, curve in curves.items()} | {
            "uniform": segment_centers(16, 4)
        }
        for kind, indices in taken.items():
            hits[kind].append(any(span["start_frame"] <= index < span["end_frame"] for index in indices))
        for kind, curve in curves.items():
            correlations[kind].append(float(np.corrcoef(curve, curves["pixels"])[0, 1]))
    found = {kind: {"shown": round(statistics.mean(each), 3)} for kind, each in hits.items()}
    for kind, each in correlations.items():
        found[kind]["correlation"] = round(statistics.mean(each), 3)
    return {"clips": len(hits["uniform"]), **found}


if __name__ == "__main__":
    main()
