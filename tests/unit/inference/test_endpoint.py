"""Requests of an Inference Endpoint: their kinds, and what is refused."""

import base64
import re

import pytest

from kinoclip.inference.endpoint import EndpointHandler

LABELS = ["red circle", "blue square", "green star"]


@pytest.fixture(scope="module")
def handler():
    handler = EndpointHandler("mini")
    yield handler
    handler._process.close()


@pytest.fixture(scope="module")
def video(video_path):
    """The bytes of a clip in base64."""
    return base64.b64encode(video_path.read_bytes()).decode()


def test_labels_are_returned_best_first_with_scores(handler, video):
    answer = handler({"inputs": video, "parameters": {"candidate_labels": LABELS}})
    scores = [one["score"] for one in answer]
    assert {one["label"] for one in answer} == set(LABELS)
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("labels", [{"labels": LABELS}, {"labels": ", ".join(LABELS)}, {"candidate_labels": LABELS}])
def test_labels_are_a_list_or_text_by_either_name(handler, video, labels):
    assert len(handler({"inputs": video, "parameters": labels})) == 3


def test_top_k_and_threshold_shorten_the_answer(handler, video):
    assert len(handler({"inputs": video, "parameters": {"labels": LABELS, "top_k": 2}})) == 2
    [best] = handler({"inputs": video, "parameters": {"labels": LABELS, "threshold": 0.51}})
    assert best["score"] > 0.51


def test_a_list_is_answered_with_a_list_whatever_the_bytes_are_written_as(handler, video):
    kinds = [video, f"data:video/mp4;base64,{video}", base64.b64decode(video)]
    answers = handler({"inputs": kinds, "parameters": {"labels": LABELS}})
    assert answers == [answers[0]] * 3


def test_a_text_of_labels_never_opens_a_file_of_the_server(handler, video, tmp_path):
    (tmp_path / "names.txt").write_text("secret one\nsecret two\n")
    answer = handler({"inputs": video, "parameters": {"labels": f"{tmp_path / 'names.txt'}, other"}})
    assert {one["label"] for one in answer} == {str(tmp_path / "names.txt"), "other"}


NO_VIDEO = "It must be an http(s) address, or the bytes of a file of at most 100 MB in base64, got"


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ("/etc/passwd", NO_VIDEO),
        ("file:///etc/passwd", NO_VIDEO),
        ("s3://bucket/clip.mp4", NO_VIDEO),
        ("hf://datasets/a/b/clip.mp4", NO_VIDEO),
        ("", NO_VIDEO),
        (None, NO_VIDEO),
        ({"path": "/etc/passwd"}, NO_VIDEO),
        ("bm8gdmlkZW8=", "this is text, not a video."),
        ("http://127.0.0.1:9/clip.mp4", "127.0.0.1: resolves to 127.0.0.1 in the local network."),
    ],
)
def test_what_is_no_video_is_refused_with_a_sentence(handler, video, message):
    with pytest.raises(ValueError, match="^" + re.escape(f"Video 1 of 1 cannot be used: {message}")):
        handler({"inputs": video, "parameters": {"labels": LABELS}})


@pytest.mark.parametrize("count", [0, 33])
def test_a_request_has_up_to_32_videos(handler, count):
    with pytest.raises(ValueError, match=rf"^inputs must be a video or a list of 1 to 32, got {count}\."):
        handler({"inputs": ["bm8="] * count, "parameters": {"labels": LABELS}})


def test_the_bad_video_of_a_list_is_named(handler, video):
    with pytest.raises(ValueError, match="Video 2 of 2 cannot be used"):
        handler({"inputs": [video, "bm8gdmlkZW8="], "parameters": {"labels": LABELS}})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (
            {"label": ["a"]},
            "parameters must be an object with some of candidate_labels, labels, top_k, threshold, got",
        ),
        (["a", "b"], "parameters must be an object"),
        ({"labels": []}, "labels must be 1 to 1,000 names"),
        ({"labels": ["a"] * 1001}, "labels must be 1 to 1,000 names"),
        ({"labels": ["a", 3]}, "Label 2 of 2 must be a non-empty string, got 3."),
        ({"labels": ["a", "a"]}, "The label 'a' is given twice."),
        ({}, "The model of this endpoint carries no labels of its own."),
        ({"labels": LABELS, "top_k": 0}, "top_k must be an integer of at least 1, got 0."),
        ({"labels": LABELS, "top_k": True}, "top_k must be an integer of at least 1, got True."),
        ({"labels": LABELS, "threshold": 2}, "threshold must be a number from 0 to 1, got 2."),
        ({"labels": LABELS, "threshold": "0.5"}, "threshold must be a number from 0 to 1, got '0.5'."),
    ],
)
def test_parameters_that_are_wrong_are_refused_with_a_sentence(handler, video, parameters, message):
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        handler({"inputs": video, "parameters": parameters})
