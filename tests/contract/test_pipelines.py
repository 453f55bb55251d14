"""The two pipelines of Transformers, on folders and on objects."""

import copy

import numpy as np
import pytest
import torch
from transformers import pipeline

import kinoclip
from kinoclip import VideoReader

from .conftest import LABELS

ZERO_SHOT = "zero-shot-video-classification"
CLOSED = "video-classification"


@pytest.fixture(scope="module")
def model(build):
    return copy.deepcopy(build("bike")[0])


@pytest.fixture(scope="module")
def processor(build):
    return build("bike")[1]


@pytest.fixture(scope="module")
def folder(model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("open")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def closed_model(model, processor):
    with torch.no_grad():
        return copy.deepcopy(model).set_candidates(LABELS, model.encode_text(**processor(text=LABELS)))


@pytest.fixture(scope="module")
def closed_folder(closed_model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("closed")
    closed_model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def expected(model, processor, video_path):
    """The probabilities of the labels for the video."""
    with torch.no_grad():
        probabilities = model(**processor(text=LABELS, videos=video_path)).logits.softmax(-1)[0]
    return dict(zip(LABELS, probabilities.tolist(), strict=True))


def _scores(answer):
    return {row["label"]: row["score"] for row in answer}


def test_zero_shot_gives_every_label_its_probability_best_first(folder, video_path, expected):
    answer = pipeline(ZERO_SHOT, model=str(folder))(str(video_path), candidate_labels=LABELS)
    assert _scores(answer) == pytest.approx(expected, abs=1e-5)
    assert [row["score"] for row in answer] == sorted((row["score"] for row in answer), reverse=True)


def test_zero_shot_takes_the_objects_themselves(model, processor, video_path, expected):
    recognize = pipeline(ZERO_SHOT, model=model, processor=processor)
    assert _scores(recognize(video_path, candidate_labels=LABELS)) == pytest.approx(expected, abs=1e-5)


def test_zero_shot_takes_labels_in_one_text(folder, video_path):
    answer = pipeline(ZERO_SHOT, model=str(folder))(video_path, candidate_labels="square, red circle ,blue")
    assert _scores(answer).keys() == {"square", "red circle", "blue"}


def test_zero_shot_answers_a_list_of_videos_in_order(folder, video_path, expected):
    answers = pipeline(ZERO_SHOT, model=str(folder))([video_path, str(video_path)], candidate_labels=LABELS)
    assert [_scores(answer) for answer in answers] == [pytest.approx(expected, abs=1e-5)] * 2


@pytest.mark.parametrize("batch_size", [1, 2])
def test_zero_shot_streams_videos_from_a_generator(folder, video_path, batch_size):
    recognize = pipeline(ZERO_SHOT, model=str(folder), batch_size=batch_size)
    videos = (path for path in [str(video_path)] * 3)
    assert [len(answer) for answer in recognize(videos, candidate_labels=LABELS)] == [3, 3, 3]


def test_zero_shot_takes_an_array(folder, video_path):
    with VideoReader(video_path) as reader:
        frames = reader.frames(range(8)).permute(0, 2, 3, 1).numpy()
    assert frames.dtype == np.uint8
    assert len(pipeline(ZERO_SHOT, model=str(folder))(frames, candidate_labels=LABELS)) == 3


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (2, 2), (9, 3), (None, 3)])
def test_zero_shot_gives_the_best_labels_only_when_asked(folder, video_path, top_k, count):
    answer = pipeline(ZERO_SHOT, model=str(folder))(video_path, candidate_labels=LABELS, top_k=top_k)
    assert len(answer) == count


def test_zero_shot_needs_labels_where_the_checkpoint_has_none(folder, video_path):
    with pytest.raises(ValueError, match="carries no labels of its own"):
        pipeline(ZERO_SHOT, model=str(folder))(video_path)


def test_zero_shot_falls_back_on_the_labels_of_the_checkpoint(closed_folder, video_path, expected):
    answer = pipeline(ZERO_SHOT, model=str(closed_folder))(video_path)
    assert _scores(answer) == pytest.approx(expected, abs=1e-5)


def test_zero_shot_refuses_options_it_does_not_know(folder, video_path):
    with pytest.raises(TypeError, match="hypothesis_template"):
        pipeline(ZERO_SHOT, model=str(folder))(video_path, candidate_labels=LABELS, hypothesis_template="a {}")


def test_video_classification_answers_a_list_of_videos(closed_folder, video_path, expected):
    answers = pipeline(CLOSED, model=str(closed_folder))([str(video_path)] * 2, top_k=1)
    best = max(expected, key=expected.get)
    assert [[row["label"] for row in answer] for answer in answers] == [[best], [best]]


def test_video_classification_takes_the_objects_themselves(closed_model, processor, video_path, expected):
    recognize = pipeline(CLOSED, model=closed_model, video_processor=processor.video_processor)
    assert _scores(recognize(str(video_path))) == pytest.approx(expected, abs=1e-5)


def test_a_plain_clip_recognizes_zero_shot(clip_folder, video_path):
    expected = kinoclip.classify(video_path, LABELS, model=clip_folder)
    answer = pipeline(ZERO_SHOT, model=str(clip_folder))(str(video_path), candidate_labels=LABELS)
    assert [row["label"] for row in answer] == [label for label, _ in expected]
    assert [row["score"] for row in answer] == pytest.approx([share for _, share in expected], abs=1e-6)
