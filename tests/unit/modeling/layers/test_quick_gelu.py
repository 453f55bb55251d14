"""CLIP's activation in one new tensor has the same values and gradients, and every MLP of the towers has it."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.activations import QuickGELUActivation

from kinoclip.modeling.layers.quick_gelu import QuickGELU


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
        assert torch.equal(inputs.grad, others.grad)


def test_without_gradients_one_new_tensor_is_enough():
    class Names(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            names.append(func.overloadpacket.__name__)
            return func(*args, **(kwargs or {}))

    names, inputs = [], torch.zeros(3)
    with Names():
        QuickGELU()(inputs)
    assert names == ["mul", "sigmoid_", "mul_"]


def test_both_towers_of_a_recognizer_have_it(tiny_bike):
    for tower in (tiny_bike.vision_model, tiny_bike.text_model):
        kinds = [type(module) for module in tower.modules()]
        assert kinds.count(QuickGELU) == 2
        assert QuickGELUActivation not in kinds
