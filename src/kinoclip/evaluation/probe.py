"""Evaluate frozen features with a linear probe or nearest neighbors."""

from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kinoclip.data.samples import class_names
from kinoclip.evaluation.evaluate import collect_views, find_candidates, read_targets
from kinoclip.evaluation.protocols import Protocol
from kinoclip.evaluation.report import measure
from kinoclip.modeling.recognizer import VideoRecognizer

Probe = Literal["linear", "knn"]

_EMBEDDINGS = Protocol("embeddings of one clip, center crop", scoring="text4vis")


def probe(
    model: VideoRecognizer,
    processor: Any,
    train: Any,
    test: Any,
    kind: Probe = "linear",
    *,
    neighbors: int = 5,
    strength: float = 1.0,
    batch_size: int = 8,
    num_workers: int = 0,
    report: Callable[[int], None] | None = None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Classify the videos of `test` by the features of those of `train`, and `measure` it; the model is not trained.

    Args:
        model: its video embeddings are used, or the mean of its frames if the pooling depends on the candidate.
        processor: its processor.
        train: a data set with one label per video.
        test: a data set with the same classes.
        kind: "linear" is a multinomial logistic regression, "knn" a vote of the neighbors weighted by cosine.
        neighbors: for "knn".
        strength: for "linear", inverse of the penalty, scikit-learn's C.
        batch_size: videos per step.
        num_workers: processes that decode.
        report: callback, called with the number of videos of each batch.

    Raises:
        ValueError: the classes differ, or videos have several labels.
        ImportError: scikit-learn is not installed.

    Source: ALT Table 6 trains the linear layer with AdamW; here it is solved to the optimum, without a learning rate.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    classes = class_names(train)
    if class_names(test) != classes:
        raise ValueError("The classes of `train` and `test` must be the same. Load both with the same labels.")
    options = {"batch_size": batch_size, "num_workers": num_workers, "report": report}
    parts = [_embed(model, processor, dataset, classes, **options) for dataset in (train, test)]
    (features, labels), (queries, targets) = parts
    if labels.ndim != 1:
        raise ValueError("A probe needs videos with one label each.")
    if kind == "linear":
        solver = LogisticRegression(C=strength, max_iter=1000)
    else:
        solver = KNeighborsClassifier(min(neighbors, len(features)), metric="cosine", weights=_by_cosine)
    solver.fit(features.numpy(), labels.numpy())
    scores = torch.zeros(len(queries), len(classes), dtype=torch.float64)
    scores[:, torch.from_numpy(solver.classes_)] = torch.from_numpy(solver.predict_proba(queries.numpy())).double()
    return measure(scores, targets)


def _embed(
    model: VideoRecognizer, processor: Any, dataset: Any, classes: list[str], **options: Any
) -> tuple[Tensor, Tensor]:
    """Return unit-length features (N, D) and class ids (N,) of the readable videos."""
    text, _ = find_candidates(model, processor, classes)
    collected = collect_views(model.eval(), processor.video_processor, dataset, _EMBEDDINGS, text, **options)
    embeds = cast(Tensor, collected.views.video_embeds)  # read by the scoring rule
    return normalize(embeds.mean(1), dim=-1), read_targets(dataset, collected.indices, len(classes))


def _by_cosine(distances: Any) -> Any:
    return np.clip(1 - distances, 1e-6, None)
