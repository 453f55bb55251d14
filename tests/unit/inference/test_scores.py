"""Scores that are NaN or infinite are never an answer."""

import dataclasses
import json

import pytest
import torch

from kinoclip.inference.batch_job import ClassifyJob, SpanJob
from kinoclip.modeling.classification import ScoreError, to_probabilities

LABELS = ("red circle", "blue square", "green star")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_logit_that_is_no_number_gives_no_probabilities(value):
    with pytest.raises(ScoreError, match="scores are NaN or infinite, so there is no answer"):
        to_probabilities(torch.tensor([[0.0, 1.0], [0.0, value]]))


def test_a_candidate_may_be_impossible():
    assert to_probabilities(torch.tensor([0.0, -torch.inf])).tolist() == [1, 0]


@pytest.fixture
def damaged(classifier, clips, monkeypatch):
    """The second clip, whose pixels come out as NaN."""
    read, name = classifier.read, clips[1]

    def read_damaged(video):
        sample = read(video)
        return dataclasses.replace(sample, pixel_values=sample.pixel_values * torch.nan) if video == name else sample

    monkeypatch.setattr(classifier, "read", read_damaged)
    return name


def test_python_gets_an_error(classifier, damaged):
    with pytest.raises(ValueError, match="NaN or infinite"):
        classifier.classify(damaged, LABELS)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_job_has_an_error_record_for_that_video_and_answers_for_the_others(classifier, clips, damaged, batch_size):
    records = list(ClassifyJob(classifier, LABELS, batch_size=batch_size).label(clips[:3]))
    assert [record["video"] for record in records] == clips[:3]
    assert ["error" in record for record in records] == [False, True, False]
    assert records[1]["error"]["type"] == "ScoreError"
    json.dumps(records, allow_nan=False)


def test_spans_have_an_error_record_too(classifier, clips, monkeypatch):
    prepare = classifier.video_processor.prepare_frames
    monkeypatch.setattr(classifier.video_processor, "prepare_frames", lambda frames: prepare(frames) * torch.nan)
    (record,) = SpanJob(classifier, LABELS).label(clips[:1])
    assert record["error"]["type"] == "ScoreError"
