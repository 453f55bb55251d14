"""Accuracy and average precision, as fractions between 0 and 1."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor


def topk_accuracy(scores: Tensor, labels: Tensor, top_k: int = 1) -> float:
    """Compute the share of videos whose class, `labels` (B,), is among the `top_k` highest scores (B, K).

    Equal scores are ordered as in `torch.topk`, as in the official scripts. From K on, every video counts as right.
    """
    _check_rows(scores, labels)
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}.")
    best = scores.topk(min(top_k, scores.shape[1]), dim=1).indices
    return int((best == labels[:, None]).any(dim=1).sum()) / len(scores)


def class_accuracies(scores: Tensor, labels: Tensor) -> Tensor:
    """Compute the accuracy of each class: (B, K), (B,) -> (K,) float64; NaN for a class without videos."""
    hits, classes = (scores.argmax(1) == labels).double(), scores.shape[1]
    return torch.bincount(labels, weights=hits, minlength=classes) / torch.bincount(labels, minlength=classes)


def mean_class_accuracy(scores: Tensor, labels: Tensor) -> float:
    """Average the accuracy of the classes that have videos: (B, K), (B,) -> a fraction."""
    accuracies = class_accuracies(scores, labels)
    return accuracies[~accuracies.isnan()].mean().item()


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean precision at the ranks of a class's positives: (K,) float64, NaN for a class without positives.

    It is not interpolated. Targets (B, K) are multi-hot. Each class ranks all videos, so scores (B, K) must be
    comparable across videos.

    Source: torchnet 0.0.4, `APMeter`, which the official test scripts call.
    """
    _check_rows(scores, targets)
    if scores.shape != targets.shape:
        raise ValueError(
            f"scores and targets must both be (B, K), got {tuple(scores.shape)} and {tuple(targets.shape)}."
        )
    scores, targets = scores.cpu(), targets.cpu()  # not every accelerator has float64
    order = scores.argsort(dim=0, descending=True, stable=True)
    ranked = targets.gather(0, order).bool().double()
    ranks = torch.arange(1, len(ranked) + 1, dtype=torch.float64)
    precision = ranked.cumsum(dim=0) / ranks[:, None]
    return (precision * ranked).sum(dim=0) / ranked.sum(dim=0)


def mean_average_precision(scores: Tensor, targets: Tensor, empty_classes: Literal["zero", "skip"] = "zero") -> float:
    """Average the average precision of scores (B, K) over classes; targets are multi-hot (B, K), or class ids (B,).

    A class without positives counts as "zero", as in the official scripts, or is left out; all of them cannot be.
    """
    if targets.ndim == 1:
        targets = torch.nn.functional.one_hot(targets.long(), num_classes=scores.shape[1])
    per_class = average_precision(scores, targets)
    if empty_classes == "zero":
        return per_class.nan_to_num(0.0).mean().item()
    if bool(per_class.isnan().all()):
        raise ValueError(f"At least one of the {len(per_class)} classes must have a positive video.")
    return per_class.nanmean().item()


def running_mean_average_precision(scores: Tensor, targets: Tensor, batch_size: int) -> float:
    """Compute the number that the official Charades script prints: the average of the metric after each batch.

    The mean average precision of all videos so far is averaged over batches, weighted by their size. The result
    depends on the batch size and on the order of the videos, in which scores (B, K) and targets are given; the last
    batch may be smaller. Use it to compare with published numbers only.

    Source: official BIKE `test_charades.py`, `validate`.
    """
    _check_rows(scores, targets)
    total = 0.0
    for start in range(0, len(scores), batch_size):
        end = min(start + batch_size, len(scores))
        total += (end - start) * mean_average_precision(scores[:end], targets[:end])
    return total / len(scores)


def _check_rows(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 2:
        raise ValueError(f"scores must have one row per video and one column per class, got {tuple(scores.shape)}.")
    if len(scores) != len(labels):
        raise ValueError(f"There must be one label per video, got {len(labels)} labels for {len(scores)} videos.")
    if bad := int(scores.isnan().any(dim=1).sum()):
        raise ValueError(f"The scores of {bad} of {len(scores)} videos are NaN. Check the weights and precision.")
    if len(scores) == 0:
        raise ValueError("There must be at least one video. Check the list of videos and which were skipped.")


# metrics of the library `evaluate`, and whether their references are multi-hot
METRICS: dict[str, tuple[Callable[..., dict[str, float]], bool]] = {
    "topk_accuracy": (
        lambda scores, labels, k=(1, 5): {f"top{top}": topk_accuracy(scores, labels, top) for top in k},
        False,
    ),
    "mean_class_accuracy": (
        lambda scores, labels: {"mean_class_accuracy": mean_class_accuracy(scores, labels)},
        False,
    ),
    "mean_average_precision": (
        lambda scores, targets, empty_classes="skip": {"map": mean_average_precision(scores, targets, empty_classes)},
        True,
    ),
}


def load_metric(name: str, **options: Any) -> Any:
    """Build one of `METRICS` for the library `evaluate`, for `add_batch` and `compute` in another training loop.

    Predictions are scores (N, K); references are class ids (N,), or multi-hot (N, K) for "mean_average_precision".
    `compute` of "topk_accuracy" takes `k`, that of "mean_average_precision" `empty_classes`.
    """
    import datasets
    import evaluate

    if name not in METRICS:
        raise ValueError(f"The metric must be one of {', '.join(METRICS)}, got {name!r}.")
    compute, is_multi_hot = METRICS[name]
    label = datasets.Value("int64")
    features = {
        "predictions": datasets.Sequence(datasets.Value("float32")),
        "references": datasets.Sequence(label) if is_multi_hot else label,
    }

    def info(self: Any) -> Any:
        texts = {"description": name, "citation": "", "inputs_description": str(load_metric.__doc__)}
        return evaluate.MetricInfo(**texts, features=datasets.Features(features))

    def run(self: Any, predictions: Any, references: Any, **arguments: Any) -> dict[str, float]:
        return compute(torch.as_tensor(predictions), torch.as_tensor(references), **arguments)

    return type(name, (evaluate.Metric,), {"_info": info, "_compute": run})(**options)
