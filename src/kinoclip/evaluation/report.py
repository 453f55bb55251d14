"""What was measured, on what, and how sure it is: the result of an evaluation, for a person, a card and a machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinoclip.metrics import average_precision, mean_average_precision, topk_accuracy
from kinoclip.text.parsing import load_json
from kinoclip.whole_files import write_whole

# of the normal distribution, for 95 %
_DEVIATIONS = 1.959964


@dataclass(frozen=True)
class Report:
    """The result of one evaluation.

    Attributes:
        model: name of what was evaluated.
        method: its model type.
        dataset: name of the data.
        protocol: its name and settings.
        metrics: name to value; fractions from 0 to 1.
        intervals: name to the ends of its 95 % interval: Wilson's for accuracies, resampled videos for several labels' map.
        per_class: for each class its name, number of videos, and accuracy or average precision.
        num_videos: how many were scored.
        failures: name of a video that could not be read to the reason; they are in no metric.
        settings: what else decides on the numbers: templates, frames, coverage of the data set, versions.
        scores: (N, K), not saved.
        targets: (N,) class ids or (N, K) multi-hot, not saved.
        names: of the N videos, not saved.
    """

    model: str
    method: str
    dataset: str
    protocol: dict[str, Any]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    per_class: list[dict[str, Any]]
    num_videos: int
    failures: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    scores: Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)
    targets: Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)
    names: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def to_json(self) -> str:
        """Give everything but scores, as JSON."""
        hidden = ("scores", "targets", "names")
        kept = {name: value for name, value in vars(self).items() if name not in hidden}
        return json.dumps(kept, ensure_ascii=False, indent=1) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write the JSON, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_whole(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is no report.
        """
        try:
            content = load_json(Path(path).read_text(encoding="utf-8"))
            return cls(**content)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is no report of an evaluation: {error}. Make one with `kinoclip evaluate`."
            ) from error

    def confusion(self) -> Tensor:
        """Count videos by class and best answer: (K, K) int64, rows are the true classes.

        Raises:
            ValueError: the videos have several labels, or the scores are gone.
        """
        if self.targets.ndim != 1 or not len(self.scores):
            raise ValueError("A confusion matrix needs the scores of videos with one label each.")
        classes = self.scores.shape[1]
        pairs = self.targets * classes + self.scores.argmax(1)
        return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)

    def lines(self) -> list[str]:
        """Say the result in a few lines of text."""
        unread = f", {len(self.failures)} unreadable" if self.failures else ""
        found = [f"{self.model} on {self.dataset}: {self.protocol['title']}, {self.num_videos} videos{unread}"]
        for name, value in self.metrics.items():
            low, high = self.intervals.get(name, (None, None))
            sure = "" if low is None else f"  (95 %: {low:.1%} to {high:.1%})"
            found.append(f"{name:>22}  {value:7.2%}{sure}")
        return found


def measure(scores: Tensor, targets: Tensor, *, seed: int = 0) -> tuple[dict[str, float], dict[str, Any]]:
    """Give the metrics of scores, and their 95 % intervals.

    Args:
        scores: (N, K).
        targets: (N,) class ids, or (N, K) multi-hot.
        seed: of the resampling.

    Returns:
        top1, top5, mean_class_accuracy and map; with several labels per video map alone. Classes without a video are left
        out of both means.
    """
    rng = np.random.default_rng(seed)
    several = targets.ndim == 2
    metrics: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    if not several:
        for top in (1, 5):
            metrics[f"top{top}"] = topk_accuracy(scores, targets, top)
            intervals[f"top{top}"] = share_interval(metrics[f"top{top}"], len(scores))
        metrics["mean_class_accuracy"] = mean_class_accuracy(scores, targets)
    metrics["map"] = mean_average_precision(scores, targets, "skip")
    if several:
        intervals["map"] = bootstrap(
            lambda rows: mean_average_precision(scores[rows], targets[rows], "skip"), len(scores), rng
        )
    return metrics, intervals


def mean_class_accuracy(scores: Tensor, targets: Tensor) -> float:
    """Average the accuracy of the classes that have videos: (N, K), (N,) -> a fraction."""
    hits = (scores.argmax(1) == targets).double()
    count = torch.bincount(targets, minlength=scores.shape[1])
    right = torch.bincount(targets, weights=hits, minlength=scores.shape[1])
    return (right[count > 0] / count[count > 0]).mean().item()


def share_interval(share: float, num_videos: int) -> tuple[float, float]:
    """Give the ends of Wilson's 95 % interval of a share; resampling would call 5 of 5 certain.

    >>> [round(end, 3) for end in share_interval(1.0, 60)]
    [0.94, 1.0]
    """
    weight = _DEVIATIONS**2 / num_videos
    center = (share + weight / 2) / (1 + weight)
    reach = _DEVIATIONS * sqrt(share * (1 - share) / num_videos + weight / (4 * num_videos)) / (1 + weight)
    return max(center - reach, 0.0), min(center + reach, 1.0)


def bootstrap(
    metric: Callable[[Tensor], float], num_videos: int, rng: np.random.Generator, draws: int = 200
) -> tuple[float, float]:
    """Give the ends of the 95 % interval of a metric over videos drawn with replacement."""
    values = [metric(torch.from_numpy(rng.integers(0, num_videos, num_videos))) for _ in range(draws)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def describe_classes(names: Sequence[str], scores: Tensor, targets: Tensor) -> list[dict[str, Any]]:
    """Give each class its number of videos and its accuracy, or average precision where videos have several labels."""
    if targets.ndim == 2:
        count, value, word = targets.sum(0), average_precision(scores, targets), "average_precision"
    else:
        count = torch.bincount(targets, minlength=len(names))
        hits = (scores.argmax(1) == targets).double()
        value, word = torch.bincount(targets, weights=hits, minlength=len(names)) / count, "accuracy"
    rows = zip(names, count.tolist(), value.tolist(), strict=True)
    return [{"label": name, "videos": int(n), word: round(v, 4) if n else None} for name, n, v in rows]


def summarize(reports: Sequence[Report]) -> dict[str, dict[str, Any]]:
    """Give the mean and the population standard deviation of each metric over folds, splits or seeds.

    Raises:
        ValueError: there are no reports.
    """
    if not reports:
        raise ValueError("There are no reports to summarize. Give one at least.")
    shared = [name for name in reports[0].metrics if all(name in report.metrics for report in reports)]
    columns = {name: [report.metrics[name] for report in reports] for name in shared}
    return {name: {"mean": fmean(v), "std": pstdev(v), "values": v} for name, v in columns.items()}
