"""Share of videos whose class is among the best answers, as a module of `evaluate`."""

from typing import Any

import datasets
import evaluate
import torch

from kinoclip.metrics import topk_accuracy


class TopKAccuracy(evaluate.Metric):
    """predictions: scores (N, K); references: class ids (N,); `k`: how many answers count, one number or several."""

    def _info(self) -> Any:
        features = datasets.Features(
            {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
        )
        return evaluate.MetricInfo(
            description=__doc__, citation="", inputs_description=self.__class__.__doc__, features=features
        )

    def _compute(self, predictions: Any, references: Any, k: tuple[int, ...] = (1, 5)) -> dict[str, float]:
        scores, labels = torch.as_tensor(predictions), torch.as_tensor(references)
        return {f"top{top}": topk_accuracy(scores, labels, top) for top in k}
