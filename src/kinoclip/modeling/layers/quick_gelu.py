"""CLIP's activation, which allocates one new tensor instead of three, and one in its gradient."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPMLP


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), with the same values as `QuickGELUActivation`.

    Allocating a large tensor can take longer than computing its values.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the activation to each value: (...)."""
        if torch.is_grad_enabled() and inputs.requires_grad:
            return _Trained.apply(inputs)
        return _activate(inputs)


class _Trained(torch.autograd.Function):
    """Stores its input alone, and computes the rest again in the gradient, which is that of SiLU at 1.702 x."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return _activate(inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (inputs,) = ctx.saved_tensors
        scaled = 1.702 * inputs
        return torch.ops.aten.silu_backward(gradient, scaled, grad_input=scaled)


def _activate(inputs: Tensor) -> Tensor:
    return (1.702 * inputs).sigmoid_().mul_(inputs)


def replace_activations(model: nn.Module) -> None:
    """Use `QuickGELU` in every MLP of CLIP's layers that has this activation."""
    for module in model.modules():
        if isinstance(module, CLIPMLP) and isinstance(module.activation_fn, QuickGELUActivation):
            module.activation_fn = QuickGELU()
