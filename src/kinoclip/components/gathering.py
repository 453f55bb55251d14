"""Rows of all processes in one batch, for losses that compare every video with every text."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kinoclip.outputs import FrameFeatures, TextFeatures


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.count = rows.shape[0]
        rows = rows.contiguous()  # `empty_like` keeps the strides of a transposed tensor, which NCCL would not undo
        everyone = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(everyone, rows)
        return torch.cat(everyone)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        start = dist.get_rank() * ctx.count
        return gradient[start : start + ctx.count]


def is_distributed() -> bool:
    """Tell whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_rows(rows: Tensor, dim: int = 0) -> Tensor:
    """Join the rows (along `dim`) of every process, in rank order; each process must hold equally many.

    The gradient that comes back is that of this process's own rows only. Under DistributedDataParallel's average, what
    lies before the gather therefore gets its full gradient divided by the number of processes, and what lies after it
    gets its full gradient; AdamW is indifferent to that factor, SGD is not.

    Source: official BIKE `train.py`, `AllGather`.
    """
    joined: Tensor = _Gather.apply(rows.transpose(0, dim))
    return joined.transpose(0, dim)


def gather_features(
    frames: FrameFeatures | None, text: TextFeatures, inputs: dict[str, Tensor]
) -> tuple[FrameFeatures | None, TextFeatures, dict[str, Tensor]]:
    """Join the features of every process, in rank order: frames, candidates, and inputs of further branches."""
    if frames is not None:
        frames = FrameFeatures(**{name: gather_rows(tensor) for name, tensor in frames.items()})
    axes = {"embeds": 1, "words": 0, "word_mask": 0}
    gathered = {name: gather_rows(tensor, axes[name]) for name, tensor in text.items() if name in axes}
    branches = {name: gather_rows(tensor, 1) for name, tensor in (text.branches or {}).items()}
    return frames, TextFeatures(**gathered, branches=branches or None), {k: gather_rows(v) for k, v in inputs.items()}
