"""Train the embedded CLIP: `python examples/embedded_clip/train.py --output DIR [--seed 0] [--minutes M | --steps N]`."""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version

import torch
from embedded_clip import (
    MEAN,
    STD,
    Objective,
    Settings,
    build_model,
    build_pool,
    build_tokenizer,
    initialize_image_tower,
    measure,
)
from figures import GRAMMAR, FigureObjective, build_figure_pool, measure_figures
from torch import Tensor, nn
from transformers import CLIPImageProcessor

from kinoclip.storage import atomic_folder

LOG_EVERY = 100


class Muon:
    """Momentum with orthogonalized updates of matrices, in fp32 and for all matrices of a shape at once.

    `torch.optim.Muon` updates one matrix at a time in bfloat16, which takes longer on a CPU than the rest of the step.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """

    def __init__(self, matrices: Sequence[nn.Parameter], momentum: float = 0.95) -> None:
        self.momentum = momentum
        self.stacks = [[m for m in matrices if m.shape == shape] for shape in dict.fromkeys(m.shape for m in matrices)]
        self.averages = [torch.zeros(len(stack), *stack[0].shape) for stack in self.stacks]

    @torch.no_grad()
    def step(self, learning_rate: float, weight_decay: float) -> None:
        """Update every matrix; steps are about as large as those of AdamW at the same learning rate."""
        for stack, average in zip(self.stacks, self.averages, strict=True):
            gradients = torch.stack([matrix.grad for matrix in stack])
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
    return current.mT if tall else current


def optimize(objectives: Sequence[Objective | FigureObjective], settings: Settings) -> list[dict[str, float]]:
    """Train for the steps or minutes of the settings, and return a record for every `LOG_EVERY` steps."""
    model = objectives[0].model.train()
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".encoder.layers." in name]
    others = {id(matrix) for matrix in matrices}
    parameters: list[nn.Parameter] = [*model.parameters()]
    for objective in objectives:
        parameters += objective.dense_head.parameters()
    muon = Muon(matrices)
    adam = torch.optim.AdamW([p for p in parameters if id(p) not in others], betas=(0.9, 0.98), fused=True)
    started, step, log = time.monotonic(), 0, []
    means: dict[str, float] = {}

    def report() -> None:
        line = {"step": step, "seconds": round(time.monotonic() - started, 1)}
        line |= {"scale": round(model.logit_scale.exp().item(), 2), **{name: round(m, 4) for name, m in means.items()}}
        sys.stderr.write(" ".join(f"{name} {value}" for name, value in line.items()) + "\n")
        log.append(line)

    while True:
        progress = step / settings.steps if settings.steps else (time.monotonic() - started) / (60 * settings.minutes)
        if progress >= 1:
            break
        rate = settings.learning_rate * min(1.0, progress / settings.warmup_share)
        rate *= 0.5 * (1 + math.cos(math.pi * progress))
        for group in adam.param_groups:
            group["lr"], group["weight_decay"] = rate, settings.weight_decay
        for parameter in parameters:
            parameter.grad = None
        losses = {name: loss for objective in objectives for name, loss in objective.losses().items()}
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        adam.step()
        muon.step(rate, settings.weight_decay)
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        step += 1
        for name, loss in losses.items():
            means[name] = means.get(name, loss.item()) * 0.95 + 0.05 * loss.item()
        if step % LOG_EVERY == 1:
            report()
    report()
    return log


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Round all parameters to values of float16, so that the file of half the size holds them exactly."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half().float())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python examples/embedded_clip/train.py", description=__doc__)
    defaults = Settings()
    parser.add_argument("--output", required=True, help="new folder")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=defaults.minutes, help="of training, after rendering")
    length.add_argument("--steps", type=int, help="instead of minutes; reproducible")
    parser.add_argument("--pool-clips", type=int, default=defaults.pool_clips, help="clips to render for training")
    parser.add_argument("--figure-clips", type=int, default=defaults.figure_clips, help="of KinoFigures; 0 for none")
    parser.add_argument("--measured-videos", type=int, default=360, help="test clips of shapes of each kind to score")
    parser.add_argument("--measured-figures", type=int, default=8, help="validation clips of each action to score")
    options = parser.parse_args(arguments)
    names = ("seed", "steps", "minutes", "pool_clips", "figure_clips")
    settings = Settings(**{name: getattr(options, name) for name in names})
    with atomic_folder(options.output) as folder:
        pool, tokenizer = build_pool(settings), build_tokenizer(GRAMMAR)
        model = build_model(settings, tokenizer)
        initialize_image_tower(model, pool)
        objectives: list[Objective | FigureObjective] = [Objective(settings, pool, model, tokenizer)]
        if settings.figure_clips:
            objectives.append(FigureObjective(settings, build_figure_pool(settings), model, tokenizer))
        log = optimize(objectives, settings)
        round_to_half(model.eval())
        scores = measure(model, tokenizer, options.measured_videos, settings.seed)
        if settings.figure_clips and options.measured_figures:
            scores |= measure_figures(model, tokenizer, options.measured_figures)
        sys.stderr.write(f"unseen clips: {scores}\n")
        record = {
            "command": " ".join([parser.prog, *(sys.argv[1:] if arguments is None else arguments)]),
            "settings": asdict(settings),
            "steps": log[-1]["step"],
            "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "av", "numpy")},
            "threads": torch.get_num_threads(),
            "measured_videos": options.measured_videos,
            "scores": {name: round(score, 4) for name, score in scores.items()},
            "log": log,
        }
        size = {"height": settings.image_size, "width": settings.image_size}
        processor = CLIPImageProcessor(
            size={"shortest_edge": settings.image_size}, crop_size=size, image_mean=list(MEAN), image_std=list(STD)
        )
        for part in (model.half(), tokenizer, processor):
            part.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        config["dtype"] = "float32"  # of computation; half of the bytes on disk
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
