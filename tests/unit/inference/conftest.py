"""Fixtures of the tests of inference."""

import pytest
import torch
from clip_files import write_clips

from kinoclip import Classifier
from kinoclip.kinoshapes import kinoshapes_clips


@pytest.fixture(scope="module")
def classifier(clip_folder):
    return Classifier.load(clip_folder)


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Paths of seven videos; the fourth is broken."""
    folder = write_clips(tmp_path_factory.mktemp("clips"), kinoshapes_clips(7, seed=1, split="test"))
    (folder / "3.mp4").write_bytes(b"no video")
    return [str(folder / f"{number}.mp4") for number in range(7)]


@pytest.fixture
def two_threads():
    """Set torch to two threads during a test."""
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
