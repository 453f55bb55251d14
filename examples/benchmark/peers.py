"""Measure kinoclip beside what a user would pick instead: python examples/benchmark/peers.py [PART ...].

Parts: frames, pixels, tower, text, saliency, training, file, files, start (with peak memory); all of them when none is named. Weights are
random, so these are times, not accuracies. In each round all take turns; a ratio is the median of the ratios within rounds, and above 1
kinoclip is faster. A peer that is not installed (`pip install -e '.[benchmark]'`) is left out by name.
"""

import argparse
import json
import tempfile
from pathlib import Path

import parts_models
import parts_videos
from measuring import describe_machine
from picture import draw, summarize, table

PARTS = {
    "frames": parts_videos.measure_frames,
    "pixels": parts_videos.measure_pixels,
    "tower": parts_models.measure_tower,
    "text": parts_models.measure_text,
    "saliency": parts_models.measure_saliency,
    "training": parts_models.measure_training,
    "file": parts_videos.measure_file,
    "files": parts_videos.measure_files,
    "start": parts_videos.measure_start,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--videos", type=Path, help="folder with videos of your own to read too")
    parser.add_argument(
        "--folder", type=Path, help="folder that keeps the generated clips and models for the next run"
    )
    parser.add_argument("--clip", default="vitb32", choices=("vitb32", "vitb16", "vitl14"))
    parser.add_argument("--device", default="cpu", help="of the towers")
    parser.add_argument("--output", type=Path, help="file for the numbers, .json; parts that stand there stay")
    parser.add_argument("--picture", type=Path, help="file for a picture of the numbers, .svg or .png")
    options = parser.parse_args()
    options.parts = options.parts or list(PARTS)
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"there is no part {unknown[0]}; choose among {', '.join(PARTS)}")
    result = {"machine": describe_machine(), "rows": []}
    if options.output and options.output.exists():
        before = json.loads(options.output.read_text())
        result["rows"] = [row for row in before["rows"] if row["part"] not in options.parts]
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        options.folder.mkdir(exist_ok=True)
        for part in options.parts:
            for row in PARTS[part](options):
                result["rows"].append({"part": part, **row})
                print(json.dumps(result["rows"][-1]), flush=True)
    rows = summarize(result)
    print(table(rows))
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    if options.picture:
        draw(rows, result["machine"]["processor"], options.picture)


if __name__ == "__main__":
    main()
