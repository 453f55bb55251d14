"""Models as graphs: compiled, and exported."""

import pytest
import torch


class Plain(torch.nn.Module):
    """Tensors in, logits out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels, input_ids):
        return self.model(pixels, input_ids).logits


@pytest.fixture
def plain(model):
    return Plain(model)


@pytest.fixture
def arguments(pixels, candidates):
    return pixels, candidates["input_ids"]


@pytest.mark.parametrize("recognizer", ["bike", "bike_mean", "text4vis_tsm", "dstpr", "alt"], indirect=True)
def test_an_exported_model_gives_the_same_logits_for_any_number_of_videos(plain, arguments):
    dynamic = ({0: torch.export.Dim("batch", min=1, max=64)}, None)
    exported = torch.export.export(plain, arguments, dynamic_shapes=dynamic).module()
    pixels = torch.randn(5, 4, 3, 32, 32)
    with torch.no_grad():
        # the graph holds the same operations; logits are up to 15
        torch.testing.assert_close(exported(pixels, arguments[1]), plain(pixels, arguments[1]), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("recognizer", ["bike", "bike_mean", "text4vis_tsm", "dstpr", "alt"], indirect=True)
def test_a_model_is_one_graph_without_breaks(plain, arguments):
    torch._dynamo.reset()
    # "eager" traces the whole graph, which is where breaks are found, without the minutes of a C++ build
    compiled = torch.compile(plain, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(*arguments), plain(*arguments), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("recognizer", ["bike"], indirect=True)
def test_a_training_step_is_one_graph_without_breaks(model, arguments):
    torch._dynamo.reset()
    labels = torch.tensor([2, 0])
    compiled = torch.compile(lambda *a: model(*a, labels=labels).loss, fullgraph=True, backend="eager")
    compiled(*arguments).backward()
    found = model.visual_projection.weight.grad.clone()
    model.zero_grad()
    model(*arguments, labels=labels).loss.backward()
    torch.testing.assert_close(found, model.visual_projection.weight.grad, atol=1e-5, rtol=1e-4)
