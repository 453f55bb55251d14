"""Gathering of rows from all processes, for losses that compare every video with every text."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from kinoclip.modeling.outputs import FrameFeatures, TextFeatures, candidate_axis


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
    """Check whether this process is one of several in distributed training."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def gather_rows(rows: Tensor, dim: int = 0) -> Tensor:
    """Concatenate the rows (along `dim`) of all processes in rank order; each process must have equally many.

    The gradient is that of this process's own rows only. Under the average of DistributedDataParallel, parameters before the
    gather get their full gradient divided by the number of processes, and those after it the full gradient. AdamW is
    indifferent to that factor, SGD is not.

    Source: official BIKE `train.py`, `AllGather`.
    """
    joined: Tensor = _Gather.apply(rows.transpose(0, dim))
    return joined.transpose(0, dim)


def gather_features(
    frames: FrameFeatures | None, text: TextFeatures, inputs: dict[str, Tensor]
) -> tuple[FrameFeatures | None, TextFeatures, dict[str, Tensor]]:
    """Gather the features of all processes: frames, candidates, and inputs of further branches."""
    if frames is not None:
        frames = FrameFeatures(**{name: gather_rows(tensor) for name, tensor in frames.items()})
    gathered = {name: gather_rows(tensor, candidate_axis(name)) for name, tensor in text.tensors().items()}
    return frames, TextFeatures.from_tensors(gathered), {k: gather_rows(v) for k, v in inputs.items()}
