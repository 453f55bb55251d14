"""What frozen features know: a linear probe and the nearest neighbors on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from kinoclip.data.samples import class_names
from kinoclip.recognizer import VideoRecognizer

from .collecting import collect_views
from .evaluate import find_candidates, read_targets
from .protocols import Protocol
from .report import measure

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
    """Classify the videos of `test` from the features of those of `train`; the model itself is not trained.

    Args:
        model: its video embeddings are used where the pooling does not depend on the candidate, else the mean of its frames.
        processor: its processor.
        train: a data set with one label per video.
        test: likewise, with the same classes in the same order.
        kind: "linear" is a multinomial logistic regression, "knn" a vote of the neighbors weighted by cosine.
        neighbors: for "knn".
        strength: inverse of the penalty of "linear", scikit-learn's C.
        batch_size: videos per step.
        num_workers: processes that decode.
        report: called with the number of videos of each batch.

    Returns:
        Metrics and their intervals, as `measure` gives them.

    Raises:
        ValueError: the classes differ, or videos have several labels.
        ImportError: scikit-learn is not installed.

    Source: ALT Table 6 trains the linear layer by AdamW; here it is solved to the optimum, so that no rate has to be chosen.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    classes = class_names(train)
    if class_names(test) != classes:
        raise ValueError("The classes of `train` and `test` differ. Load both with the same labels.")
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
    """Give unit features (N, D) and class ids (N,) of the readable videos."""
    text, _ = find_candidates(model, processor, classes)
    video_processor = getattr(processor, "video_processor", processor)
    collected = collect_views(model.eval(), video_processor, dataset, _EMBEDDINGS, text, **options)
    embeds = cast(Tensor, collected.views.video_embeds)  # the rule reads them
    return normalize(embeds.mean(1), dim=-1), read_targets(dataset, collected.indices, len(classes))


def _by_cosine(distances: Any) -> Any:
    return np.clip(1 - distances, 1e-6, None)
