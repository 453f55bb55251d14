"""The last training of the text tower, on frozen frames: a sentence matches every frame of which all its phrases are true."""

import math
import sys
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from embedded_clip import Encoder, Objective, Settings, match_many, rate_at
from figures import KNOWN, MIRRORED_PHRASES, PHRASES, TWINS, FigurePool, encode_descriptions
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from kinoclip.kinoshapes.figures.actions import ACTIONS
from kinoclip.kinoshapes.figures.drawing import THINGS
from kinoclip.kinoshapes.figures.naming import POSES

LOG_EVERY = 200
_COUNTS = ("one person", "two people")
_BODY = {*POSES, *THINGS}


class TextObjective(Encoder):
    """Samples frames that are encoded already, and computes the losses of texts.

    Args:
        embeds: (2 N, T, D), the frames of a pool and their mirror images.
    """

    def __init__(
        self, settings: Settings, pool: FigurePool, embeds: Tensor, model: CLIPModel, tokenizer: CLIPTokenizer
    ) -> None:
        super().__init__(settings, model, tokenizer)
        self.embeds = embeds
        self.phrases = torch.cat([pool.phrases, pool.phrases[..., MIRRORED_PHRASES]])
        self.actions = pool.actions.repeat(2)
        twins = torch.tensor(TWINS).float()
        self.targets = twins / twins.sum(1, keepdim=True)

    def losses(self) -> dict[str, Tensor]:
        """Sample frames and compute the losses, weighted."""
        clips, frames = (
            torch.from_numpy(self.rng.integers(0, count, size=self.settings.text_batch))
            for count in self.embeds.shape[:2]
        )
        images, true = F.normalize(self.embeds[clips, frames], dim=-1), self.phrases[clips, frames].float()
        actions, scale = self.actions[clips], self.model.logit_scale.exp()
        written = [self._write(row) for row in true[:64].bool().tolist()]
        needed = torch.tensor([[phrase in chosen for phrase in PHRASES] for _, chosen in written]).float()
        sentences = self.encode([sentence for sentence, _ in written])
        bank = self.encode(
            [self.pick(("a person with {}", "{}", "a photo of a person, {}")).format(p) for p in PHRASES]
        )
        names = self.encode([self.fill(self.pick((action.label, *action.synonyms))) for action in KNOWN])
        descriptions = encode_descriptions(self)
        acting, seen = actions >= 0, len(ACTIONS)
        texts = torch.cat([sentences, names, descriptions])
        means = (images @ texts.T).mean(0)
        return {
            "sentence": match_many(scale * images @ sentences.T, (true @ needed.T >= needed.sum(1)).float()),
            "phrase": match_many(scale * images @ bank.T, true),
            "action": F.cross_entropy(scale * images[acting] @ names[:seen].T, self.targets[actions[acting]]),
            "word": F.cross_entropy(scale * names @ descriptions.T, torch.arange(len(KNOWN))),
            # An unseen action must have the place of its description,
            "place": 4 * (1 - (names[seen:] * descriptions[seen:].detach()).sum(-1)).mean(),
            # and no text may fit all frames alike, or it would win against texts that fit better.
            "hub": 100 * (means - means.mean()).square().mean(),
        }

    def _write(self, true: list[bool]) -> tuple[str, set[str]]:
        """Write a sentence of one to four phrases that are true, and return it with these phrases."""
        names = [phrase for phrase, holds in zip(PHRASES, true, strict=True) if holds]
        count = "two people" if "two people" in names else "one person"
        choices = [name for name in names if name not in _COUNTS]
        if self.rng.random() < 0.6:
            choices = [name for name in choices if name in _BODY] or choices
        chosen = [str(name) for name in self.rng.permutation(choices)[: int(self.rng.integers(1, 5))]]
        subject = "two people" if count == "two people" else "a person"
        return f"{subject} with {', '.join(chosen)}", {count, *chosen}


def train_texts(figures: TextObjective, shapes: Objective, settings: Settings) -> list[dict[str, float]]:
    """Train the text tower alone, and return the mean losses of every `LOG_EVERY` steps."""
    model = figures.model.requires_grad_(False)
    parts: Iterable[nn.Module] = (model.text_model.train(), model.text_projection)
    parameters = [*(p for part in parts for p in part.parameters()), model.logit_scale]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01)
    means: dict[str, float] = {}
    log = []
    for step in range(settings.text_steps):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step / settings.text_steps, settings.text_rate)
        losses = figures.losses()
        if step % shapes.every == 0:
            losses |= {name: loss for name, loss in shapes.losses().items() if name != "dense"}
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(max=math.log(100))
        for name, loss in losses.items():
            means[name] = means.get(name, loss.item()) * 0.95 + 0.05 * loss.item()
        if step % LOG_EVERY == 0:
            log.append({"step": step, **{name: round(mean, 4) for name, mean in means.items()}})
            sys.stderr.write(f"texts: {log[-1]}\n")
    model.requires_grad_(True)
    return log
