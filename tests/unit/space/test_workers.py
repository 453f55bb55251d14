"""Requests are answered in processes of their own: what one visitor sends costs that visitor one sentence."""

import threading
import time

import pytest

from kinoclip.space import workers as module
from kinoclip.space.answers import Question
from kinoclip.space.limits import Limits, VisitError
from kinoclip.space.workers import Workers
from kinoclip.video.isolation import CancelledError

LABELS = ("drinking", "waving", "squatting")


@pytest.fixture(scope="module")
def workers():
    workers = Workers()
    yield workers
    workers.close()


def hang(*_):
    time.sleep(60)


def exhaust(*_):
    return [bytes(1 << 30) for _ in range(64)]


def test_an_answer_comes_from_another_process_with_its_frames(workers, video_path):
    steps = []
    found = workers.answer(Question(str(video_path), LABELS), "visitor", lambda share, what: steps.append(what))
    assert found.ranking.frames.shape[0] == 8
    assert found.label in (*LABELS, None)
    assert steps == ["Waiting", "Recognizing"]
    assert workers.reads_chinese("mini") is False


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\x00\x00\x00\x18ftypmp42" + bytes(200)])
def test_a_file_that_is_not_a_video_is_refused_without_its_path(workers, tmp_path, content):
    file = tmp_path / "bad.mp4"
    file.write_bytes(content)
    with pytest.raises(VisitError, match=r"^This file cannot be used: ") as caught:
        workers.answer(Question(str(file), LABELS))
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("work", "limits", "message"),
    [
        (hang, {"fast_seconds": 0.5}, r"Reading this video takes too long\. Upload a shorter part"),
        (exhaust, {}, "This file cannot be used: reading it ended the process"),
    ],
)
def test_work_without_end_and_without_bounds_ends(workers, video_path, monkeypatch, work, limits, message):
    monkeypatch.setattr(module, "_answer", work)
    monkeypatch.setattr(workers, "limits", Limits(**limits))
    begin = time.monotonic()
    with pytest.raises(VisitError, match=message):
        workers.answer(Question(str(video_path), LABELS))
    assert time.monotonic() - begin < 20
    monkeypatch.undo()
    assert workers.answer(Question(str(video_path), LABELS)).ranking


def test_a_visitor_who_leaves_is_forgotten_and_one_with_many_requests_waits(workers, video_path, monkeypatch):
    monkeypatch.setattr(module, "_answer", hang)
    monkeypatch.setattr(workers, "limits", Limits(per_client=1))
    left, ended = threading.Event(), []

    def ask():
        try:
            workers.answer(Question(str(video_path), LABELS), "one", is_gone=left.is_set)
        except CancelledError:
            ended.append(time.monotonic())

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(1)
    with pytest.raises(VisitError, match="At most 1 requests of a visitor are answered at a time"):
        workers.answer(Question(str(video_path), LABELS), "one")
    monkeypatch.undo()
    assert workers.answer(Question(str(video_path), LABELS), "another").ranking
    left.set()
    asking.join(10)
    assert ended
    assert workers.answer(Question(str(video_path), LABELS), "one").ranking


def test_much_to_decode_waits_in_a_lane_of_its_own(workers, video_path, monkeypatch):
    monkeypatch.setattr(module, "_answer", hang)
    monkeypatch.setattr(workers, "limits", Limits(fast_gigapixels=0.0, answer_seconds=4.0))

    def ask():
        with pytest.raises(VisitError, match="takes too long"):
            workers.answer(Question(str(video_path), LABELS))

    slow = threading.Thread(target=ask)
    slow.start()
    time.sleep(1)
    with pytest.raises(VisitError, match=r"The page is busy|takes too long"):
        workers.answer(Question(str(video_path), LABELS))
    monkeypatch.undo()
    assert workers.answer(Question(str(video_path), LABELS)).ranking  # in the fast lane, meanwhile
    slow.join()
