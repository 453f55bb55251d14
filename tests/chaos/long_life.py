"""One process that reads and classifies for long: `python long_life.py VIDEO DAMAGED DECODES CLASSIFICATIONS` tells what it held.

It prints memory, open files and threads as JSON, at a fifth of the work, when caches have filled, and at the end.
"""

import contextlib
import json
import os
import sys
from pathlib import Path

import torch

from kinoclip import Classifier, VideoDecodeError
from kinoclip.video import VideoReader


def held() -> dict[str, int]:
    """Give what the process holds now."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
    return {
        "bytes": resident,
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": len(list(Path("/proc/self/task").iterdir())),
    }


def main(video: str, damaged: str, decodes: int, classifications: int) -> None:
    """Do the work in fifths, decoding and classifying in turn; every tenth video is damaged."""
    torch.set_num_threads(1)
    classifier = Classifier.load("mini")
    states = []
    for _ in range(5):
        for number in range(decodes // 5):
            with contextlib.suppress(VideoDecodeError), VideoReader(damaged if number % 10 == 0 else video) as reader:
                reader.frames(range(0, reader.num_frames, 2))
        for number in range(classifications // 5):
            with contextlib.suppress(VideoDecodeError):
                classifier.classify(
                    damaged if number % 10 == 0 else video, ["red circle", "blue square", "green star"]
                )
        states.append(held())
    sys.stdout.write(json.dumps([states[0], states[-1]]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
