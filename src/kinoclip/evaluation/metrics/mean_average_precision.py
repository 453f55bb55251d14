"""Average precision averaged over classes, as a module of `evaluate`."""

from typing import Any, Literal

import datasets
import evaluate
import torch

from kinoclip.metrics import mean_average_precision


class MeanAveragePrecision(evaluate.Metric):
    """predictions: scores (N, K); references: multi-hot (N, K); `empty_classes`: "skip", or "zero" as official scripts do."""

    def _info(self) -> Any:
        row = datasets.Sequence(datasets.Value("float32"))
        features = datasets.Features({"predictions": row, "references": datasets.Sequence(datasets.Value("int64"))})
        return evaluate.MetricInfo(
            description=__doc__, citation="", inputs_description=self.__class__.__doc__, features=features
        )

    def _compute(
        self, predictions: Any, references: Any, empty_classes: Literal["zero", "skip"] = "skip"
    ) -> dict[str, float]:
        scores, targets = torch.as_tensor(predictions), torch.as_tensor(references)
        return {"map": mean_average_precision(scores, targets, empty_classes)}
