"""Measure what an export costs and gains: python examples/export/measure.py [MODEL...] [--rounds 5].

Accuracy of the named models and of their graphs on the test clips of KinoShapes "actions". Without a name, the speed of the vision tower of
a ViT-B/32 with random weights; the kinds take turns, so that other work on the machine affects all of them.
"""

import argparse
import copy
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch

from kinoclip import BikeConfig, BikeModel, BikeProcessor
from kinoclip.data import load_videos
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.export import export_recognizer, load_exported
from kinoclip.inference.backends import choose_dtype, load_recognizer
from kinoclip.inference.profile import clip_fields

# name of a backend to the data type of its graphs and their runtime
KINDS = {
    "onnxruntime": ("float32", "onnxruntime"),
    "onnxruntime-int8": ("int8", "onnxruntime"),
    "openvino": ("float32", "openvino"),
    "openvino-int8": ("openvino-int8", "openvino"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind (default: %(default)s)")
    options = parser.parse_args()
    print(
        f"{torch.get_num_threads()} threads, {os.cpu_count()} processors with {torch.backends.cpu.get_cpu_capability()}, load {os.getloadavg()[0]:.1f}\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        for model in options.models:
            measure_accuracy(model, Path(folder, Path(model).name))
        if not options.models:
            measure_speed(Path(folder, "vitb32"), options.rounds)


def export_all(model, processor, folder: Path, parts=None) -> dict[str, Path]:
    """Export a model in all data types and return the folder of each backend."""
    folders = {kind: folder / dtype for kind, (dtype, _) in KINDS.items()}
    for dtype, place in {place.name: place for place in folders.values()}.items():
        list(export_recognizer(model, processor, place, dtype=dtype, parts=parts))
    return folders


def measure_accuracy(name: str, folder: Path) -> None:
    dataset = load_videos("kinoshapes/actions", split="test")
    model, processor = load_recognizer(name, device="cpu", dtype="float32")
    folders = export_all(model, processor, folder)
    whole = evaluate(model, processor, dataset)
    print(f"| {name} | top-1 | 95 % interval | same answer | largest difference of logits | graphs |")
    print("|---|---|---|---|---|---|")
    print(row("model", whole, "", "", ""))
    for kind, place in folders.items():
        recognizer, processor = load_exported(place, KINDS[kind][1])
        report = evaluate(recognizer, processor, dataset)
        same = (report.scores.argmax(-1) == whole.scores.argmax(-1)).sum()
        difference = f"{recognizer.manifest.difference['logits']:.0e}"
        print(row(kind, report, f"{same} of {whole.num_videos}", difference, f"{size(place, '*') / 1e6:.1f} MB"))
    print(flush=True)


def row(name: str, report, *cells: str) -> str:
    low, high = report.intervals["top1"]
    return line(name, f"{report.metrics['top1']:.1%}", f"{low:.1%} to {high:.1%}", *cells)


def line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def size(folder: Path, name: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(name) if path.suffix in (".onnx", ".data", ".bin"))


def measure_speed(folder: Path, rounds: int) -> None:
    config = BikeConfig.from_clip_fields(clip_fields("vitb32"), temporal_head="none")
    model, processor = BikeModel(config).eval(), BikeProcessor.for_config(config, None)
    folders = export_all(model, processor, folder, ["frames"])
    runs = {"model float32": model.encode_frames}
    if choose_dtype("auto", torch.device("cpu"), sum(p.numel() for p in model.parameters())) == torch.bfloat16:
        half = copy.deepcopy(model).bfloat16()
        runs["model bfloat16"] = lambda pixels: half.encode_frames(pixels.bfloat16())
    runs |= {kind: load_exported(place, KINDS[kind][1])[0].encode_frames for kind, place in folders.items()}
    print("| ViT-B/32, 8 frames | 1 video | times the model | 8 videos | times the model | graph |")
    print("|---|---|---|---|---|---|")
    seconds = {batch: time_in_turn(runs, torch.randn(batch, 8, 3, 224, 224), rounds) for batch in (1, 8)}
    for kind in runs:
        cells = [
            cell
            for batch in (1, 8)
            for cell in (
                f"{1000 * seconds[batch][kind]:.0f} ms",
                f"{seconds[batch]['model float32'] / seconds[batch][kind]:.2f}",
            )
        ]
        graph = f"{size(folders[kind], 'frames*') / 1e6:.0f} MB" if kind in folders else ""
        print(line(kind, *cells, graph))


@torch.inference_mode()
def time_in_turn(runs, pixels: torch.Tensor, rounds: int) -> dict[str, float]:
    """Return the median seconds of each kind; the first run is a warm-up."""
    seconds = {kind: [] for kind in runs}
    for _ in range(rounds + 1):
        for kind, run in runs.items():
            start = time.perf_counter()
            run(pixels)
            seconds[kind].append(time.perf_counter() - start)
    return {kind: statistics.median(each[1:]) for kind, each in seconds.items()}


if __name__ == "__main__":
    main()
