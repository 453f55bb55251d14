"""One update of the weights: its micro-batches, its loss and its gradient, also with FSDP2 and DeepSpeed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import register_fsdp_forward_method

from kinoclip.modeling.outputs import FrameFeatures, TextFeatures, candidate_axis
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.modeling.video_processing import frame_inputs
from kinoclip.training.batches import seed_micro_batch
from kinoclip.training.objective import Objective, join_frames, join_texts
from kinoclip.training.settings import TrainingSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

# inputs that are encoded, or already are
_ENCODED = ("pixel_values_videos", "frame_times", "frame_features", "text_features")
Features = tuple[FrameFeatures | None, TextFeatures]


def prepare(
    accelerator: Accelerator, model: nn.Module, optimizer: torch.optim.Optimizer, micro_batch: int
) -> tuple[Any, Any]:
    """Prepare model and optimizer with the accelerator, for plain, FSDP2 and DeepSpeed training."""
    if is_deepspeed(accelerator):
        plugin: Any = accelerator.state.deepspeed_plugin
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = micro_batch
    if not is_sharded(accelerator):
        return accelerator.prepare(model, optimizer)  # type: ignore[no-any-return]
    shards: Any = accelerator.state.fsdp_plugin
    shards.ignored_modules = [nn.ParameterList(_scalars(model))]
    prepared, prepared_optimizer = accelerator.prepare(model, optimizer)
    for stage in ("encode_frames", "encode_text"):  # called on their own too
        register_fsdp_forward_method(prepared, stage)
    return prepared, prepared_optimizer


def is_sharded(accelerator: Accelerator) -> bool:
    """Return whether FSDP shards the weights."""
    return bool(accelerator.distributed_type == "FSDP")


def is_deepspeed(accelerator: Accelerator) -> bool:
    """Return whether DeepSpeed trains."""
    return bool(accelerator.distributed_type == "DEEPSPEED")


def _scalars(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of a single number, such as CLIP's logit_scale, which `fully_shard` does not accept."""
    return [parameter for parameter in model.parameters() if parameter.ndim == 0]


class UpdateStep:
    """Update the weights once, as the official loops do.

    The gradient is that of the whole batch: micro-batches and processes contribute equally. If videos are compared with the
    captions of their batch, features are encoded per micro-batch and compared at once. Batch norm inside the encoder still
    normalizes over a micro-batch, and mixup and cutmix mix within one.

    Model and optimizer are those of `accelerator.prepare`, the scheduler is that of the plain optimizer. A
    `ValueError` is raised if the accelerator's strategy does not support this accumulation.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        objective: Objective,
        settings: TrainingSettings,
    ):
        self.accelerator, self.model, self.optimizer, self.scheduler = accelerator, model, optimizer, scheduler
        self.objective, self.settings = objective, settings
        self.recognizer: VideoRecognizer = accelerator.unwrap_model(model)
        self.is_joint = (
            settings.objective == "captions" and settings.accumulated_loss == "batch" and settings.accumulation > 1
        )
        if self.is_joint and (is_sharded(accelerator) or is_deepspeed(accelerator)):
            raise ValueError(
                'training.accumulated_loss = "batch" needs all weights on each process. With sharded weights set it to '
                '"micro_batches", or training.accumulation to 1.'
            )
        if settings.accumulation > 1 and is_deepspeed(accelerator):
            raise ValueError(
                f"training.accumulation must be 1 with DeepSpeed, got {settings.accumulation}. Set it to 1."
            )

    def __call__(self, micro_batches: Sequence[dict[str, Any]], update: int) -> dict[str, float]:
        """Take a step and return its losses of the whole batch by name; raise a `FloatingPointError` if not finite."""
        self.model.train()
        losses = (self._step_jointly if self.is_joint else self._step_separately)(micro_batches, update)
        values = self.accelerator.reduce(torch.stack([loss.detach().float() for loss in losses.values()]), "mean")
        named = dict(zip(losses, values.tolist(), strict=True))
        if not torch.isfinite(values).all():
            raise FloatingPointError(
                f"The loss of update {update} is {named}. Lower training.lr, clip the gradient (training.clip_norm), or use "
                "another training.precision."
            )
        if is_sharded(self.accelerator):  # does not average the gradients of scalars
            _average_gradients(_scalars(self.recognizer), self.accelerator)
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return named

    def _seed(self, update: int, micro_batch: int) -> None:
        seed_micro_batch(self.settings.seed, update, micro_batch, self.accelerator.process_index)

    def _inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        from accelerate.utils import send_to_device

        return self.objective.inputs(send_to_device(batch, self.accelerator.device, non_blocking=True))

    def _step_separately(self, micro_batches: Sequence[dict[str, Any]], update: int) -> dict[str, Tensor]:
        """Sum the gradients of micro-batches, each with its own loss."""
        total: dict[str, Tensor] = {}
        count = len(micro_batches)
        for number, batch in enumerate(micro_batches):
            self._seed(update, number)
            inputs = self._inputs(batch)
            is_last = number == count - 1
            with nullcontext() if is_last else self.accelerator.no_sync(self.model):
                losses = self.objective.losses(self.model(**inputs), inputs["labels"])
                self.accelerator.backward(torch.stack(list(losses.values())).sum() / count)
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + loss.detach() / count
        return total

    def _step_jointly(self, micro_batches: Sequence[dict[str, Any]], update: int) -> dict[str, Tensor]:
        """Encode micro-batches without gradient, compare all features, and encode again with the gradient of the features."""
        others: list[dict[str, Any]] = []
        features: list[Features] = []
        with torch.no_grad(), _unchanged_statistics(self.recognizer):
            for number, batch in enumerate(micro_batches):
                self._seed(update, number)
                inputs = self._inputs(batch)
                features.append(self._encode(inputs))
                encoded = (*_ENCODED, *self.objective.encoded)
                others.append({name: value for name, value in inputs.items() if name not in encoded})
        joint = (join_frames([frames for frames, _ in features]), join_texts([text for _, text in features]))
        leaves = [tensor.requires_grad_() for tensor, _ in _tensors(joint) if tensor.is_floating_point()]
        self._seed(update, len(micro_batches))
        inputs = {name: torch.cat([part[name] for part in others]) for name in others[0]}
        output = self.recognizer(frame_features=joint[0], text_features=joint[1], **inputs)
        losses = self.objective.losses(output, inputs["labels"])
        self.accelerator.backward(torch.stack(list(losses.values())).sum())
        # gathering gives each process the gradient of its own rows only, and the mean over processes follows
        gradients = [leaf.grad * self.accelerator.num_processes if leaf.grad is not None else None for leaf in leaves]
        self._backward_features(micro_batches, update, joint, dict(zip(map(id, leaves), gradients, strict=True)))
        _average_gradients(self.recognizer.parameters(), self.accelerator, fill=True)
        return losses

    def _encode(self, inputs: dict[str, Any]) -> Features:
        """Encode the videos and captions of a micro-batch, unless they are given as features."""
        with self.accelerator.autocast():
            frames = inputs.get("frame_features")
            if frames is None and "pixel_values_videos" in inputs:
                frames = self.recognizer.encode_frames(**frame_inputs(inputs, self.accelerator.device))
            text = inputs.get("text_features")
            if text is None:
                text = self.recognizer.encode_text(**{name: inputs[name] for name in self.objective.encoded})
        return frames, text

    def _backward_features(
        self,
        micro_batches: Sequence[dict[str, Any]],
        update: int,
        joint: Features,
        gradients: dict[int, Tensor | None],
    ) -> None:
        """Encode each micro-batch again and propagate its part of the gradient of the joint features."""
        size = len(micro_batches[0]["labels"])
        for number, batch in enumerate(micro_batches):
            self._seed(update, number)
            rows = slice(number * size, (number + 1) * size)
            pairs = []
            parts = _tensors(self._encode(self._inputs(batch)))
            for (tensor, axis), (whole, _) in zip(parts, _tensors(joint), strict=True):
                gradient = gradients.get(id(whole))
                if tensor.requires_grad and gradient is not None:
                    pairs.append((tensor, gradient.movedim(axis, 0)[rows].movedim(0, axis)))
            if not pairs:
                return
            tensors, gradient_parts = zip(*pairs, strict=True)
            torch.autograd.backward(tensors, gradient_parts)


def _average_gradients(parameters: Any, accelerator: Accelerator, fill: bool = False) -> None:
    """Average over processes the gradients that no wrapper averages; `fill` sets missing ones to 0."""
    if accelerator.num_processes == 1:
        return
    for parameter in parameters:
        if fill and parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= accelerator.num_processes


@contextmanager
def _unchanged_statistics(model: nn.Module) -> Iterator[None]:
    """Restore the running statistics of batch norms after a pass."""
    buffers = [buffer for name, buffer in model.named_buffers() if "running_" in name or "num_batches" in name]
    before = [buffer.clone() for buffer in buffers]
    yield
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value)


def _tensors(features: Features) -> list[tuple[Tensor, int]]:
    """Return the tensors of features, each with the axis of videos or candidates."""
    frames, text = features
    texts = [(tensor, candidate_axis(name)) for name, tensor in text.tensors().items()]
    return [(frames[name], 0) for name in frames or ()] + texts  # type: ignore[index]
