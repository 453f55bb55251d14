"""Train the embedded CLIP and the recognizer of actions on it: `python examples/embedded_clip/train.py --output DIR`.

`torchrun --nproc-per-node N` trains in N processes, which share the clips and average their gradients.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from embedded_clip import (
    MEAN,
    STD,
    Objective,
    Pool,
    Settings,
    build_model,
    build_pool,
    build_tokenizer,
    initialize_image_tower,
    measure,
    rate_at,
)
from figures import GRAMMAR, FigureObjective, FigurePool, build_figure_pool, measure_figures
from recognizer import encode_clips, train_head
from safetensors.torch import load_file, save_file
from teacher import ConvolutionalTower
from texts import TextObjective, train_texts
from torch import Tensor, distributed, nn
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from kinoclip import BikeModel, BikeProcessor
from kinoclip.kinoshapes.figures.actions import ACTIONS
from kinoclip.storage import atomic_folder, check_owned, nothing

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
            gradients = torch.stack([torch.zeros_like(m) if m.grad is None else m.grad for m in stack])
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


def optimize(
    objectives: Sequence[Objective | FigureObjective], settings: Settings, share: float
) -> list[dict[str, float]]:
    """Train for a share of the steps or minutes of the settings, and return a record for every `LOG_EVERY` steps."""
    model = objectives[0].model.train()
    modules = nn.ModuleList([model, *(objective.heads for objective in objectives)])
    parameters = [*modules.parameters()]
    matrices = [p for name, p in modules.named_parameters() if p.ndim == 2 and "encoder.layers." in name]
    others = {id(matrix) for matrix in matrices}
    muon = Muon(matrices)
    adam = torch.optim.AdamW([p for p in parameters if id(p) not in others], betas=(0.9, 0.98), fused=True)
    started, step, log = time.monotonic(), 0, []
    means: dict[str, float] = {}

    def report() -> None:
        line = {"step": step, "seconds": round(time.monotonic() - started, 1)}
        line |= {"scale": round(model.logit_scale.exp().item(), 2), **{name: round(m, 4) for name, m in means.items()}}
        sys.stderr.write(" ".join(f"{name} {value}" for name, value in line.items()) + "\n")
        log.append(line)

    elapsed = 0.0
    share_weights(parameters)
    while True:
        done, length = (step, settings.steps) if settings.steps else (elapsed, 60 * settings.minutes)
        if done >= share * length:
            break
        progress = done / (share * length)
        rate = rate_at(progress, settings.learning_rate, settings.warmup_share)
        for group in adam.param_groups:
            group["lr"], group["weight_decay"] = rate, settings.weight_decay
        for parameter in parameters:
            parameter.grad = None
        losses = {}
        for objective in objectives:
            if step % objective.every == 0:
                losses |= objective.losses()
        torch.stack(list(losses.values())).sum().backward()
        elapsed = average_gradients(parameters, time.monotonic() - started)
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


def teach(
    settings: Settings, people: FigurePool, shapes: Pool, tokenizer: CLIPTokenizer
) -> tuple[CLIPModel, list[dict[str, float]], CLIPModel, nn.Module]:
    """Train the convolutional tower, and return a CLIP with its text tower, the log, the teacher and its temporal head."""
    teacher, model = build_model(settings, tokenizer), build_model(settings, tokenizer)
    teacher.vision_model = ConvolutionalTower(settings.width, settings.grid)
    teaching = FigureObjective(settings, people, teacher, tokenizer)
    log = optimize([teaching], settings, settings.teacher_share)
    initialize_image_tower(model, shapes)
    for name in ("text_model", "text_projection"):
        getattr(model, name).load_state_dict(getattr(teacher, name).state_dict())
    return model, log, teacher.eval(), teaching.temporal


@torch.no_grad()
def share_weights(parameters: Sequence[nn.Parameter]) -> None:
    """Start all processes with the weights of the first."""
    for parameter in parameters if distributed.is_initialized() else ():
        distributed.broadcast(parameter.data, src=0)


@torch.no_grad()
def average_gradients(parameters: Sequence[nn.Parameter], elapsed: float) -> float:
    """Average gradients over processes, and return the mean of their elapsed seconds."""
    if not distributed.is_initialized():
        return elapsed
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([torch.tensor([elapsed]), *(gradient.flatten() for gradient in gradients)])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for parameter, gradient in zip(parameters, flat[1:].split([p.numel() for p in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)
    return float(flat[0])


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    """Round all parameters to values of float16, so that the file of half the size holds them exactly."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half().float())


def save_clip(folder: Path, model: CLIPModel, tokenizer: CLIPTokenizer, record: dict[str, Any]) -> None:
    """Write the CLIP as a folder of Transformers, in half of the bytes of float32."""
    size = {"height": model.config.vision_config.image_size, "width": model.config.vision_config.image_size}
    processor = CLIPImageProcessor(
        size={"shortest_edge": size["height"]}, crop_size=size, image_mean=list(MEAN), image_std=list(STD)
    )
    for part in (model.half(), tokenizer, processor):
        part.save_pretrained(folder)
    _set_dtype(folder / "config.json")
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def save_recognizer(folder: Path, temporal: nn.Module) -> None:
    """Write BIKE with the temporal head and the names of the actions; its towers are the files of the CLIP in `folder`/clip."""
    clip = folder / "clip"
    recognizer = BikeModel.from_clip(
        str(clip), interaction="mean", temporal_layers=len(temporal.encoder.layers)
    ).eval()
    recognizer.temporal_head.load_state_dict(temporal.state_dict())
    processor = BikeProcessor.from_clip(str(clip), recognizer.config)
    labels = [action.label for action in ACTIONS]
    recognizer.set_candidates(labels, recognizer.encode_text(**processor(text=labels)))
    for part in (recognizer.half(), processor):
        part.save_pretrained(folder)
    _set_dtype(folder / "config.json")
    towers = load_file(clip / "model.safetensors")
    whole = load_file(folder / "model.safetensors")
    for name in ("model.safetensors", "kinoclip_shim.py"):
        (folder / name).unlink()
    save_file(
        {name: t for name, t in whole.items() if name not in towers}, folder / "head.safetensors", {"format": "pt"}
    )
    files = {name: "clip/model.safetensors" if name in towers else "head.safetensors" for name in whole}
    index = {"metadata": {"total_size": sum(t.nbytes for t in whole.values())}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _set_dtype(path: Path) -> None:
    """Note the data type of computation in a config."""
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"dtype": "float32"}, indent=2) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python examples/embedded_clip/train.py", description=__doc__.splitlines()[0]
    )
    defaults = Settings()
    parser.add_argument("--output", required=True, help="new folder")
    parser.add_argument("--start", metavar="DIR", help="an earlier output, to train it further, without a teacher")
    parser.add_argument("--seed", type=int, default=defaults.seed)
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--minutes",
        type=float,
        default=defaults.minutes,
        help="of training, after rendering; 0 with --start: texts and temporal head alone",
    )
    length.add_argument("--steps", type=int, help="instead of minutes; reproducible")
    parser.add_argument("--pool-clips", type=int, default=defaults.pool_clips, help="clips to render for training")
    parser.add_argument("--figure-clips", type=int, default=defaults.figure_clips, help="of KinoFigures")
    parser.add_argument("--standing-clips", type=int, default=defaults.standing_clips, help="of people who also stand")
    parser.add_argument("--text-steps", type=int, default=defaults.text_steps, help="of the last training of texts")
    parser.add_argument("--measured-videos", type=int, default=360, help="test clips of shapes of each kind to score")
    parser.add_argument("--measured-figures", type=int, default=8, help="validation clips of each action to score")
    options = parser.parse_args(arguments)
    names = ("seed", "steps", "minutes", "pool_clips", "figure_clips", "standing_clips", "text_steps")
    settings = Settings(
        **{name: getattr(options, name) for name in names},
        num_processes=int(os.environ.get("WORLD_SIZE", "1")),
        rank=int(os.environ.get("RANK", "0")),
    )
    if settings.num_processes > 1:
        distributed.init_process_group("gloo")
    check_owned(options.output, nothing)
    start = options.start and Path(options.start)
    tokenizer = CLIPTokenizer.from_pretrained(start / "clip") if start else build_tokenizer(GRAMMAR)
    people, shapes = build_figure_pool(settings), build_pool(settings)
    if start:
        model, log, teacher = CLIPModel.from_pretrained(start / "clip", dtype=torch.float32), [], None
        temporal = BikeModel.from_pretrained(start, dtype=torch.float32).temporal_head
    else:
        model, log, teacher, temporal = teach(settings, people, shapes, tokenizer)
    figures = FigureObjective(settings, people, model, tokenizer, teacher, settings.text_share)
    figures.temporal.load_state_dict(temporal.state_dict())
    share = 1.0 if start else 1 - settings.teacher_share
    objects = Objective(settings, shapes, model, tokenizer)
    log += optimize([objects, figures], settings, share)
    if settings.rank:
        return
    round_to_half(model.eval())
    embeds, actions = encode_clips(model, people.images), people.actions.repeat(2)
    text_log = train_texts(TextObjective(settings, people, embeds, model, tokenizer), objects, settings)
    round_to_half(model.eval())
    acting = actions >= 0
    losses = train_head(model, figures.temporal, tokenizer, embeds[acting], actions[acting], settings)
    round_to_half(figures.temporal.eval())
    scores = measure(model, tokenizer, options.measured_videos, settings.seed)
    if options.measured_figures:
        scores |= measure_figures(model, figures.temporal, tokenizer, "validation", options.measured_figures)
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
        "text_log": text_log,
        "head_log": [round(loss, 4) for loss in losses],
    }
    with atomic_folder(options.output) as folder:
        save_clip(folder / "clip", model, tokenizer, record)
        save_recognizer(folder, figures.temporal)


if __name__ == "__main__":
    main()
