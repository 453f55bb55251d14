"""Measure what token merging saves: python examples/benchmark/merging.py [--output FILE.json].

Videos per second and operations of ALT's vision tower with merging, beside the same tower without, on random weights. All take
turns in each round, and ratios are medians within rounds, so that other work on the machine slows all of them alike.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path

import torch
from measuring import describe_machine, take_turns
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

import kinoclip  # noqa: F401  (makes the models known to transformers)
from kinoclip.inference.profile import profile_config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="file for the numbers, .json")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clip", default="vitb16")
    parser.add_argument("--merge-r", nargs="+", type=int, default=[8, 13])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--videos", type=int, default=1)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    macs = {merge_r: count_macs(options.clip, merge_r, options.frames) for merge_r in (0, *options.merge_r)}
    result = {"machine": describe_machine(), "clip": options.clip, "rows": []}
    for name in options.dtypes:
        times = measure(options, getattr(torch, name), list(macs))
        for merge_r, seconds in times.items():
            row = {"dtype": name, "merge_r": merge_r, "gmacs": round(macs[merge_r] / 1e9, 1)}
            row["videos_per_second"] = round(options.videos / statistics.median(seconds), 3)
            if merge_r:
                share = statistics.median(mine / base for mine, base in zip(seconds, times[0], strict=True))
                saved = 1 - macs[merge_r] / macs[0]
                row |= {"speedup": round(1 / share, 3), "macs_saved": round(saved, 3)}
                row["saving_realized"] = round((1 - share) / saved, 3)
            result["rows"].append(row)
            print(json.dumps(row), flush=True)
    if options.output:
        Path(options.output).write_text(json.dumps(result, indent=1) + "\n")


def build(clip: str, merge_r: int) -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModel.from_config(profile_config("alt", clip=clip, merge_r=merge_r, align_regions=False)).eval()


@torch.no_grad()
def count_macs(clip: str, merge_r: int, num_frames: int) -> int:
    with torch.device("meta"):
        model, pixels = build(clip, merge_r).requires_grad_(False), torch.empty(1, num_frames, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        model.encode_frames(pixels)
    return counter.get_total_flops() // 2


@torch.inference_mode()
def measure(options: argparse.Namespace, dtype: torch.dtype, merge_rs: list[int]) -> dict[int, list[float]]:
    """Give the seconds of each round."""
    pixels = torch.randn(options.videos, options.frames, 3, 224, 224).to(options.device, dtype)
    models = {merge_r: build(options.clip, merge_r).to(options.device, dtype) for merge_r in merge_rs}
    jobs = {merge_r: partial(model.encode_frames, pixels) for merge_r, model in models.items()}
    return take_turns(jobs, options.rounds)


if __name__ == "__main__":
    main()
