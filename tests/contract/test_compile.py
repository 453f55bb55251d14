"""Models as compiled graphs. `tests/unit/export` traces the stages of all methods for any number of videos."""

import pytest
import torch
from packaging.version import Version

pytestmark = pytest.mark.skipif(
    Version(torch.__version__) < Version("2.7"),
    reason="torch 2.6 cannot trace the decorators of the layers of Transformers",
)


@pytest.fixture
def arguments(pixels, candidates):
    torch._dynamo.reset()
    return pixels, candidates["input_ids"]


def compile_whole(function):
    """Trace the whole graph, which is where breaks are found, without the minutes of a C++ build."""
    return torch.compile(function, fullgraph=True, backend="eager")


@pytest.mark.parametrize("kind", ["bike", "text4vis_tsm", "dstpr", "alt", "sllm_text4vis"])
def test_a_model_is_one_graph_without_breaks(model, arguments):
    compiled = compile_whole(lambda *given: model(*given).logits)
    with torch.no_grad():
        # the graph holds the same operations; logits are up to 15
        torch.testing.assert_close(compiled(*arguments), model(*arguments).logits, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["bike"])
def test_a_training_step_is_one_graph_without_breaks(fresh, arguments):
    labels = torch.tensor([2, 0])
    compile_whole(lambda *given: fresh(*given, labels=labels).loss)(*arguments).backward()
    found = fresh.visual_projection.weight.grad.clone()
    fresh.zero_grad()
    fresh(*arguments, labels=labels).loss.backward()
    torch.testing.assert_close(found, fresh.visual_projection.weight.grad, atol=1e-5, rtol=1e-4)
