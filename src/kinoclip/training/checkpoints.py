"""The state of a run, and its checkpoints: written atomically, verified when read, the last two kept."""

from __future__ import annotations

import json
import pickle
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.optim.swa_utils import AveragedModel

from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.storage import atomic_folder, claimed, hash_file, remove
from kinoclip.text.parsing import load_json
from kinoclip.training.run_folder import log
from kinoclip.training.update_step import is_deepspeed

if TYPE_CHECKING:
    from accelerate import Accelerator

_MANIFEST = "manifest.json"
# tensors by file name, and everything else
Checkpoint = tuple[dict[str, dict[str, Tensor]], dict[str, Any]]


def save_checkpoint(folder: Path, name: str, tensors: dict[str, dict[str, Tensor]], state: dict[str, Any]) -> Path:
    """Write a checkpoint atomically, and remove all but the last two of its kind.

    Args:
        folder: holds the checkpoints of a run.
        name: kind and number, such as "step-12".
        tensors: file name to tensors, for safetensors.
        state: everything else: numbers, texts and tensors; read back with `weights_only`.
    """
    with atomic_folder(folder / name, owns=claimed) as partial:
        for kind, content in tensors.items():
            save_file({key: tensor.contiguous() for key, tensor in content.items()}, partial / f"{kind}.safetensors")
        with (partial / "state.pt").open("wb") as file:  # given a path, torch does not report a full disk
            torch.save(state, file)
        manifest = {path.name: describe_file(path) for path in sorted(partial.iterdir())}
        (partial / _MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for old in list_checkpoints(folder, name.rpartition("-")[0])[2:]:
        remove(old)
    return folder / name


def describe_file(path: Path) -> dict[str, Any]:
    """Return the entry of a file in the manifest: its size and SHA-256."""
    return {"bytes": path.stat().st_size, "sha256": hash_file(path)}


def list_checkpoints(folder: Path, kind: str) -> list[Path]:
    """Return the checkpoints of a kind, the latest first."""
    found = [path for path in folder.glob(f"{kind}-*") if path.is_dir() and path.name.rpartition("-")[2].isdigit()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)


def load_latest(folder: Path, kind: str, name: str | None = None) -> Checkpoint | None:
    """Load the latest checkpoint that is not damaged, or the one with a name; return None if there is none."""
    for path in list_checkpoints(folder, kind):
        if name not in (None, path.name):
            continue
        try:
            return read_checkpoint(path)
        except ValueError as error:
            log(f"{error} An earlier checkpoint is used, if there is one.")
    return None


def read_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint after comparing each file with the manifest.

    Raises:
        ValueError: a file is missing or has changed.
    """
    try:
        manifest: dict[str, Any] = load_json((path / _MANIFEST).read_text(encoding="utf-8"))
        if any(Path(name).name != name for name in manifest):
            raise ValueError("its manifest names files of other folders")
        changed = [name for name, known in manifest.items() if describe_file(path / name) != known]
        if changed:
            raise ValueError(f"{changed[0]} has changed")
        tensors = {Path(name).stem: load_file(path / name) for name in manifest if name.endswith(".safetensors")}
        state: dict[str, Any] = torch.load(path / "state.pt", weights_only=True)
    except (OSError, ValueError, SafetensorError, pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"The checkpoint {path} is damaged: {reason}.") from error
    return tensors, state


@dataclass
class Progress:
    """The progress of a run, over all its sessions."""

    epoch: int = 0  # the current one
    done: int = 0  # updates of this epoch
    update: int = 0  # updates of the run
    sums: dict[str, float] = field(default_factory=dict)  # losses of this epoch, summed, by name
    history: list[dict[str, Any]] = field(default_factory=list)  # losses, rate and validation of each epoch
    best: dict[str, Any] | None = None  # update, epoch and value of the best validation so far
    failures: dict[str, str] = field(default_factory=dict)  # name of a video that could not be read to the reason
    seconds: float = 0.0  # time spent on updates, with reading and without validation
    memory_mb: float = 0.0  # peak memory

    def count(self, losses: dict[str, float], seconds: float = 0.0) -> None:
        """Add an update."""
        self.seconds += seconds
        self.done += 1
        self.update += 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    def end_epoch(self, **facts: Any) -> dict[str, Any]:
        """Add the epoch to the history, and return its entry."""
        means = {name: total / max(self.done, 1) for name, total in self.sums.items()}
        self.history.append({"epoch": self.epoch, "loss": sum(means.values()), "losses": means, **facts})
        self.epoch, self.done, self.sums = self.epoch + 1, 0, {}
        return self.history[-1]


class TrainingState:
    """The weights, optimizer, schedule and progress of a run; model and optimizer are those of `accelerator.prepare`."""

    def __init__(
        self,
        accelerator: Accelerator,
        folder: Path,
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
        """The model that is evaluated and published: the moving average, if there is one."""
        model: Any = self.recognizer if self.average is None else self.average.module
        return model  # type: ignore[no-any-return]

    def _weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Return all weights; complete on the main process only."""
        if is_deepspeed(self.accelerator):
            return dict(self.accelerator.get_state_dict(self._prepared))
        return get_model_state_dict(model, options=self._options)  # type: ignore[return-value]

    def save(self) -> None:
        """Write a checkpoint from which the run resumes bit by bit; does nothing with DeepSpeed."""
        self.progress.memory_mb = max(self.progress.memory_mb, peak_memory_mb(self.accelerator.device))
        if is_deepspeed(self.accelerator):
            return
        tensors = {"model": self._weights(self.recognizer)}
        state: dict[str, Any] = {
            "progress": asdict(self.progress),
            "optimizer": get_optimizer_state_dict(self.recognizer, self.optimizer, options=self._options),
            "scheduler": self.scheduler.state_dict(),
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        if self.average is not None:
            tensors["average"] = self._weights(self.average.module)
            state["averaged"] = int(self.average.n_averaged)
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder, f"step-{self.progress.update}", tensors, state)
        self.accelerator.wait_for_everyone()

    def gather_failures(self) -> None:
        """Collect the unreadable videos of all processes."""
        from accelerate.utils import gather_object

        if self.accelerator.num_processes > 1:
            for failures in gather_object([self.progress.failures]):
                self.progress.failures |= failures

    def save_best(self, value: float) -> None:
        """Save the weights if no earlier value is higher."""
        best = self.progress.best
        if best is not None and value < best["value"]:
            return
        update = self.progress.update
        self.progress.best = {"epoch": self.progress.epoch, "update": update, "value": value}
        weights = self._weights(self.evaluated)
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder, f"best-{update}", {"model": weights}, {})

    def best_weights(self) -> dict[str, Tensor]:
        """Return the weights to publish: the best, or the last if none were selected; on the main process only."""
        best = self.progress.best
        last = self._weights(self.evaluated)
        if best is None or not self.accelerator.is_main_process:
            return last
        found = load_latest(self.folder, "best", name=f"best-{best['update']}")
        if found is None:
            log(f"The best weights, of epoch {best['epoch'] + 1}, cannot be read: those of the last epoch are saved.")
            return last
        return found[0]["model"]

    def restore(self) -> bool:
        """Load the latest checkpoint, and return whether there is one."""
        from accelerate.utils import broadcast_object_list

        if is_deepspeed(self.accelerator):
            raise ValueError("A run with DeepSpeed cannot be resumed. Start a new run, or train with FSDP2.")
        found = load_latest(self.folder, "step") if self.accelerator.is_main_process else None
        tensors: Any  # torch.distributed.checkpoint has its own type
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
    """Reset the peak of `peak_memory_mb`; on CPUs only Linux can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak since `reset_peak_memory` in MB (10^6 bytes): allocated on a GPU, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 1e6
    import resource

    scale = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
