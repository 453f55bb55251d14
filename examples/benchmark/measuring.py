"""What every benchmark here shares: variants that take turns, ratios within rounds, the machine, videos to read."""

import platform
import random
import statistics
import time
from collections.abc import Callable, Hashable
from pathlib import Path

import av
import numpy as np
import torch

from kinoclip.inference.budget import processor_name

# those that decide how fast products are, by their names in torch
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512": "AVX-512",
    "vnni": "VNNI",
    "avx512_bf16": "AVX-512 bf16",
    "amx_tile": "AMX",
}


def take_turns(
    jobs: dict[Hashable, Callable], rounds: int, seconds: float = float("inf")
) -> dict[Hashable, list[float]]:
    """Return the seconds of each job in each round; all jobs take part in a round, each time in another order.

    The order is drawn, so that none always follows the same one, whose threads may still be at it. No round starts after `seconds`.
    The first round warms up; it counts only if it took so long that there is no other.
    """
    times: dict[Hashable, list[float]] = {name: [] for name in jobs}
    generator, end = random.Random(0), time.perf_counter() + seconds
    for number in range(rounds + 1):
        if number and time.perf_counter() > end:
            break
        for name in generator.sample(list(jobs), len(jobs)):
            start = time.perf_counter()
            jobs[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - start)
    return {name: each[1:] or each for name, each in times.items()}


def ratio(longer: list[float], shorter: list[float]) -> float:
    """Give how many times longer one takes, the median over rounds."""
    return round(statistics.median(a / b for a, b in zip(longer, shorter, strict=True)), 3)


def describe_machine() -> dict:
    """Say what the numbers were measured on."""
    checks = {name: getattr(torch.cpu, f"_is_{name}_supported", bool) for name in INSTRUCTIONS}
    return {
        "processor": processor_name(),
        "instructions": [label for name, label in INSTRUCTIONS.items() if checks[name]()],
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def make_video(path: Path, gop: int, seconds: int = 10, width: int = 340, height: int = 256) -> str:
    """Encode H.264 at 30 frames per second: a textured picture that drifts under noise."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (-(-height // 8) + 8, -(-width // 8) + 8, 3)).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        preset = "medium" if width < 1000 else "veryfast"
        # one slice per picture, as files usually have; PyAV's own setting makes one per thread
        options = {
            "preset": preset,
            "crf": "23",
            "g": str(gop),
            "sc_threshold": "0",
            "x264-params": "sliced-threads=0",
        }
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        noises = rng.integers(-8, 8, (16, height, width, 1), dtype=np.int16)
        for i in range(30 * seconds):
            picture = np.roll(texture, (i // 3, i), axis=(0, 1))[:height, :width] + noises[i * 7 % 16]
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)
