"""Every recognizer answers through both pipelines and `Classifier`, from the folder it was saved to."""

import pytest
from transformers import pipeline

from kinoclip import Classifier

from .conftest import LABELS


@pytest.fixture
def folder(closed, processor, tmp_path):
    """A saved checkpoint that carries its own labels."""
    closed.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def expected(folder, video_path):
    """What the classifier says of the checkpoint's own labels."""
    return {label: pytest.approx(p, abs=1e-5) for label, p in Classifier.load(folder).classify(str(video_path))}


def test_the_closed_set_pipeline_names_the_checkpoints_labels(folder, video_path, expected):
    answer = pipeline("video-classification", model=str(folder))(str(video_path))
    assert {row["label"]: row["score"] for row in answer} == expected
    assert expected.keys() == set(LABELS)


def test_the_zero_shot_pipeline_names_labels_of_ones_own(recognizer, folder, video_path, expected):
    if not recognizer.reads_text:
        pytest.skip("its classifier knows its own labels only")
    recognize = pipeline("zero-shot-video-classification", model=str(folder))
    answer = recognize(str(video_path), candidate_labels=LABELS)
    assert {row["label"]: row["score"] for row in answer} == expected
