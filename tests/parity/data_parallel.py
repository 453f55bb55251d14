"""Training steps of saved models on several processes; what each process computed is written to a file.

    python tests/parity/data_parallel.py RANK WORLD FOLDER

FOLDER holds a folder for each step, with `model/` and `inputs.pt`; process r takes the r-th part of every input's rows and
writes `result-r.pt`.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# candidates are (P, K, L), everything else has its rows first
_ROW_AXES = {"input_ids": 1, "word_mask": 1}


def train_step(parallel: nn.Module, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the loss, logits and gradients of one step of `model`, run through `parallel`."""
    output = parallel(**inputs)
    output.loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    return {"loss": output.loss.detach(), "logits": output.logits.detach(), "gradients": gradients}


def train_steps_in_parallel(
    steps: Mapping[str, tuple[nn.Module, Mapping[str, Tensor]]], world: int, folder: Path, programs: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Return the results of every step, by name, on each of `world` processes; `programs` is the fixture."""
    for name, (model, inputs) in steps.items():
        model.save_pretrained(folder / name / "model")
        torch.save(inputs, folder / name / "inputs.pt")
    command = ["python", __file__]
    workers = [subprocess.Popen([*command, str(rank), str(world), folder], env=programs) for rank in range(world)]
    try:
        assert [worker.wait(timeout=120) for worker in workers] == [0] * world
    finally:
        for worker in workers:
            worker.kill()
    return {name: [torch.load(folder / name / f"result-{rank}.pt") for rank in range(world)] for name in steps}


def main(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    # a file, not a port: nothing else can have taken it
    dist.init_process_group("gloo", init_method=f"file://{folder.absolute()}/store", rank=rank, world_size=world)
    for path in sorted(folder.glob("*/inputs.pt")):
        model = AutoModel.from_pretrained(path.parent / "model").train()
        model.freeze()
        inputs = torch.load(path)
        rows = {name: tensor.chunk(world, _ROW_AXES.get(name, 0))[rank] for name, tensor in inputs.items()}
        result = train_step(DistributedDataParallel(model), model, rows)
        torch.save(result, path.parent / f"result-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    from transformers import AutoModel

    import kinoclip  # noqa: F401  (makes its models known to AutoModel)

    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
