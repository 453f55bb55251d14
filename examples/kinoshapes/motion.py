"""Recognize how a thing moves, on unseen clips: python examples/kinoshapes/motion.py [RECIPE ...].

The six classes come in pairs that are each other's time reversed: a mean of frames gets at most 50 %. All recipes
get the same clips, rates and epochs.
"""

import argparse
import tempfile
from pathlib import Path

from kinoclip.evaluation.evaluate import evaluate
from kinoclip.inference.backends import load_recognizer
from kinoclip.kinoshapes.benchmark import benchmark_dataset
from kinoclip.training.recipe import load_recipe
from kinoclip.training.trainer import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=["bike-mean", "alt-r0", "alt-r8", "dstpr"])
    parser.add_argument("--work", type=Path, help="folder of the models (default: a temporary one)")
    parser.add_argument("--split", default="test", choices=["validation", "test"], help="clips to measure on")
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    unseen = benchmark_dataset("motions", options.split, clips_per_class=40)
    show("CLIP as it is", evaluate(*load_recognizer("mini"), unseen))
    for name in options.recipes:
        recipe = load_recipe(f"benchmark/{name}").with_settings({"training.epochs": options.epochs})
        train(recipe, benchmark_dataset("motions", "train", clips_per_class=128), work / name)
        show(name, evaluate(*load_recognizer(work / name), unseen))


def show(name, report) -> None:
    low, high = report.intervals["top1"]
    print(f"{name}: {report.metrics['top1']:.1%} of {len(report.targets)} clips ({low:.1%} to {high:.1%})", flush=True)


if __name__ == "__main__":
    main()
