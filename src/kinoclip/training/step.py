"""One update of the weights: its micro-batches, its loss, its gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kinoclip.outputs import FrameFeatures, TextFeatures
from kinoclip.recognizer import VideoRecognizer

from .batching import seed_micro_batch, to_device
from .objective import Objective, join_frames, join_texts
from .settings import TrainingSettings
from .sharding import average_scalars, is_deepspeed, is_sharded

if TYPE_CHECKING:
    from accelerate import Accelerator

# what is encoded, or comes encoded already
_ENCODED = ("pixel_values_videos", "frame_features", "text_features")


class UpdateStep:
    """Change the weights once, as the official loops do.

    The gradient is that of the whole batch: micro-batches and processes share it evenly, and where videos are compared with the
    captions of their batch, features are encoded micro-batch by micro-batch and compared at once. What normalizes over a batch
    inside of the encoder (batch norm) still sees a micro-batch, and so does mixing.

    Args:
        accelerator: precision and processes.
        model: as `accelerator.prepare` gives it.
        optimizer: likewise.
        scheduler: of the plain optimizer.
        objective: what is matched.
        settings: of the run.

    Raises:
        ValueError: the way in which processes share the weights does not allow this accumulation.
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
        whole = settings.objective == "captions" and settings.accumulated_loss == "batch"
        self.compares_at_once = whole and settings.accumulation > 1
        if self.compares_at_once and (is_sharded(accelerator) or is_deepspeed(accelerator)):
            raise ValueError(
                'training.accumulated_loss = "batch" needs whole weights on each process. With sharded ones set it to '
                '"micro_batches", or training.accumulation to 1.'
            )
        if settings.accumulation > 1 and is_deepspeed(accelerator):
            raise ValueError("DeepSpeed counts micro-batches by itself. Set training.accumulation = 1.")

    def __call__(self, micro_batches: Sequence[dict[str, Any]], update: int) -> dict[str, float]:
        """Take a step and give its losses by name, of the whole batch.

        Raises:
            FloatingPointError: the loss is no number any more.
        """
        self.model.train()
        accumulate = self._compare_at_once if self.compares_at_once else self._add_up
        losses = accumulate(micro_batches, update)
        values = self.accelerator.reduce(torch.stack([loss.detach().float() for loss in losses.values()]), "mean")
        named = dict(zip(losses, values.tolist(), strict=True))
        if not torch.isfinite(values).all():
            raise FloatingPointError(
                f"The loss of update {update} is {named}. Lower training.lr, clip the gradient (training.clip_norm), or use "
                "another training.precision."
            )
        if is_sharded(self.accelerator):
            average_scalars(self.recognizer)
        if self.settings.clip_norm is not None:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return named

    def _seed(self, update: int, micro_batch: int) -> None:
        seed_micro_batch(self.settings.seed, update, micro_batch, self.accelerator.process_index)

    def _inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self.objective.inputs(to_device(batch, self.accelerator.device))

    def _add_up(self, micro_batches: Sequence[dict[str, Any]], update: int) -> dict[str, Tensor]:
        """Add the gradients of micro-batches, each with a loss of its own."""
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

    def _compare_at_once(self, micro_batches: Sequence[dict[str, Any]], update: int) -> dict[str, Tensor]:
        """Encode micro-batches without gradient, compare all features, and encode once more with the gradient they got."""
        others: list[dict[str, Any]] = []
        features: list[tuple[FrameFeatures, TextFeatures]] = []
        with torch.no_grad(), _unchanged_statistics(self.recognizer):
            for number, batch in enumerate(micro_batches):
                self._seed(update, number)
                inputs = self._inputs(batch)
                features.append(self._encode(inputs))
                encoded = (*_ENCODED, *self.objective.encoded)
                others.append({name: value for name, value in inputs.items() if name not in encoded})
        frames = join_frames([frames for frames, _ in features])
        text = join_texts([text for _, text in features])
        leaves = [tensor.requires_grad_() for tensor in _floats(frames, text)]
        self._seed(update, len(micro_batches))
        joined = {name: torch.cat([part[name] for part in others]) for name in others[0]}
        output = self.recognizer(frame_features=frames, text_features=text, **joined)
        losses = self.objective.losses(output, joined["labels"])
        self.accelerator.backward(torch.stack(list(losses.values())).sum())
        # gathering gives each process the gradient of its own rows alone, and the mean over processes follows
        gradients = [leaf.grad * self.accelerator.num_processes if leaf.grad is not None else None for leaf in leaves]
        self._pass_on(micro_batches, update, (frames, text), dict(zip(map(id, leaves), gradients, strict=True)))
        self._average_gradients()
        return losses

    def _encode(self, inputs: dict[str, Any]) -> tuple[FrameFeatures, TextFeatures]:
        """Encode the videos and captions of a micro-batch, those that are not given as features."""
        with self.accelerator.autocast():
            frames = inputs.get("frame_features")
            if frames is None:
                frames = self.recognizer.encode_frames(inputs["pixel_values_videos"])
            text = inputs.get("text_features")
            if text is None:
                text = self.recognizer.encode_text(**{name: inputs[name] for name in self.objective.encoded})
        return frames, text

    def _pass_on(
        self,
        micro_batches: Sequence[dict[str, Any]],
        update: int,
        features: tuple[FrameFeatures, TextFeatures],
        gradients: dict[int, Tensor | None],
    ) -> None:
        """Give each micro-batch's features their part of the gradient; nothing, where they need none."""
        size = len(micro_batches[0]["labels"])
        for number, batch in enumerate(micro_batches):
            self._seed(update, number)
            part = slice(number * size, (number + 1) * size)
            pairs = []
            for tensor, whole, axis in _aligned(self._encode(self._inputs(batch)), features):
                gradient = gradients.get(id(whole))
                if tensor.requires_grad and gradient is not None:
                    pairs.append((tensor, gradient.movedim(axis, 0)[part].movedim(0, axis)))
            if not pairs:
                return
            tensors, parts = zip(*pairs, strict=True)
            torch.autograd.backward(tensors, parts)

    def _average_gradients(self) -> None:
        """Average over processes what DistributedDataParallel did not see."""
        if self.accelerator.num_processes == 1:
            return
        for parameter in self.recognizer.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.accelerator.num_processes


@contextmanager
def _unchanged_statistics(model: nn.Module) -> Iterator[None]:
    """Put the running statistics of batch norms back after a pass that shall not count."""
    buffers = [buffer for name, buffer in model.named_buffers() if "running_" in name or "num_batches" in name]
    before = [buffer.clone() for buffer in buffers]
    yield
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value)


def _floats(frames: FrameFeatures, text: TextFeatures) -> list[Tensor]:
    return [whole for _, whole, _ in _aligned((frames, text), (frames, text)) if whole.is_floating_point()]


def _aligned(
    found: tuple[FrameFeatures, TextFeatures], whole: tuple[FrameFeatures, TextFeatures]
) -> list[tuple[Tensor, Tensor, int]]:
    """Give each tensor of the features, its counterpart, and the axis of their rows."""
    (frames, text), (all_frames, all_text) = found, whole
    pairs = [(frames[name], all_frames[name], 0) for name in frames]
    axes = {"embeds": 1, "words": 0, "word_mask": 0}
    pairs += [(text[name], all_text[name], axis) for name, axis in axes.items() if text.get(name) is not None]
    branches, all_branches = text.branches or {}, all_text.branches or {}
    return pairs + [(branches[name], all_branches[name], 1) for name in branches]
