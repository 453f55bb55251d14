"""The metrics as modules of `evaluate`, loaded without network."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from kinoclip.evaluation.metrics import MODULES, load_metric


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path)
    monkeypatch.setattr("evaluate.config.HF_EVALUATE_OFFLINE", True)


def test_top_k_accuracy_takes_batches():
    metric = load_metric("topk_accuracy")
    metric.add_batch(predictions=[[0.1, 0.7, 0.2]], references=[1])
    metric.add_batch(predictions=[[0.5, 0.3, 0.2]], references=[2])

    assert metric.compute(k=(1, 3)) == {"top1": 0.5, "top3": 1.0}


def test_mean_average_precision_is_scikit_learns():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(30, 4, generator=generator)
    targets = (torch.rand(30, 4, generator=generator) > 0.5).long()

    found = load_metric("mean_average_precision").compute(predictions=scores, references=targets)

    assert found["map"] == pytest.approx(average_precision_score(targets, scores, average="macro"), abs=1e-6)


def test_mean_class_accuracy_weighs_classes_alike():
    found = load_metric("mean_class_accuracy").compute(
        predictions=[[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]], references=[0, 0, 1]
    )

    assert found == {"mean_class_accuracy": 0.5}


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=f"Use one of {', '.join(MODULES)}"):
        load_metric("f1")
