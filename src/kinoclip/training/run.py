"""What changes in a run, and how it is kept in checkpoints."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.swa_utils import AveragedModel

from kinoclip.recognizer import VideoRecognizer

from .checkpoints import load_latest, save_checkpoint
from .output import RunFolder
from .sharding import is_deepspeed

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class Progress:
    """How far a run is.

    Args:
        epoch: the one that is under way, or comes.
        done: updates of this epoch.
        update: updates of the run.
        sums: losses of this epoch, summed, by name.
        history: for each epoch its losses, rate and validation.
        best: update, epoch and value of the best validation so far.
        failures: name of a video that could not be read to the reason.
        seconds: time spent on updates, reading included and validation excluded, over all sessions of the run.
        memory_mb: peak memory, over all sessions of the run.
    """

    epoch: int = 0
    done: int = 0
    update: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    failures: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    memory_mb: float = 0.0

    def count(self, losses: dict[str, float], seconds: float = 0.0) -> None:
        """Count an update and the time that it took."""
        self.seconds += seconds
        self.done += 1
        self.update += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def end_epoch(self, **facts: Any) -> dict[str, Any]:
        """Close the epoch, and give what the history says of it."""
        means = {name: total / max(self.done, 1) for name, total in self.sums.items()}
        self.history.append({"epoch": self.epoch, "loss": sum(means.values()), "losses": means, **facts})
        self.epoch, self.done, self.sums = self.epoch + 1, 0, {}
        return self.history[-1]


class Run:
    """The weights of a run, what changes them, and how far it is.

    Args:
        accelerator: precision and processes.
        folder: where checkpoints go.
        model: as `accelerator.prepare` gives it.
        optimizer: likewise.
        scheduler: of the plain optimizer.
        average: of the weights, if one is kept.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        folder: RunFolder,
        model: nn.Module,
        optimizer: Any,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        average: AveragedModel | None = None,
    ):
        self.accelerator, self.folder, self.scheduler = accelerator, folder, scheduler
        self._prepared = model
        self.recognizer: VideoRecognizer = accelerator.unwrap_model(model)
        self.optimizer: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
        self.progress = Progress()
        self.average = average
        self._options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, broadcast_from_rank0=accelerator.num_processes > 1
        )

    @property
    def evaluated(self) -> VideoRecognizer:
        """The model that is measured and published: the average, where there is one."""
        model: Any = self.recognizer if self.average is None else self.average.module
        return model  # type: ignore[no-any-return]

    def weights(self) -> dict[str, Tensor]:
        """Give all weights of `evaluated`; on the main process only."""
        return self._all(self.evaluated)

    def _all(self, model: nn.Module) -> dict[str, Tensor]:
        if is_deepspeed(self.accelerator):
            return dict(self.accelerator.get_state_dict(self._prepared))
        found: dict[str, Any] = get_model_state_dict(model, options=self._options)
        return found

    def save(self) -> None:
        """Write a checkpoint, from which the run continues as if it had not stopped; not with DeepSpeed."""
        self.progress.memory_mb = max(self.progress.memory_mb, peak_memory_mb(self.accelerator.device))
        if is_deepspeed(self.accelerator):
            return
        tensors = {"model": self._all(self.recognizer)}
        state: dict[str, Any] = {
            "progress": asdict(self.progress),
            "optimizer": get_optimizer_state_dict(self.recognizer, self.optimizer, options=self._options),
            "scheduler": self.scheduler.state_dict(),
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        if self.average is not None:
            tensors["average"] = self._all(self.average.module)
            state["averaged"] = int(self.average.n_averaged)
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder.checkpoints, f"step-{self.progress.update}", tensors, state)
        self.accelerator.wait_for_everyone()

    def gather_failures(self) -> None:
        """Let the main process know which videos the others could not read."""
        from accelerate.utils import gather_object

        if self.accelerator.num_processes > 1:
            for failures in gather_object([self.progress.failures]):
                self.progress.failures |= failures

    def save_best(self, value: float) -> None:
        """Keep the weights if none before them were better; of equal ones the later have seen more."""
        best = self.progress.best
        if best is not None and value < best["value"]:
            return
        update = self.progress.update
        self.progress.best = {"epoch": self.progress.epoch, "update": update, "value": value}
        weights = self.weights()
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder.checkpoints, f"best-{update}", {"model": weights}, {})

    def best_weights(self) -> dict[str, Tensor]:
        """Give the weights to publish: the best, or the last where nothing was measured."""
        best = self.progress.best
        last = self.weights()
        if best is None or not self.accelerator.is_main_process:
            return last
        found = load_latest(self.folder.checkpoints, "best", say, name=f"best-{best['update']}")
        if found is None:
            say(f"The best weights, of epoch {best['epoch'] + 1}, cannot be read: those of the last epoch are saved.")
            return last
        return found[0]["model"]

    def restore(self) -> bool:
        """Continue from the last checkpoint that is whole; tell whether there is one.

        Raises:
            ValueError: DeepSpeed trains, which keeps its optimizer to itself.
        """
        from accelerate.utils import broadcast_object_list

        if is_deepspeed(self.accelerator):
            raise ValueError("A run with DeepSpeed cannot be resumed. Start it anew, or train with FSDP2.")
        found = None
        if self.accelerator.is_main_process:
            found = load_latest(self.folder.checkpoints, "step", say)
        tensors: Any  # what torch.distributed.checkpoint calls ValueType
        tensors, state = found if found is not None else ({}, {})
        optimizer = state.pop("optimizer", {})
        [state] = broadcast_object_list([state])
        if not state:
            return False
        set_model_state_dict(self.recognizer, tensors.get("model", {}), options=self._options)
        set_optimizer_state_dict(self.recognizer, self.optimizer, optimizer, options=self._options)
        self.scheduler.load_state_dict(state["scheduler"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            set_model_state_dict(self.average.module, tensors.get("average", {}), options=self._options)
            self.average.n_averaged.fill_(state["averaged"])
        self.progress = Progress(**state["progress"])
        return True


def reset_peak_memory(device: torch.device) -> None:
    """Start a new peak for `peak_memory_mb`; only Linux can do so for a process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak since `reset_peak_memory`, in MB (10^6 bytes): allocated on a GPU, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    import resource

    scale = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6


def say(message: str) -> None:
    """Tell a person."""
    sys.stderr.write(f"kinoclip: {message}\n")
