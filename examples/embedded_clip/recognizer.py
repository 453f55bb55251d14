"""The temporal head of the embedded recognizer: trained on with frozen frames, and with clips in which people also stand."""

import math
import sys

import numpy as np
import torch
import torch.nn.functional as F
from embedded_clip import PROMPT, Settings, decode, normalize, rate_at
from figures import MARGIN
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from kinoclip.kinoshapes import clip_generator
from kinoclip.kinoshapes.figures.acting import FigureSegment, FigureSpec
from kinoclip.kinoshapes.figures.actions import ACTIONS
from kinoclip.kinoshapes.figures.places import PLACES
from kinoclip.kinoshapes.figures.scenes import render_figures
from kinoclip.text.tokens import tokenize_texts

_LENGTH, _STEP = 32, 2


def draw_standing(settings: Settings) -> tuple[Tensor, Tensor]:
    """Render clips of four seconds in which people act for two: every other frame (N, 16, 3, H, W), and ids of actions (N,)."""
    images, size = [], settings.image_size
    for index in range(settings.standing_clips):
        rng = clip_generator(settings.seed, "train", 1_000_000 + index)
        start = int(rng.integers(4, 13))
        segment = FigureSegment(ACTIONS[index % len(ACTIONS)].label, start, start + 16)
        place, unusual = str(rng.choice(list(PLACES))), bool(rng.random() < 0.1)
        spec = FigureSpec((segment,), place, True, unusual, _LENGTH, 8, seed=int(rng.integers(2**31)))
        frames = decode(render_figures(spec), range(0, _LENGTH, _STEP)).float()
        images.append(F.interpolate(frames, (size, size + 2 * MARGIN), mode="bicubic", antialias=True))
        if index % 500 == 0:
            sys.stderr.write(f"rendered {index} of {settings.standing_clips} clips of people who stand and act\n")
    pictures = torch.stack(images).round().clamp(0, 255).to(torch.uint8)
    return pictures, torch.arange(settings.standing_clips) % len(ACTIONS)


@torch.no_grad()
def encode_clips(model: CLIPModel, images: Tensor) -> Tensor:
    """Encode the middle squares of clips (N, T, 3, H, W), and their mirror images: (2 N, T, D)."""
    embeds = []
    for clip in images[..., MARGIN:-MARGIN].split(16):
        for pictures in (clip, clip.flip(-1)):
            output = model.vision_model(pixel_values=normalize(pictures.flatten(0, 1)))
            embeds.append(model.visual_projection(output.pooler_output).unflatten(0, clip.shape[:2]))
    return torch.cat([torch.cat(embeds[0::2]), torch.cat(embeds[1::2])])


def train_head(
    model: CLIPModel,
    temporal: nn.Module,
    tokenizer: CLIPTokenizer,
    embeds: Tensor,
    actions: Tensor,
    settings: Settings,
) -> list[float]:
    """Train the temporal head on frozen frames (N, T, D) of actions, and return the mean loss of each epoch."""
    standing, labels = draw_standing(settings)
    clips = encode_clips(model, standing)
    embeds, targets = torch.cat([embeds, clips[:, 0::2], clips[:, 1::2]]), torch.cat([actions, labels.repeat(4)])
    with torch.no_grad():
        input_ids, _ = tokenize_texts(tokenizer, [PROMPT.format(action.label) for action in ACTIONS])
        text = F.normalize(model.text_projection(model.text_model(input_ids=input_ids).pooler_output), dim=-1)
    rng = np.random.default_rng(settings.seed)
    optimizer = torch.optim.AdamW(temporal.parameters(), betas=(0.9, 0.98), weight_decay=0.05)
    steps = math.ceil(len(embeds) / settings.head_batch)
    losses = []
    for epoch in range(settings.head_epochs):
        order = torch.from_numpy(rng.permutation(len(embeds)))
        total = 0.0
        for step, rows in enumerate(order.split(settings.head_batch)):
            progress = (epoch + step / steps) / settings.head_epochs
            for group in optimizer.param_groups:
                group["lr"] = rate_at(progress, settings.head_rate)
            video = F.normalize(temporal(embeds[rows]).mean(1), dim=-1)
            loss = F.cross_entropy(model.logit_scale.exp() * video @ text.T, targets[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(temporal.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        losses.append(total / steps)
        sys.stderr.write(f"epoch {epoch} of the temporal head: {losses[-1]:.4f}\n")
    return losses
