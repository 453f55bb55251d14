"""Measure what kept frame features save: python examples/benchmark/features.py [--output FILE.json].

Labels a folder of videos with a random ViT-B/32 (BIKE, 8 frames), one after another and in batches, then while it keeps the features
of the frames, then with those. All take turns in each round; ratios are medians within rounds.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from measuring import describe_machine, make_video, ratio
from transformers import AutoModel

from kinoclip import Classifier
from kinoclip.inference.batch_job import ClassifyJob
from kinoclip.inference.feature_cache import FeatureCache
from kinoclip.inference.profile import profile_config
from kinoclip.modeling.outputs import TextFeatures
from kinoclip.modeling.processing import RecognizerProcessor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="file for the numbers, .json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--videos", type=int, default=32)
    options = parser.parse_args()
    classifier = build()
    with tempfile.TemporaryDirectory() as folder:
        videos = make_videos(Path(folder), options.videos)
        times: dict[str, list[float]] = {}
        for number in range(options.rounds):
            cache = FeatureCache(Path(folder) / str(number), classifier.model, classifier.video_processor)
            keeping = ClassifyJob(classifier, None, batch_size=8, features=cache)
            jobs = {
                "one by one": ClassifyJob(classifier, None, batch_size=1),
                "batches of 8": ClassifyJob(classifier, None, batch_size=8),
            }
            for name, job in (jobs | {"keeping": keeping, "kept": keeping}).items():
                start = time.perf_counter()
                list(job.label(videos))
                times.setdefault(name, []).append(time.perf_counter() - start)
        size = sum(path.stat().st_size for path in cache.folder.iterdir()) / len(videos)
    result = {"machine": describe_machine(), "kilobytes_per_video": round(size / 1000, 1)}
    for name, seconds in times.items():
        rate = round(len(videos) / sorted(seconds)[len(seconds) // 2], 2)
        result[name] = {"videos_per_second": rate, "speedup": ratio(times["one by one"], seconds)}
    print(json.dumps(result, indent=1))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


def build() -> Classifier:
    torch.manual_seed(0)
    config = profile_config("bike", clip="vitb32", temporal_head="none")
    model = AutoModel.from_config(config).eval()
    text = TextFeatures(embeds=torch.randn(1, 400, 512), words=torch.randn(400, 77, 512))
    model.set_candidates([f"label {number}" for number in range(400)], text)
    return Classifier(model, RecognizerProcessor.for_config(config, None), "random")


def make_videos(folder: Path, count: int) -> list[str]:
    """Copies of one video that differ in an empty box at their end, so that each has a content of its own."""
    content = Path(make_video(folder / "video.mp4", gop=250)).read_bytes()
    paths = [folder / f"{number}.mp4" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(content + b"\0\0\0\x0cfree" + number.to_bytes(4))
    return [str(path) for path in paths]


if __name__ == "__main__":
    main()
