"""Measure kinoclip beside what a user would pick instead: python examples/benchmark/peers.py [PART ...].

Parts: frames, pixels, cheapest, tower, matrix, text, saliency, training, file, files, start (with peak memory), and where there is a CUDA
GPU gpu-tower, gpu-training, gpu-files; all of them when none is named. Weights are random, so these are times, not accuracies. In each round
all take turns: kinoclip in float32, in what `dtype="auto"` is, with other backends, and its peers. A ratio is the median of the ratios within
rounds, and above 1 kinoclip is faster. A peer that is not installed (`pip install -e '.[benchmark]'`) is left out by name.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import parts_models
import parts_videos
import torch
from measuring import describe_machine
from picture import draw, summarize, table, update_page
from towers import BACKENDS, auto_dtype

# each part, and its share of the time
PARTS = {
    "frames": (parts_videos.measure_frames, 4),
    "pixels": (parts_videos.measure_pixels, 1),
    "cheapest": (parts_videos.measure_cheapest, 1),
    "tower": (parts_models.measure_tower, 2),
    "matrix": (parts_models.measure_matrix, 1),
    "text": (parts_models.measure_text, 2),
    "saliency": (parts_models.measure_saliency, 0.5),
    "training": (parts_models.measure_training, 1),
    "file": (parts_videos.measure_file, 3),
    "files": (parts_videos.measure_files, 4),
    "start": (parts_videos.measure_start, 1),
}
GPU_PARTS = {
    "gpu-tower": (partial(parts_models.measure_tower, device="cuda"), 2),
    "gpu-training": (partial(parts_models.measure_training, device="cuda"), 2),
    "gpu-files": (partial(parts_videos.measure_files, device="cuda"), 4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--minutes", type=float, default=20, help="to finish in; a round that has begun is ended")
    parser.add_argument("--rounds", type=int, default=5, help="at most, of a case (default: %(default)s)")
    parser.add_argument("--gpu", action="store_true", help="the parts for a GPU, and no others")
    parser.add_argument(
        "--backends", nargs="*", default=["openvino", "openvino-int8"], choices=BACKENDS, help="beside torch"
    )
    parser.add_argument("--videos", type=Path, help="folder with videos of your own to read too")
    parser.add_argument(
        "--folder", type=Path, help="folder that keeps the generated clips and models for the next run"
    )
    parser.add_argument("--clip", default="vitb32", choices=("vitb32", "vitb16", "vitl14"), help="on the CPU")
    parser.add_argument("--output", type=Path, help="file for the numbers, .json; parts that stand there stay")
    parser.add_argument("--picture", type=Path, help="file for a picture of the numbers, .svg or .png")
    parser.add_argument(
        "--readme", type=Path, nargs="+", default=[], help="pages in which the marked tables are replaced"
    )
    options = parser.parse_args()
    has_gpu, parts = torch.cuda.is_available(), PARTS | GPU_PARTS
    if options.gpu and not has_gpu:
        parser.error("--gpu needs a CUDA GPU that torch can use")
    options.parts = options.parts or [*({} if options.gpu else PARTS), *(GPU_PARTS if has_gpu else {})]
    if unknown := sorted(set(options.parts) - set(parts)):
        parser.error(f"there is no part {unknown[0]}; choose among {', '.join(parts)}")
    result = {"machine": describe_machine(), "rows": []}
    print(json.dumps(result["machine"]))
    if auto_dtype(options.clip, "cpu") == torch.float32:
        print("dtype=auto is float32 on this processor: the variant auto is left out on the CPU")
    if options.output and options.output.exists():
        before = json.loads(options.output.read_text())
        result["rows"] = [row for row in before["rows"] if row["part"] not in options.parts]
    end = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        options.folder.mkdir(exist_ok=True)
        for number, part in enumerate(options.parts):
            measure, share = parts[part]
            options.seconds = (end - time.monotonic()) * share / sum(parts[left][1] for left in options.parts[number:])
            for row in measure(options):
                result["rows"].append({"part": part, **row})
                print(json.dumps(result["rows"][-1]), flush=True)
            if options.output:
                options.output.write_text(json.dumps(result, indent=1) + "\n")
    rows = summarize(result)
    print(table(rows))
    if options.picture:
        draw(rows, result["machine"]["processor"], options.picture)
    for page in options.readme:
        page.write_text(update_page(page.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
