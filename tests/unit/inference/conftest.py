"""What tests of inference share."""

import pytest
import torch

from kinoclip import Classifier


@pytest.fixture(scope="module")
def classifier(clip_folder):
    return Classifier.load(clip_folder)


@pytest.fixture
def two_threads():
    """Let torch have two threads, and give the one of the tests back."""
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
