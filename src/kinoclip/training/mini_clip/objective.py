"""The texts and losses of mini CLIP training."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from kinoclip.data.kinoshapes import BACKGROUNDS, COLORS, OBJECTS, SHAPES
from kinoclip.data.mini_clip import EMPTY_TEMPLATES, LABEL_TEMPLATES

from .model import CONTEXT_LENGTH
from .pool import Pool, normalize
from .settings import PROMPT, Settings


def pad_with_zeros(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Tokenize to (K, 77), padded with id 0 as OpenAI's tokenizer does."""
    inputs = tokenizer(
        list(texts), padding="max_length", max_length=CONTEXT_LENGTH, truncation=True, return_tensors="pt"
    )
    return torch.as_tensor(inputs.input_ids.masked_fill(inputs.attention_mask == 0, 0))


class Objective:
    """Draws batches from a pool and computes their losses."""

    def __init__(self, settings: Settings, pool: Pool, model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
        self.settings, self.pool, self.model, self.tokenizer = settings, pool, model, tokenizer
        self.dense_head = nn.Linear(settings.vision_width, 2 + len(COLORS) + len(SHAPES))
        self.rng = np.random.default_rng(settings.seed)

    def losses(self) -> dict[str, Tensor]:
        """Draw a batch and compute its losses, weighted."""
        settings, pool = self.settings, self.pool
        rows = torch.from_numpy(self.rng.integers(0, len(pool.images), size=settings.batch_size))
        images, masks = pool.images[rows], pool.masks[rows]
        if self.rng.random() < 0.5:
            grid = settings.grid
            images = images.flip(-1)
            masks = masks.unflatten(1, (grid, grid)).flip(-1).flatten(1)
        # Two pixels at most: the masks stay as they are.
        images = images.roll(tuple(self.rng.integers(-2, 3, size=2).tolist()), dims=(-2, -1))
        seen = self.model.vision_model(pixel_values=normalize(images))
        embeds = F.normalize(self.model.visual_projection(seen.pooler_output), dim=-1)
        texts, targets = self._object_texts(rows)
        readings = self._read_padded(texts) if self.rng.random() < settings.padded_share else [self._read(texts)]
        details, detail_targets = self._detail_texts(rows)
        return {
            "object": torch.stack([self._contrast(embeds, reading, targets) for reading in readings]).mean(),
            "detail": settings.detail_weight * self._contrast(embeds, self._read(details), detail_targets),
            "even": settings.even_weight * self._even_loss(embeds, readings[0], targets),
            "dense": settings.dense_weight * self._dense_loss(seen.last_hidden_state[:, 1:], rows, masks),
        }

    def _contrast(self, embeds: Tensor, texts: Tensor, targets: Tensor) -> Tensor:
        """CLIP's loss where several images may share a text: `targets` (B,) names the text of each image."""
        logits = self.model.logit_scale.exp() * embeds @ texts.T
        by_image = F.cross_entropy(logits, targets)
        present = torch.as_tensor(targets.unique())
        matches = (targets[None] == present[:, None]).float()
        log_shares = logits.T[present].log_softmax(dim=-1)
        by_text = -(matches * log_shares).sum(-1) / matches.sum(-1)
        return torch.as_tensor((by_image + by_text.mean()) / 2)

    def _even_loss(self, embeds: Tensor, texts: Tensor, targets: Tensor) -> Tensor:
        """Let an empty frame prefer no object to another, so that it casts no vote where frames are averaged."""
        empty = embeds[targets >= len(OBJECTS)]
        if not len(empty):
            return embeds.new_zeros(())
        logits = self.model.logit_scale.exp() * empty @ texts[: len(OBJECTS)].T
        return (logits.logsumexp(-1) - logits.mean(-1)).mean() - math.log(len(OBJECTS))

    def _dense_loss(self, tokens: Tensor, rows: Tensor, masks: Tensor) -> Tensor:
        """Name color and shape in each patch that the object covers; say "empty" in the others."""
        color_logits, shape_logits = self.dense_head(tokens).split([1 + len(COLORS), 1 + len(SHAPES)], dim=-1)
        covered = masks > 0.2
        weights = torch.where(covered, 1.0, 0.2).flatten()
        total = tokens.new_zeros(())
        for logits, ids in ((color_logits, self.pool.colors[rows]), (shape_logits, self.pool.shapes[rows])):
            targets = torch.where(covered, (ids + 1)[:, None], 0)
            total = total + F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none") @ weights
        return total / weights.sum()

    def _object_texts(self, rows: Tensor) -> tuple[list[str], Tensor]:
        """Name the 36 objects and the empty backgrounds, each in a template of its own."""
        pool = self.pool
        texts = [self._fill(name) for name in OBJECTS] + [self._fill_empty(name) for name in BACKGROUNDS]
        colors, shapes, grounds = (ids[rows] for ids in (pool.colors, pool.shapes, pool.backgrounds))
        return texts, torch.where(colors >= 0, colors * len(SHAPES) + shapes, len(OBJECTS) + grounds)

    def _detail_texts(self, rows: Tensor) -> tuple[list[str], Tensor]:
        """Tell less than the object (a color, a shape, the background), or more (the whole caption)."""
        level = self.rng.choice(["color", "shape", "background", "caption"])
        if level == "background":
            start, end = self._pick(("a", "the", "on a")), self._pick(("background", "wall", "scene"))
            return [f"{start} {name} {end}" for name in BACKGROUNDS], self.pool.backgrounds[rows]
        if level == "caption":
            return self._caption_texts(rows)
        ids = (self.pool.colors if level == "color" else self.pool.shapes)[rows]
        names = [f"{name} {self._pick(('shape', 'object'))}" for name in COLORS] if level == "color" else SHAPES
        texts = [*(self._fill(name) for name in names), self._pick(("an empty background", "nothing"))]
        return texts, torch.where(ids >= 0, ids, len(names))

    def _caption_texts(self, rows: Tensor) -> tuple[list[str], Tensor]:
        """Describe each frame in full; frames that show the same share a text."""
        pool = self.pool
        texts: dict[tuple[int, int, int], str] = {}
        targets = []
        for row in rows.tolist():
            key = (int(pool.colors[row]), int(pool.shapes[row]), int(pool.backgrounds[row]))
            ground = BACKGROUNDS[key[2]]
            if key[0] < 0:
                caption = self._fill_empty(ground)
            else:
                act = f" {pool.verbs[row]}" if self.rng.random() < 0.5 else ""
                caption = f"a {list(COLORS)[key[0]]} {SHAPES[key[1]]}{act} on a {ground} background"
            texts.setdefault(key, caption)
            targets.append(list(texts).index(key))
        return list(texts.values()), torch.tensor(targets)

    def _fill(self, name: str) -> str:
        template = PROMPT if self.rng.random() < 0.3 else self._pick(LABEL_TEMPLATES)
        return template.format(name)

    def _fill_empty(self, name: str) -> str:
        return self._pick(EMPTY_TEMPLATES).format(name)

    def _pick(self, choices: Sequence[str]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def _read(self, texts: list[str]) -> Tensor:
        """Embed short texts, read at their end."""
        inputs = self.tokenizer(texts, padding=True, return_tensors="pt")
        output = self.model.text_model(input_ids=inputs.input_ids)
        return F.normalize(self.model.text_projection(output.pooler_output), dim=-1)

    def _read_padded(self, texts: list[str]) -> list[Tensor]:
        """Embed texts padded with id 0 to full length, read at their end and at a random place from the last word on."""
        input_ids = pad_with_zeros(self.tokenizer, texts)
        output = self.model.text_model(input_ids=input_ids)
        ends = (input_ids == self.tokenizer.eos_token_id).int().argmax(-1)
        places = torch.from_numpy(self.rng.integers(ends.numpy() - 1, CONTEXT_LENGTH))
        tokens = output.last_hidden_state[torch.arange(len(texts)), places]
        return [F.normalize(self.model.text_projection(part), dim=-1) for part in (output.pooler_output, tokens)]
