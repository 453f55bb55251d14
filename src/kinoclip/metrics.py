"""Accuracy and average precision, as fractions between 0 and 1."""

from typing import Literal

import torch
from torch import Tensor


def topk_accuracy(scores: Tensor, labels: Tensor, top_k: int = 1) -> float:
    """Share of videos whose class is among the `top_k` highest scores.

    Equal scores are ordered as `torch.topk` orders them, as in the official scripts.

    Args:
        scores: (B, K).
        labels: (B,) column index of the right class.
        top_k: from K on, every video counts as right.
    """
    _check_rows(scores, labels)
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}. Ask for at least the best 1.")
    best = scores.topk(min(top_k, scores.shape[1]), dim=1).indices
    return int((best == labels[:, None]).any(dim=1).sum()) / len(scores)


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean precision at the ranks of a class's positives, one value per class, without interpolation.

    Args:
        scores: (B, K). Each class ranks all videos, so scores must be comparable across videos.
        targets: (B, K) multi-hot.

    Returns:
        (K,) float64; NaN for a class without positives.

    Source: torchnet 0.0.4, `APMeter`, which the official test scripts call.
    """
    _check_rows(scores, targets)
    if scores.shape != targets.shape:
        raise ValueError(f"scores have shape {tuple(scores.shape)}, targets {tuple(targets.shape)}. Both are (B, K).")
    scores, targets = scores.cpu(), targets.cpu()  # not every accelerator has float64
    order = scores.argsort(dim=0, descending=True, stable=True)
    ranked = targets.gather(0, order).bool().double()
    ranks = torch.arange(1, len(ranked) + 1, dtype=torch.float64)
    precision = ranked.cumsum(dim=0) / ranks[:, None]
    return (precision * ranked).sum(dim=0) / ranked.sum(dim=0)


def mean_average_precision(scores: Tensor, targets: Tensor, empty_classes: Literal["zero", "skip"] = "zero") -> float:
    """Average precision, averaged over classes.

    Args:
        scores: (B, K), comparable across videos.
        targets: (B, K) multi-hot, or (B,) class ids.
        empty_classes: a class without positives counts as 0, as in the official scripts, or is left out.

    Raises:
        ValueError: if every class is left out.
    """
    if targets.ndim == 1:
        targets = torch.nn.functional.one_hot(targets.long(), num_classes=scores.shape[1])
    per_class = average_precision(scores, targets)
    if empty_classes == "zero":
        return per_class.nan_to_num(0.0).mean().item()
    if bool(per_class.isnan().all()):
        raise ValueError(f"None of the {len(per_class)} classes has a positive video, so there is nothing to average.")
    return per_class.nanmean().item()


def running_mean_average_precision(scores: Tensor, targets: Tensor, batch_size: int) -> float:
    """What the official Charades script prints: an average of the metric while it is still filling up.

    After every batch the mean average precision of all videos so far is taken; these values are averaged, weighted by
    the size of their batch. The result depends on the batch size and on the order of the videos. Use it to compare
    with published numbers, and `mean_average_precision` for anything else.

    Args:
        scores: (B, K), in the order of evaluation.
        targets: (B, K) multi-hot, or (B,) class ids.
        batch_size: videos per batch; the last batch may be smaller.

    Source: official BIKE `test_charades.py`, `validate`.
    """
    _check_rows(scores, targets)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}. It must be at least 1.")
    total = 0.0
    for start in range(0, len(scores), batch_size):
        end = min(start + batch_size, len(scores))
        total += (end - start) * mean_average_precision(scores[:end], targets[:end])
    return total / len(scores)


def _check_rows(scores: Tensor, labels: Tensor) -> None:
    if scores.ndim != 2:
        raise ValueError(f"scores have shape {tuple(scores.shape)}. Give one row per video, one column per class.")
    if len(scores) != len(labels):
        raise ValueError(
            f"There are scores for {len(scores)} videos and labels for {len(labels)}. Give one label each."
        )
    if bool(scores.isnan().any()):
        bad = int(scores.isnan().any(dim=1).sum())
        raise ValueError(
            f"The scores of {bad} of {len(scores)} videos are not numbers. Check the weights and precision."
        )
    if len(scores) == 0:
        raise ValueError("There are no videos to measure. Check the list of videos and what was skipped.")
