"""The result of an evaluation: metrics, their intervals, and the data and settings that they depend on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import fmean, pstdev, stdev
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from kinoclip.evaluation.metrics import (
    average_precision,
    class_accuracies,
    mean_average_precision,
    mean_class_accuracy,
    topk_accuracy,
)
from kinoclip.storage import encode_json, readable_by, write_text
from kinoclip.text.parsing import load_json

# quantile of the normal distribution for 95 %
_DEVIATIONS = 1.959964
# quantiles of Student's t distribution for 95 % and 1 to 9 degrees of freedom; R, `round(qt(0.975, 1:9), 3)`
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
SELECTIONS = {
    "last": "weights of the last epoch",
    "validation": "best epoch on held-out validation videos",
    "test": "best epoch on the test videos themselves (biased upwards)",
}


@dataclass(frozen=True)
class Report:
    """The result of one evaluation; scores (N, K), targets (N,) or (N, K) and names of the N videos are not saved."""

    model: str  # its name
    method: str  # model type
    dataset: str  # its name
    protocol: dict[str, Any]  # name and settings
    metrics: dict[str, float]  # fractions from 0 to 1
    intervals: dict[str, tuple[float, float]]  # 95 %: Wilson's for accuracies, bootstrap for map with several labels
    per_class: list[dict[str, Any]]  # name, number of videos, and accuracy or average precision
    num_videos: int  # that were scored
    failures: dict[str, str]  # name of a video that could not be read to the reason; in no metric
    # selection of the weights, templates, frames, coverage of the data set, versions
    settings: dict[str, Any] = field(default_factory=dict)
    scores: Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)
    targets: Tensor = field(default_factory=lambda: torch.empty(0), repr=False, compare=False)
    names: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields except scores, targets and names."""
        return {name: value for name, value in vars(self).items() if name not in ("scores", "targets", "names")}

    def to_json(self) -> str:
        """Return `to_dict` as JSON."""
        return encode_json(self.to_dict(), indent=1)

    def save(self, path: str | Path) -> Path:
        """Write the JSON atomically; the folder is created."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_text(path, self.to_json(), owns=Report.is_report)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote; raise a `ValueError` if the file is not a report."""
        try:
            content = load_json(Path(path).read_text(encoding="utf-8"))
            return cls(**content)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path} is not a report of an evaluation: {error}. Write one with `kinoclip evaluate`."
            ) from error

    @staticmethod
    def is_report(path: Path) -> bool:
        """Check whether a file holds a report, or the reports of several folds."""
        return readable_by(Report.load)(path) or readable_by(_load_folds)(path)

    def confusion(self) -> Tensor:
        """Count videos by class and best answer: (K, K) int64, rows are the true classes.

        Videos with several labels, or a report from a file, are a `ValueError`.
        """
        if self.targets.ndim != 1 or not len(self.scores):
            raise ValueError("A confusion matrix needs the scores of videos with one label each.")
        classes = self.scores.shape[1]
        pairs = self.targets * classes + self.scores.argmax(1)
        return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)

    def lines(self) -> list[str]:
        """Return the metrics as lines of text."""
        unread = f", {len(self.failures)} unreadable" if self.failures else ""
        found = [f"{self.model} on {self.dataset}: {self.protocol['title']}, {self.num_videos} videos{unread}"]
        found += [_line(name, f"{value:7.2%}", self.intervals.get(name)) for name, value in self.metrics.items()]
        found += _fusion_lines(self.settings["fusion"]) if "fusion" in self.settings else []
        selection = SELECTIONS.get(self.settings.get("selection", ""))
        return [*found, _line("selection", selection)] if selection else found


def _load_folds(path: Path) -> list[Report]:
    content = load_json(path.read_text(encoding="utf-8"))
    return [Report(**fold) for fold in content["folds"]] if content["summary"] else []


def measure(scores: Tensor, targets: Tensor) -> tuple[dict[str, float], dict[str, Any]]:
    """Compute the metrics of scores (N, K), and their 95 % intervals.

    They are top1, top5, mean_class_accuracy and map for class ids (N,), and only map for multi-hot targets (N, K).
    Classes without videos are left out of both means.
    """
    multi_label = targets.ndim == 2
    metrics: dict[str, float] = {}
    intervals: dict[str, Any] = {}
    if not multi_label:
        for top in (1, 5):
            metrics[f"top{top}"] = topk_accuracy(scores, targets, top)
            intervals[f"top{top}"] = share_interval(metrics[f"top{top}"], len(scores))
        metrics["mean_class_accuracy"] = mean_class_accuracy(scores, targets)
    metrics["map"] = mean_average_precision(scores, targets, "skip")
    if multi_label:
        intervals["map"] = bootstrap(
            lambda rows: mean_average_precision(scores[rows], targets[rows], "skip"), len(scores)
        )
    return metrics, intervals


def share_interval(share: float, num_videos: int) -> tuple[float, float]:
    """Return the ends of Wilson's 95 % interval of a share; a bootstrap of 5 hits in 5 would have no width.

    >>> [round(end, 3) for end in share_interval(1.0, 60)]
    [0.94, 1.0]
    """
    weight = _DEVIATIONS**2 / num_videos
    center = (share + weight / 2) / (1 + weight)
    reach = _DEVIATIONS * sqrt(share * (1 - share) / num_videos + weight / (4 * num_videos)) / (1 + weight)
    return max(center - reach, 0.0), min(center + reach, 1.0)


def bootstrap(metric: Callable[[Tensor], float], num_videos: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a metric over 200 draws of videos with replacement."""
    rng = np.random.default_rng(0)
    values = [metric(torch.from_numpy(rng.integers(0, num_videos, num_videos))) for _ in range(200)]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def describe_classes(names: Sequence[str], scores: Tensor, targets: Tensor) -> list[dict[str, Any]]:
    """Return the number of videos and the accuracy of each class, or average precision with several labels per video."""
    if targets.ndim == 2:
        count, value, metric = targets.sum(0), average_precision(scores, targets), "average_precision"
    else:
        count, value = torch.bincount(targets, minlength=len(names)), class_accuracies(scores, targets)
        metric = "accuracy"
    rows = zip(names, count.tolist(), value.tolist(), strict=True)
    return [{"label": name, "videos": int(n), metric: round(v, 4) if n else None} for name, n, v in rows]


def summarize(runs: Sequence[Report | Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Summarize each metric of reports, or of their metrics, over folds, splits or seeds.

    Returns for each its "mean", population standard deviation "std" and "values"; for two runs or more also the ends
    of the 95 % "interval" of the mean. No runs are a `ValueError`.
    """
    if not runs:
        raise ValueError("runs must have at least one report.")
    metrics = [run.metrics if isinstance(run, Report) else run for run in runs]
    shared = [name for name in metrics[0] if all(name in run for run in metrics)]
    columns = {name: [run[name] for run in metrics] for name in shared}
    return {
        name: {"mean": fmean(v), "std": pstdev(v), "values": v} | ({"interval": t_interval(v)} if len(v) > 1 else {})
        for name, v in columns.items()
    }


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of Student's 95 % interval of a mean; slightly too wide for more than ten values.

    >>> [round(end, 2) for end in t_interval([0.5, 0.6, 0.7])]
    [0.35, 0.85]
    """
    quantile = _T_QUANTILES[min(len(values) - 1, len(_T_QUANTILES)) - 1]
    reach = quantile * stdev(values) / sqrt(len(values))
    return fmean(values) - reach, fmean(values) + reach


def summary_lines(folds: Sequence[Report]) -> list[str]:
    """Return the mean and deviation of each metric over several folds, as lines of text."""
    lines = [
        _line(name, f"{found['mean']:7.2%} +- {found['std']:.2%}", found.get("interval"))
        for name, found in summarize(folds).items()
    ]
    return [f"mean +- deviation over {len(folds)} folds", *lines]


def _fusion_lines(fusion: Mapping[str, Any]) -> list[str]:
    """Return the curve of `calibrate_fusion` as lines of text."""
    lines = [f"{fusion['metric']} by the weights of the branches"]
    for row in fusion["curve"]:
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in row["weights"].items())
        marks = " and ".join(mark for mark in ("present", "best") if row == fusion[mark])
        lines.append(f"{_line(weights, format(row['value'], '7.2%'))}  {marks}".rstrip())
    return lines


def _line(name: str, value: str, interval: Sequence[float] | None = None) -> str:
    return f"{name:>22}  {value}" + (f"  (95 %: {interval[0]:.1%} to {interval[1]:.1%})" if interval else "")
