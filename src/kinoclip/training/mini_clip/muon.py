"""Muon, the optimizer of the matrices between embedding and projection."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Muon:
    """Momentum whose update of each matrix is made orthogonal, in fp32 and for all matrices of a shape at once.

    `torch.optim.Muon` works one matrix at a time in bfloat16, which takes longer on a CPU than the rest of the step.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """

    def __init__(self, matrices: Sequence[nn.Parameter], momentum: float = 0.95) -> None:
        self.momentum = momentum
        self.stacks = [[m for m in matrices if m.shape == shape] for shape in dict.fromkeys(m.shape for m in matrices)]
        self.averages = [torch.zeros(len(stack), *stack[0].shape) for stack in self.stacks]

    @torch.no_grad()
    def step(self, learning_rate: float, weight_decay: float) -> None:
        """Move every matrix; the steps are about as large as those of AdamW at the same learning rate."""
        for stack, average in zip(self.stacks, self.averages, strict=True):
            gradients = torch.stack([torch.as_tensor(matrix.grad) for matrix in stack])
            average.lerp_(gradients, 1 - self.momentum)
            updates = orthogonalize(gradients.lerp(average, self.momentum))
            scale = 0.2 * max(updates.shape[-2:]) ** 0.5
            for matrix, update in zip(stack, updates, strict=True):
                matrix.mul_(1 - learning_rate * weight_decay).sub_(update, alpha=learning_rate * scale)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Bring all singular values of (N, rows, columns) near 1 with five Newton-Schulz steps."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    current = matrices.mT if tall else matrices
    current = current / (current.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        square = current @ current.mT
        # The quintic of the source: steep at 0, flat near 1.
        current = 3.4445 * current + (-4.7750 * square + 2.0315 * square @ square) @ current
    return torch.as_tensor(current.mT if tall else current)
