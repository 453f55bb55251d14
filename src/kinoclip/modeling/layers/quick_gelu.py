"""CLIP's activation, which needs one new tensor instead of three where no gradient is computed."""

import torch
from torch import Tensor, nn
from transformers.activations import QuickGELUActivation
from transformers.models.clip.modeling_clip import CLIPMLP


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), with the same values as `QuickGELUActivation`.

    Allocating a large tensor can take longer than computing its values.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the activation to each value: (...)."""
        if torch.is_grad_enabled() and inputs.requires_grad:
            return inputs * torch.sigmoid(1.702 * inputs)
        return (1.702 * inputs).sigmoid_().mul_(inputs)


def replace_activations(model: nn.Module) -> None:
    """Use `QuickGELU` in every MLP of CLIP's layers that has this activation."""
    for module in model.modules():
        if isinstance(module, CLIPMLP) and isinstance(module.activation_fn, QuickGELUActivation):
            module.activation_fn = QuickGELU()
