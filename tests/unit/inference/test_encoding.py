"""Encoding on several cores."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
import torch

from kinoclip import Classifier
from kinoclip.inference import encoding
from kinoclip.inference.encoding import compute_on_cores, encode_on_cores, threads_per_batch

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def model(classifier):
    return classifier.model


@pytest.fixture
def pixels(model):
    size = model.config.vision_config.image_size
    return torch.randn(1, 8, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def calls(model, monkeypatch):
    """The thread, the number of torch's threads and the shape of each call of the tower."""
    calls, encode = [], model.encode_frames

    def record(pixels):
        calls.append((threading.current_thread().name, torch.get_num_threads(), tuple(pixels.shape[:2])))
        return encode(pixels)

    monkeypatch.setattr(model, "encode_frames", record)
    return calls


def test_two_halves_of_a_video_are_encoded_in_parallel_with_a_thread_each(model, pixels, calls):
    assert encode_on_cores(model, pixels).embeds.is_inference()
    assert [call[1:] for call in calls] == [(1, (1, 4))] * 2
    assert all(name.startswith("kinoclip-encode") for name, _, _ in calls)


def test_an_uneven_number_of_frames_is_encoded_with_all_threads(model, pixels, calls):
    assert encode_on_cores(model, pixels[:, :7]).embeds.is_inference()
    assert [call[1:] for call in calls] == [(2, (1, 7))]


def test_autocast_which_other_threads_do_not_see_prevents_splitting(model, pixels, calls):
    with torch.autocast("cpu", torch.bfloat16):
        half = encode_on_cores(model, pixels)
    assert half.embeds.dtype == torch.bfloat16
    assert len(calls) == 1


def test_an_error_is_raised_and_the_threads_of_torch_are_restored(model, pixels):
    with pytest.raises(RuntimeError):
        encode_on_cores(model, pixels[:, :, :2])
    assert torch.get_num_threads() == 2
    assert encode_on_cores(model, pixels).embeds.shape[:2] == (1, 8)


def test_parallel_callers_get_the_features_of_one(model, pixels):
    alone = encode_on_cores(model, pixels).embeds
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: encode_on_cores(model, pixels).embeds, range(12)))
    for embeds in together:
        torch.testing.assert_close(embeds, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="this system has no forks")
def test_a_fork_does_not_wait_for_the_threads_of_its_parent(model, pixels):
    encode_on_cores(model, pixels)
    assert encoding._pool.cache_info().currsize
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, bytes([encoding._pool.cache_info().currsize]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == bytes([0])


@pytest.mark.parametrize(
    ("threads", "number", "expected"),
    [(2, 5, [1, 1, 1, 1, 2]), (2, 4, [1, 1, 1, 1]), (8, 3, [2, 2, 2]), (8, 1, [8]), (1, 2, [1, 1]), (2, 0, [])],
)
def test_each_batch_has_a_thread_and_the_last_ones_share_all(model, monkeypatch, threads, number, expected):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert threads_per_batch(number, model) == expected


def test_one_by_one_and_on_a_gpu_each_batch_has_all_threads(model):
    assert threads_per_batch(3, model, one_by_one=True) == [2, 2, 2]
    assert threads_per_batch(3, torch.nn.Module.to(Classifier.load("mini").model, "meta")) == [2, 2, 2]


def test_results_come_in_order_and_two_are_computed_in_parallel():
    seen, both = [], threading.Barrier(2, timeout=30)

    def compute(number):
        seen.append((torch.get_num_threads(), threading.current_thread() is threading.main_thread()))
        if number < 2:
            both.wait()  # neither returns before the other has started
        time.sleep(0.02 * (number == 2))
        return number * number

    assert list(compute_on_cores(compute, range(5), [1, 1, 1, 1, 2])) == [(n, n * n) for n in range(5)]
    assert sorted(seen) == [(1, False)] * 4 + [(2, True)]


def test_parallel_batches_are_not_split_again(model, pixels, calls):
    """Rounding would depend on which of them was."""
    torch.set_num_threads(4)
    list(compute_on_cores(lambda video: encode_on_cores(model, video), [pixels] * 2, [2, 2]))
    assert torch.get_num_threads() == 4
    torch.set_num_threads(2)
    assert [shape for _, _, shape in calls] == [(1, 8), (1, 8)]


def test_items_are_taken_only_as_they_are_needed():
    taken = count()
    results = compute_on_cores(lambda number: time.sleep(0.01), (next(taken) for _ in range(100)), [1] * 100)
    next(results)
    results.close()
    assert next(taken) <= 4


def test_an_error_is_raised_in_the_place_of_its_result():
    results = compute_on_cores(lambda number: 1 // (number - 2), range(10), [1] * 10)
    assert [next(results), next(results)] == [(0, -1), (1, -1)]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert torch.get_num_threads() == 2
