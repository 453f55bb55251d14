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


def take_turns(jobs: dict[Hashable, Callable], rounds: int) -> dict[Hashable, list[float]]:
    """Give the seconds of each job in each round; all jobs take part in a round, each time in another order.

    The order is drawn, so that none always follows the same one, whose threads may still be at it.
    """
    times: dict[Hashable, list[float]] = {name: [] for name in jobs}
    generator = random.Random(0)
    for number in range(rounds + 1):
        for name in generator.sample(list(jobs), len(jobs)):
            start = time.perf_counter()
            jobs[name]()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - start)
    return times


def ratio(longer: list[float], shorter: list[float]) -> float:
    """Give how many times longer one takes, the median over rounds."""
    return round(statistics.median(a / b for a, b in zip(longer, shorter, strict=True)), 3)


def describe_machine() -> dict:
    """Say what the numbers were measured on."""
    return {
        "processor": processor_name(),
        "bf16_instructions": torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
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
        options = {"preset": preset, "crf": "23", "g": str(gop), "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        noises = rng.integers(-8, 8, (16, height, width, 1), dtype=np.int16)
        for i in range(30 * seconds):
            picture = np.roll(texture, (i // 3, i), axis=(0, 1))[:height, :width] + noises[i * 7 % 16]
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)
