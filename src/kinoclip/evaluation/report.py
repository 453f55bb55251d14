"""What was measured, on what, and how sure it is: the result of an evaluation, for a person, a card and a machine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, pstdev, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinoclip.metrics import average_precision, mean_average_precision, topk_accuracy
from kinoclip.text.parsing import load_json
from kinoclip.whole_files import write_whole

# of the normal distribution, for 95 %
_DEVIATIONS = 1.959964
# of Student's t distribution, for 95 % and 1 to 9 degrees of freedom; R, `round(qt(0.975, 1:9), 3)`
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
SELECTIONS = {
    "last": "weights of the last epoch",
    "validation": "best epoch on held-out validation videos",
    "test": "best epoch on the test videos themselves (biased upwards)",
}


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
        settings: what else decides on the numbers: selection of the weights, templates, frames, coverage of the data set, versions.
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

    def to_dict(self) -> dict[str, Any]:
        """Return everything but scores, targets and names."""
        return {name: value for name, value in vars(self).items() if name not in ("scores", "targets", "names")}

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return as_json(self.to_dict())

    def save(self, path: str | Path) -> Path:
        """Write the JSON atomically, into a new folder if need be."""
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
        found += [_line(name, f"{value:7.2%}", self.intervals.get(name)) for name, value in self.metrics.items()]
        selection = SELECTIONS.get(self.settings.get("selection", ""))
        return [*found, _line("selection", selection)] if selection else found


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


def summarize(runs: Sequence[Report | Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Summarize each metric over folds, splits or seeds.

    Args:
        runs: reports, or their metrics.

    Returns:
        For each metric of all runs its "mean", population standard deviation "std" and "values"; from two runs on, the ends
        of the 95 % "interval" of the mean.

    Raises:
        ValueError: there are no runs.
    """
    if not runs:
        raise ValueError("There are no reports to summarize. Give one at least.")
    metrics = [run.metrics if isinstance(run, Report) else run for run in runs]
    shared = [name for name in metrics[0] if all(name in run for run in metrics)]
    columns = {name: [run[name] for run in metrics] for name in shared}
    return {
        name: {"mean": fmean(v), "std": pstdev(v), "values": v} | ({"interval": t_interval(v)} if len(v) > 1 else {})
        for name, v in columns.items()
    }


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of Student's 95 % interval of a mean; of more than ten values it is a little too wide.

    >>> [round(end, 2) for end in t_interval([0.5, 0.6, 0.7])]
    [0.35, 0.85]
    """
    quantile = _T_QUANTILES[min(len(values) - 1, len(_T_QUANTILES)) - 1]
    reach = quantile * stdev(values) / sqrt(len(values))
    return fmean(values) - reach, fmean(values) + reach


def summary_lines(runs: Sequence[Report | Mapping[str, float]], what: str = "folds") -> list[str]:
    """Return the mean and deviation of each metric over several runs as lines of text."""
    lines = [
        _line(name, f"{found['mean']:7.2%} +- {found['std']:.2%}", found.get("interval"))
        for name, found in summarize(runs).items()
    ]
    return [f"mean +- deviation over {len(runs)} {what}", *lines]


def _line(name: str, value: str, interval: Sequence[float] | None = None) -> str:
    return f"{name:>22}  {value}" + (f"  (95 %: {interval[0]:.1%} to {interval[1]:.1%})" if interval else "")


def as_json(content: Any) -> str:
    """Return the JSON of a report or of several."""
    return json.dumps(content, ensure_ascii=False, indent=1) + "\n"
