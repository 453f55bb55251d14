import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from kinoclip import Classifier
from kinoclip.inference import computing
from kinoclip.inference.computing import encode_on_cores

pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def model():
    return Classifier.load("mini").model


@pytest.fixture
def pixels(model):
    size = model.config.vision_config.image_size
    return torch.randn(1, 8, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def calls(model, monkeypatch):
    """Note thread, number of torch's threads and shape of each call of the tower."""
    calls, encode = [], model.encode_frames

    def noted(pixels):
        calls.append((threading.current_thread().name, torch.get_num_threads(), tuple(pixels.shape[:2])))
        return encode(pixels)

    monkeypatch.setattr(model, "encode_frames", noted)
    return calls


def test_two_halves_of_a_video_are_encoded_at_once_with_a_thread_each(model, pixels, calls):
    encode_on_cores(model, pixels)
    assert [(threads, shape) for _, threads, shape in calls] == [(1, (1, 4))] * 2
    assert all(name.startswith("kinoclip-encode") for name, _, _ in calls)


def test_a_number_of_frames_that_cores_cannot_share_evenly_is_encoded_with_all_threads(model, pixels, calls):
    encode_on_cores(model, pixels[:, :7])
    assert [(threads, shape) for _, threads, shape in calls] == [(2, (1, 7))]


def test_with_autocast_which_other_threads_do_not_see_nothing_is_shared(model, pixels, calls):
    with torch.autocast("cpu", torch.bfloat16):
        half = encode_on_cores(model, pixels)
    assert half.embeds.dtype == torch.bfloat16
    assert len(calls) == 1


def test_features_have_no_gradient(model, pixels):
    assert encode_on_cores(model, pixels).embeds.is_inference()
    assert encode_on_cores(model, pixels[:, :7]).embeds.is_inference()


def test_an_error_comes_out_and_torch_has_its_threads_back(model, pixels):
    with pytest.raises(RuntimeError):
        encode_on_cores(model, pixels[:, :, :2])
    assert torch.get_num_threads() == 2
    assert encode_on_cores(model, pixels).embeds.shape[:2] == (1, 8)


def test_threads_that_classify_at_once_get_what_one_gets(model, pixels):
    alone = encode_on_cores(model, pixels).embeds
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: encode_on_cores(model, pixels).embeds, range(12)))
    for embeds in together:
        torch.testing.assert_close(embeds, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="this system has no forks")
def test_threads_do_not_outlive_a_fork(model, pixels):
    """A fork that asked the threads of its parent would wait for ever."""
    encode_on_cores(model, pixels)
    assert computing._pool.cache_info().currsize
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, bytes([computing._pool.cache_info().currsize]))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == bytes([0])
