"""What FSDP2 and DeepSpeed want to know before they take a recognizer apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import register_fsdp_forward_method

if TYPE_CHECKING:
    from accelerate import Accelerator


def prepare(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, micro_batch: int
) -> tuple[Any, Any]:
    """Give model and optimizer to the accelerator, whichever way its processes share them."""
    if is_deepspeed(accelerator):
        plugin: Any = accelerator.state.deepspeed_plugin
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = micro_batch
    if not is_sharded(accelerator):
        return accelerator.prepare(model, optimizer)  # type: ignore[no-any-return]
    shards: Any = accelerator.state.fsdp_plugin
    shards.ignored_modules = [nn.ParameterList(scalars(model))]
    prepared, prepared_optimizer = accelerator.prepare(model, optimizer)
    for stage in ("encode_frames", "encode_text"):  # called by themselves too
        register_fsdp_forward_method(prepared, stage)
    return prepared, prepared_optimizer


def is_sharded(accelerator: Accelerator) -> bool:
    """Tell whether FSDP shards the weights."""
    return bool(accelerator.distributed_type == "FSDP")


def is_deepspeed(accelerator: Accelerator) -> bool:
    """Tell whether DeepSpeed trains."""
    return bool(accelerator.distributed_type == "DEEPSPEED")


def scalars(model: nn.Module) -> list[nn.Parameter]:
    """Give the parameters of a single number, such as CLIP's logit_scale, which `fully_shard` refuses."""
    return [parameter for parameter in model.parameters() if parameter.ndim == 0]


def average_scalars(model: nn.Module) -> None:
    """Average over processes the gradients that FSDP leaves alone."""
    for parameter in scalars(model):
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()
