"""Measure the rule "cheapest" against equal distances: python examples/benchmark/cheapest.py [--output FILE.json].

Work: frames to decode for 8 frames of long videos with a key frame every two seconds, and seconds from file to pixels, of equal
distances and, where it is installed, of decord with PIL as BIKE's authors use them, too; all in turns, ratios are medians within rounds.
Accuracy: the embedded CLIP, zero-shot, on KinoShapes, with 4 of 16 frames by both rules and by "uniform".
"""

import argparse
import json
import statistics
import tempfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from measuring import describe_machine, make_video, ratio, take_turns
from readers import pixels_authors, read_decord

from kinoclip import RecognizerVideoProcessor, VideoReader
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.inference.backends import load_recognizer
from kinoclip.kinoshapes.benchmark import benchmark_dataset
from kinoclip.video.sampling import sample_indices

RULES, FRAMES = ("segment_start", "cheapest"), 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="file for the numbers, .json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, nargs="+", default=(60, 600), help="lengths of the videos")
    parser.add_argument("--clips", type=int, default=100, help="of each class of KinoShapes")
    options = parser.parse_args()
    result = {"machine": describe_machine(), "accuracy": measure_accuracy(options.clips)}
    with tempfile.TemporaryDirectory() as folder:
        for seconds in options.seconds:
            path = make_video(Path(folder) / f"{seconds}.mp4", 60, seconds)
            jobs = {rule: partial(RecognizerVideoProcessor(sampling=rule).sample, path) for rule in RULES}
            if find_spec("decord"):
                jobs["decord + PIL"] = lambda path=path: pixels_authors(read_decord(path, FRAMES))
            times = take_turns(jobs, options.rounds)
            result[f"{seconds} s"] = {
                name: {"seconds": round(statistics.median(each), 3), "of_cheapest": ratio(each, times["cheapest"])}
                for name, each in times.items()
            } | {"frames_to_decode": {rule: count_decoded(path, rule) for rule in RULES}}
    print(json.dumps(result, indent=1))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


def count_decoded(path: str, rule: str) -> int:
    """Sum the frames from a key frame to each sampled one; no two samples of these videos share a group."""
    with VideoReader(path) as reader:
        costs = reader.decoding_costs()
    return sum(costs[index] for index in sample_indices(rule, len(costs), FRAMES, costs=costs))


def measure_accuracy(clips: int) -> dict[str, float]:
    """Return top-1 of the embedded CLIP by each rule, in percent."""
    model, processor = load_recognizer("mini", device="cpu")
    videos, accuracy = benchmark_dataset("actions", "test", clips_per_class=clips), {}
    processor.video_processor.num_frames = 4
    for processor.video_processor.sampling in (*RULES, "uniform"):
        accuracy[processor.video_processor.sampling] = 100 * evaluate(model, processor, videos).metrics["top1"]
    return accuracy


if __name__ == "__main__":
    main()
