"""Measure whether `--budget` keeps its promise: python examples/benchmark/budget.py [--model MODEL] [--output FILE.json].

The curve is measured on the validation clips of KinoShapes; each budget then classifies test clips, as files, several times. Numbers
are medians over rounds, in which the budgets take turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import describe_machine

from kinoclip.inference.budget import Budget, read_curve
from kinoclip.kinoshapes.benchmark import benchmark_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--budgets", nargs="+", help="by default two between the fastest and the full setting, and 3h")
    parser.add_argument(
        "--clips",
        type=int,
        default=9,
        help="of each class; with 200 clips or more in all a job decodes in processes of its own, which costs time that the curve lacks",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", help="file for the numbers, .json")
    options = parser.parse_args()
    kinoclip("profile", options.model, "--data", "kinoshapes/actions", "--split", "validation", "--measure")
    curve = read_curve(options.model)
    full, fastest = curve.points[0].seconds, min(point.seconds for point in curve.points)
    between = [f"{1000 * (fastest + share * (full - fastest)):.2f}ms" for share in (0.25, 0.75)]
    found: dict[str, list[tuple[float, float]]] = {budget: [] for budget in options.budgets or (*between, "3h")}
    with tempfile.TemporaryDirectory() as folder:
        classes = write_clips(Path(folder) / "clips", options.clips)
        for number in range(options.rounds):
            for budget, runs in found.items():
                output = Path(folder) / f"{number}-{budget}.jsonl"
                choice = ("--model", options.model, "--labels", ",".join(classes), "--budget", budget)
                said = kinoclip("classify", f"{folder}/clips", *choice, "--output", str(output))
                records = [json.loads(line) for line in output.read_text().splitlines()]
                right = [record["label"] == Path(record["video"]).parent.name for record in records]
                difference = float(said.rpartition("per video, ")[2].partition("%")[0])
                runs.append((difference, statistics.fmean(right)))
    count = options.clips * len(classes)
    result = {"machine": describe_machine(), "load": os.getloadavg(), "model": options.model, "budgets": {}}
    for budget, runs in found.items():
        point = curve.choose(Budget.parse(budget).seconds_per_video(full, count))
        differences = [round(difference, 1) for difference, _ in runs]
        result["budgets"][budget] = {
            "setting": str(point.setting),
            "promised_ms": round(1000 * point.seconds, 2),
            "time_over_promise_percent": {"median": statistics.median(differences), "rounds": differences},
            "top1_of_curve_percent": round(100 * point.accuracy, 2),
            "top1_percent": round(100 * runs[0][1], 2),
        }
    print(json.dumps(result, indent=1))
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


def kinoclip(*arguments: str) -> str:
    """Run a command and return what it reports."""
    program = [sys.executable, "-c", "from kinoclip.cli import run; run()"]
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stderr


def write_clips(folder: Path, clips_per_class: int) -> list[str]:
    """Write test clips in folders of their classes, and return the classes."""
    clips = benchmark_dataset("actions", "test", clips_per_class=clips_per_class)
    classes = clips.features["label"].names
    for number, row in enumerate(clips):
        into = folder / classes[row["label"]]
        into.mkdir(parents=True, exist_ok=True)
        (into / f"{number}.mp4").write_bytes(row["video"]["bytes"])
    return classes


if __name__ == "__main__":
    main()
