import threading
import time
from itertools import count

import pytest
import torch

from kinoclip import Classifier
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video
from kinoclip.inference.batches import choose_batch_size
from kinoclip.inference.computing import compute_on_cores, encode_on_cores, spread
from kinoclip.inference.jobs import Job
from kinoclip.inference.search import embed_videos

LABELS = ("red circle", "blue square", "green star")


pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Five videos of which the third is broken."""
    folder = tmp_path_factory.mktemp("clips")
    for number, clip in enumerate(kinoshapes_clips(5, seed=1, split="test")):
        write_video(folder / f"{number}.mp4", clip.frames, clip.spec.fps)
    (folder / "2.mp4").write_bytes(b"no video")
    return [str(folder / f"{number}.mp4") for number in range(5)]


@pytest.mark.parametrize(
    ("threads", "number", "expected"),
    [(2, 5, [1, 1, 1, 1, 2]), (2, 4, [1, 1, 1, 1]), (8, 3, [2, 2, 2]), (8, 1, [8]), (1, 2, [1, 1]), (2, 0, [])],
)
def test_each_batch_has_a_thread_and_the_last_ones_share_all(classifier, monkeypatch, threads, number, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert spread(number, classifier.model) == expected


def test_one_by_one_each_batch_has_all_threads(classifier):
    assert spread(3, classifier.model, one_by_one=True) == [2, 2, 2]


def test_on_a_gpu_each_batch_has_all_threads_and_holds_several_videos(classifier):
    model = torch.nn.Module.to(Classifier.load("mini").model, "meta")
    assert spread(3, model) == [2, 2, 2]
    assert (choose_batch_size(model, None), choose_batch_size(model, 3)) == (8, 3)
    assert (choose_batch_size(classifier.model, None), choose_batch_size(classifier.model, 3)) == (1, 3)


def test_results_come_in_order_and_two_are_computed_at_once():
    seen, both = [], threading.Barrier(2, timeout=30)

    def compute(number):
        seen.append((torch.get_num_threads(), threading.current_thread() is threading.main_thread()))
        if number < 2:
            both.wait()  # neither goes on before the other has begun
        time.sleep(0.02 * (number == 2))
        return number * number

    assert list(compute_on_cores(compute, range(5), [1, 1, 1, 1, 2])) == [(n, n * n) for n in range(5)]
    assert sorted(seen) == [(1, False)] * 4 + [(2, True)]


def test_workers_with_several_threads_do_not_share_them_out_again(classifier, monkeypatch):
    """Which of them did would differ from run to run, and with it the last digits."""
    size, shapes, encode = classifier.model.config.vision_config.image_size, [], classifier.model.encode_frames
    monkeypatch.setattr(classifier.model, "encode_frames", lambda x: shapes.append(tuple(x.shape[:2])) or encode(x))
    videos = [torch.zeros(1, 8, 3, size, size)] * 2
    torch.set_num_threads(4)
    list(compute_on_cores(lambda video: encode_on_cores(classifier.model, video), videos, [2, 2]))
    assert torch.get_num_threads() == 4
    torch.set_num_threads(2)
    assert shapes == [(1, 8), (1, 8)]


def test_no_more_is_taken_than_can_be_computed_soon():
    taken = count()
    results = compute_on_cores(lambda number: time.sleep(0.01), (next(taken) for _ in range(100)), [1] * 100)
    next(results)
    results.close()
    assert next(taken) <= 4


def test_an_error_comes_out_where_its_result_would_and_threads_are_given_back():
    results = compute_on_cores(lambda number: 1 // (number - 2), range(10), [1] * 10)
    assert [next(results), next(results)] == [(0, -1), (1, -1)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert torch.get_num_threads() == 2


def test_a_job_on_two_cores_gives_the_records_of_one(classifier, clips):
    together = list(Job(classifier, LABELS).label(clips))
    torch.set_num_threads(1)
    alone = list(Job(classifier, LABELS).label(clips))
    torch.set_num_threads(2)
    assert [record["video"] for record in together] == clips
    assert "error" in together[2]
    # the last video was computed with two threads
    assert together[:4] == alone[:4]
    assert together[4]["label"] == alone[4]["label"]


def test_a_continued_job_on_two_cores_gives_the_same_records_to_the_last_digit(classifier, clips):
    whole = list(Job(classifier, LABELS).label(clips))
    assert list(Job(classifier, LABELS).label(clips, done=set(clips[1:4]))) == [whole[0], whole[4]]


def test_a_job_that_is_dropped_gives_torch_its_threads_back(classifier, clips):
    records = Job(classifier, LABELS).label(clips)
    next(records)
    records.close()
    assert torch.get_num_threads() == 2


def test_features_kept_on_two_cores_are_found_again(classifier, clips, tmp_path):
    classifier.set_labels(LABELS)
    twice = [clips[0], clips[0], clips[1], clips[1]]
    job = Job(classifier, LABELS, features=classifier.keep_features(tmp_path))
    fresh, kept = list(job.label(twice)), list(job.label(twice))
    assert [record["label"] for record in fresh] == [record["label"] for record in kept]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert not list(tmp_path.glob(".*"))


def test_reasons_are_the_same_on_two_cores(classifier, clips):
    """What explains a video listens to the model, so no other may be in it."""
    together = list(Job(classifier, LABELS, explain=True).label(clips[:2]))
    alone = [next(Job(classifier, LABELS, explain=True).label([clip])) for clip in clips[:2]]
    assert [record["saliency"] for record in together] == [record["saliency"] for record in alone]


def test_videos_are_embedded_on_two_cores_as_on_one(classifier, clips):
    together = embed_videos(clips[:2], model=classifier, pooling="mean")
    torch.set_num_threads(1)
    alone = embed_videos(clips[:2], model=classifier, pooling="mean")
    torch.set_num_threads(2)
    assert torch.equal(together.embeds, alone.embeds)
