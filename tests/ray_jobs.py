"""A job that machines of a Ray cluster build, and that notes which process reads which video."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from kinoclip.inference.batch_job import ClassifyJob
from kinoclip.inference.classifier import Classifier

LABELS = ("red circle", "blue square", "green star")


@dataclass(frozen=True)
class NotedJob(ClassifyJob):
    """Waits before each video, so that a test can end processes meanwhile."""

    notes: Path | None = None
    seconds: float = 0.0

    def _options(self):
        return [self.top_k]

    def state(self, video):
        with self.notes.open("a") as file:
            file.write(f"{os.getpid()} {video}\n")
        time.sleep(self.seconds)
        return super().state(video)


def build(notes: Path, seconds: float, device: str = "cpu", labels: tuple[str, ...] = LABELS) -> NotedJob:
    return NotedJob(Classifier.load("mini", device=device), labels, notes=notes, seconds=seconds)
