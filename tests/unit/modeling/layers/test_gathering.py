"""Gathering inside a group of one; two processes are held by `parity/test_bike_training.py`."""

import pytest
import torch
import torch.distributed as dist

from kinoclip.modeling.layers.gathering import gather_features, gather_rows, is_distributed
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures


@pytest.fixture
def group(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_one_process_is_not_distributed(request):
    assert not is_distributed()
    request.getfixturevalue("group")
    assert not is_distributed()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_rows_of_every_kind_come_back_in_order(dim, dtype):
    rows = torch.arange(12).reshape(3, 4).to(dtype)
    assert torch.equal(gather_rows(rows, dim), rows)


@pytest.mark.usefixtures("group")
def test_the_gradient_of_the_own_rows_comes_back():
    rows = torch.ones(3, 2, requires_grad=True)
    (gather_rows(rows, 1) * torch.arange(6.0).reshape(3, 2)).sum().backward()
    assert rows.grad.tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.usefixtures("group")
def test_features_keep_their_parts():
    text = TextFeatures(
        embeds=torch.ones(2, 3, 4), word_mask=torch.ones(3, 5).bool(), branches={"x": torch.ones(2, 3, 1)}
    )
    frames, gathered, inputs = gather_features(
        FrameFeatures(embeds=torch.ones(3, 2, 4)), text, {"ids": torch.ones(3, 7)}
    )
    assert frames.tokens is None
    assert frames.embeds.shape == (3, 2, 4)
    assert gathered.keys() == text.keys()
    assert gathered.branches["x"].shape == (2, 3, 1)
    assert inputs["ids"].shape == (3, 7)
