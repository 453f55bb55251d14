"""Accuracy averaged over the classes that have videos, as a module of `evaluate`."""

from typing import Any

import datasets
import evaluate
import torch

from kinoclip.evaluation.report import mean_class_accuracy


class MeanClassAccuracy(evaluate.Metric):
    """predictions: scores (N, K); references: class ids (N,)."""

    def _info(self) -> Any:
        features = datasets.Features(
            {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
        )
        return evaluate.MetricInfo(
            description=__doc__, citation="", inputs_description=self.__class__.__doc__, features=features
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        scores, labels = torch.as_tensor(predictions), torch.as_tensor(references)
        return {"mean_class_accuracy": mean_class_accuracy(scores, labels)}
