"""The training loop of the mini CLIP, and the folder it leaves."""

import json
import math
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPImageProcessor, CLIPModel, CLIPTokenizer

from kinoclip.data.mini_clip import build_tokenizer

from .measure import measure
from .model import build_model, start_image_tower
from .muon import Muon
from .objective import Objective
from .pool import MEAN, STD, build_pool
from .settings import Settings

LOG_EVERY = 100


def train(settings: Settings, output: str | Path, measured_videos: int = 360, command: str = "") -> dict[str, Any]:
    """Train a mini CLIP and write it as a folder that `CLIPModel` and `CLIPTokenizer` load.

    Args:
        settings: sizes, lengths and weights.
        output: a new or empty folder.
        measured_videos: how many unseen clips of each kind are scored at the end.
        command: the command line, for the record.

    Returns:
        The record, also written as `training.json`.

    Raises:
        FileExistsError: `output` holds something already.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} is not empty. Name a new folder, or remove this one first.")
    started = time.monotonic()
    pool = build_pool(settings)
    pool_seconds = time.monotonic() - started
    tokenizer = build_tokenizer()
    model = build_model(settings, tokenizer)
    start_image_tower(model, pool)
    log = _optimize(Objective(settings, pool, model, tokenizer), settings)
    train_seconds = time.monotonic() - started - pool_seconds
    model.eval()
    scores = asdict(measure(model, tokenizer, measured_videos, settings.seed))
    sys.stderr.write(f"unseen clips: {scores}\n")
    record = {
        "command": command,
        "settings": asdict(settings),
        "steps": log[-1]["step"],
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers", "av", "numpy")},
        "threads": torch.get_num_threads(),
        "pool_seconds": round(pool_seconds, 1),
        "train_seconds": round(train_seconds, 1),
        "measured_videos": measured_videos,
        "scores": {name: round(score, 4) for name, score in scores.items()},
        "log": log,
    }
    _save(output, model, tokenizer, record)
    return record


def _optimize(objective: Objective, settings: Settings) -> list[dict[str, float]]:
    """Train until the steps or minutes are over; give one line of log per `LOG_EVERY` steps."""
    model = objective.model.train()
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and ".encoder.layers." in name]
    taken = {id(matrix) for matrix in matrices}
    parameters: list[nn.Parameter] = [*model.parameters(), *objective.dense_head.parameters()]
    muon = Muon(matrices)
    adam = torch.optim.AdamW([p for p in parameters if id(p) not in taken], betas=(0.9, 0.98), fused=True)
    started, step, log = time.monotonic(), 0, []
    means: dict[str, float] = {}
    while True:
        elapsed = time.monotonic() - started
        progress = step / settings.steps if settings.steps else elapsed / (60 * settings.minutes)
        if progress >= 1:
            break
        rate = settings.learning_rate * min(1.0, progress / settings.warmup_share) * _cosine(progress)
        for group in adam.param_groups:
            group["lr"], group["weight_decay"] = rate, settings.weight_decay
        losses = objective.losses()
        for parameter in parameters:
            parameter.grad = None
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
            log.append(_log(step, elapsed, means, model))
    log.append(_log(step, time.monotonic() - started, means, model))
    return log


def _cosine(progress: float) -> float:
    """Fall from 1 to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def _log(step: int, seconds: float, means: dict[str, float], model: CLIPModel) -> dict[str, float]:
    """Report one line on stderr and give it as a record."""
    line = {"step": step, "seconds": round(seconds, 1), "scale": round(model.logit_scale.exp().item(), 2)}
    line |= {name: round(mean, 4) for name, mean in means.items()}
    sys.stderr.write(" ".join(f"{name} {value}" for name, value in line.items()) + "\n")
    sys.stderr.flush()
    return line


def _save(output: Path, model: CLIPModel, tokenizer: CLIPTokenizer, record: dict[str, Any]) -> None:
    """Write model, tokenizer, image sizes and record; the folder appears whole or not at all."""
    size = model.vision_model.embeddings.image_size
    processor = CLIPImageProcessor(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(MEAN),
        image_std=list(STD),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        processor.save_pretrained(partial)
        (partial / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp makes a private folder, safetensors a private file
        (partial / "model.safetensors").chmod(0o644)
        partial.replace(output)
    except BaseException:
        shutil.rmtree(partial)
        raise
