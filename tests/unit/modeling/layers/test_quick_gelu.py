"""CLIP's activation with one new tensor has the same values, and gradients up to rounding; every MLP of the towers has it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.activations import QuickGELUActivation

from kinoclip.modeling.layers.quick_gelu import QuickGELU

VIEWS = {"detach", "view", "alias"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("with_gradient", [True, False])
def test_values_gradients_and_inputs_are_those_of_transformers(dtype, with_gradient):
    inputs, others = (
        torch.linspace(-9, 9, 60, dtype=dtype).reshape(3, 20).requires_grad_(with_gradient) for _ in range(2)
    )
    kept = inputs.detach().clone()
    found, expected = QuickGELU()(inputs), QuickGELUActivation()(others)
    assert torch.equal(found, expected)
    assert torch.equal(inputs, kept)
    if with_gradient:
        found.sum().backward()
        expected.sum().backward()
        torch.testing.assert_close(inputs.grad, others.grad, rtol=0, atol=4 * torch.finfo(dtype).eps)


def test_gradients_are_those_of_finite_differences():
    inputs = torch.linspace(-4, 4, 60, dtype=torch.double).reshape(20, 3).T.requires_grad_()
    assert torch.autograd.gradcheck(QuickGELU(), (inputs,))


@pytest.mark.parametrize("with_gradient", [True, False])
def test_one_new_tensor_is_enough_in_each_direction(with_gradient):
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    names, inputs = [], torch.zeros(3, requires_grad=with_gradient)
    with Names():
        found = QuickGELU()(inputs)
        assert [name for name in names if name not in VIEWS] == ["mul", "sigmoid_", "mul_"]
        if with_gradient:
            gradient = torch.ones(3)
            names.clear()
            found.backward(gradient)
            assert [name for name in names if name not in VIEWS] == ["mul", "silu_backward"]


def test_both_towers_of_a_recognizer_have_it(tiny_bike):
    for tower in (tiny_bike.vision_model, tiny_bike.text_model):
        kinds = [type(module) for module in tower.modules()]
        assert kinds.count(QuickGELU) == 2
        assert QuickGELUActivation not in kinds


def test_its_gradient_can_be_compiled():
    compiled = torch.compile(QuickGELU(), backend="aot_eager", fullgraph=True)
    inputs, others = (torch.linspace(-4, 4, 9).requires_grad_() for _ in range(2))
    compiled(inputs).sum().backward()
    QuickGELU()(others).sum().backward()
    assert torch.equal(inputs.grad, others.grad)
