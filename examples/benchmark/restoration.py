"""Measure what SLLM saves: python examples/benchmark/restoration.py [--output FILE.json].

Frames to logits and file to logits, SLLM beside the recognizer it wraps, on random weights. All variants take turns in each
round, and the numbers are medians of the ratios within a round, so that other work on the machine slows all of them alike.
"""

import argparse
import itertools
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

import torch
from measuring import describe_machine, make_video, ratio, take_turns
from transformers import AutoModel

import kinoclip  # noqa: F401  (makes the models known to transformers)
from kinoclip.inference.profile import profile_config
from kinoclip.modeling.outputs import TextFeatures
from kinoclip.modeling.processing import RecognizerProcessor

RATES = (2, 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="file for the numbers, .json")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", nargs="+", default=["vitb32", "vitb16"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument(
        "--gops", nargs="*", type=int, default=[12, 250], help="files to measure; none for pixels only"
    )
    options = parser.parse_args()
    result = {"machine": describe_machine(), "frames": [], "files": [], "restoration": []}
    with tempfile.TemporaryDirectory() as folder:
        videos = {gop: make_video(Path(folder) / f"gop{gop}.mp4", gop) for gop in options.gops}
        for clip, name in itertools.product(options.clips, options.dtypes):
            dtype = getattr(torch, name)
            models = {rate: build(clip, rate, dtype) for rate in (1, *RATES)}
            for num_frames in (8, 16):
                row = {"clip": clip, "dtype": name, "num_frames": num_frames}
                result["frames"].append(row | measure_frames(models, num_frames, dtype, options.rounds))
                print(json.dumps(result["frames"][-1]), flush=True)
                for gop, video in videos.items():
                    found = measure_files(models, num_frames, video, options.rounds)
                    result["files"].append({**row, "gop": gop, **found})
                    print(json.dumps(result["files"][-1]), flush=True)
            row = {"clip": clip, "dtype": name}
            result["restoration"].append(row | measure_restoration(models[2], dtype, options.rounds))
            print(json.dumps(result["restoration"][-1]), flush=True)
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


def build(clip: str, rate: int, dtype: torch.dtype) -> torch.nn.Module:
    """ActionCLIP with its transformer, alone or inside SLLM."""
    torch.manual_seed(0)
    fields = {} if rate == 1 else {"recognizer": "actionclip", "rate": rate}
    config = profile_config("actionclip" if rate == 1 else "sllm", clip=clip, **fields)
    return AutoModel.from_config(config).to(dtype).eval()


def text_for(model: torch.nn.Module) -> TextFeatures:
    return TextFeatures(embeds=torch.randn(1, 400, model.config.projection_dim, dtype=model.dtype))


@torch.inference_mode()
def measure_frames(models: dict, num_frames: int, dtype: torch.dtype, rounds: int) -> dict:
    """Time pixels to logits over 400 classes whose text is encoded already."""
    jobs = {}
    for rate, model in models.items():
        pixels = torch.randn(1, -(-num_frames // rate), 3, 224, 224, dtype=dtype)
        jobs[rate] = partial(model, pixels, text_features=text_for(model))
    return compare(jobs, rounds)


@torch.inference_mode()
def measure_files(models: dict, num_frames: int, video: str, rounds: int) -> dict:
    """Time a file to logits: decode, resize, crop, normalize, recognize."""
    jobs = {}
    for rate, model in models.items():
        processor = RecognizerProcessor.for_config(model.unwrap().config, None).video_processor
        processor.keep_every = rate
        jobs[rate] = partial(recognize_file, model, processor, video, num_frames, text_for(model))
    return compare(jobs, rounds)


def recognize_file(model, processor, video: str, num_frames: int, text: TextFeatures) -> torch.Tensor:
    sample = processor.sample(video, num_frames=num_frames)
    return model(sample.pixel_values.to(model.dtype), text_features=text).logits


@torch.inference_mode()
def measure_restoration(model: torch.nn.Module, dtype: torch.dtype, rounds: int, kept: int = 8) -> dict:
    """Time all gaps in one batch beside one gap after another, and beside the tower of the kept frames."""
    frames = torch.randn(1, kept, model.frame_width, dtype=dtype)
    pixels = torch.randn(1, kept, 3, 224, 224, dtype=dtype)
    shares = torch.tensor([0.5])
    times = take_turns(
        {
            "batch": lambda: model.restorer(frames, shares),
            "loop": lambda: [restore_gap_by_gap(model, frames[:, i : i + 2]) for i in range(kept - 1)],
            "tower": lambda: model.recognizer.encode_frames(pixels),
        },
        2 * rounds,
    )
    return {
        "loop_over_batch": ratio(times["loop"], times["batch"]),
        "share_of_tower": ratio(times["batch"], times["tower"]),
    }


def restore_gap_by_gap(model: torch.nn.Module, pair: torch.Tensor) -> torch.Tensor:
    """Restore one frame as the official loop does: one direction after the other."""
    positions = model.restorer.position_embedding.weight[:2].to(pair.dtype)
    directions = [
        model.restorer.encoder(order + positions, None).last_hidden_state.mean(1) for order in (pair, pair.flip(1))
    ]
    return (directions[0] + directions[1]) / 2


def compare(jobs: dict, rounds: int) -> dict:
    times = take_turns(jobs, rounds)
    speedups = {f"speedup_r{rate}": ratio(times[1], times[rate]) for rate in RATES}
    return {"base_ms": round(1000 * statistics.median(times[1]), 1), **speedups}


if __name__ == "__main__":
    main()
