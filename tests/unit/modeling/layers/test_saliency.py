import pytest
import torch
from torch.nn.functional import normalize
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kinoclip.modeling.layers.saliency import frame_saliency


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator)


@pytest.mark.parametrize("masked", [False, True])
def test_many_candidates_are_weighed_as_one_by_one(draw, masked):
    frames, words = normalize(draw(2, 5, 8), dim=-1), normalize(draw(1100, 4, 8), dim=-1)
    mask = (draw(1100, 4) > 0) | (torch.arange(4) == 0) if masked else None
    found = frame_saliency(frames, words, 0.1, mask)
    for k in (0, 511, 512, 1099):
        alone = frame_saliency(frames, words[k : k + 1], 0.1, None if mask is None else mask[k : k + 1])
        torch.testing.assert_close(found[:, k : k + 1], alone)


def test_words_of_any_length_weigh_as_words_of_unit_length(draw):
    frames, words = normalize(draw(2, 5, 8), dim=-1), 7 * draw(3, 4, 8)
    found = frame_saliency(frames, words, cosine=True)
    torch.testing.assert_close(found, frame_saliency(frames, normalize(words, dim=-1)), atol=1e-5, rtol=0)


class LargestTensor(TorchDispatchMode):
    """Remember how many numbers the largest tensor had that any operation gave."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = function(*args, **(kwargs or {}))
        own = [t for t in tree_leaves(given) if isinstance(t, torch.Tensor)]
        self.numbers = max([self.numbers, *(t.numel() for t in own)])
        return given


def test_ten_thousand_candidates_need_little_more_than_their_words(draw):
    frames, words = normalize(draw(1, 8, 64), dim=-1), draw(10_000, 77, 64)
    with LargestTensor() as largest:
        frame_saliency(frames, words, cosine=True)
    assert largest.numbers < words.numel() / 15
