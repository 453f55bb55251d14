"""What the embedded CLIP learns from KinoFigures: names of actions, sentences about frames, and parts of the body.

No picture of the unseen actions is trained on. Their names are known by their descriptions, as a text.
"""

import sys
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from embedded_clip import NUM_FRAMES, PROMPT, Encoder, Settings, decode, normalize, resize_and_crop
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from kinoclip.kinoshapes import clip_generator
from kinoclip.kinoshapes.figures.actions import ACTIONS, UNSEEN
from kinoclip.kinoshapes.figures.benchmark import figure_classes, figure_clips, sample_figures
from kinoclip.kinoshapes.figures.drawing import COLORS, PARTS, THINGS, part_id
from kinoclip.kinoshapes.figures.places import PLACES
from kinoclip.kinoshapes.figures.scenes import render_figures
from kinoclip.text.tokens import tokenize_texts

_POSES = """both arms raised|left arm raised|right arm raised|both arms stretched forward|left arm stretched forward
right arm stretched forward|both arms stretched sideways|left arm stretched sideways|right arm stretched sideways
both arms down|left arm down|right arm down|hands together|left hand at the face|right hand at the face|both knees bent
left knee bent|right knee bent|lying face down|lying on the back|lying on the side|both feet off the floor
left foot lifted|right foot lifted|legs apart|hips low|leaning forward|leaning back|leaning sideways|upright"""
_OTHERS = (
    *("one person", "two people", "on the left", "in the middle", "on the right"),
    *(f"seen from the {side}" for side in ("front", "left", "right", "back")),
)
PHRASES = (*_POSES.replace("\n", "|").split("|"), *_OTHERS, *THINGS, *PLACES)
# reversed pairs have the same frames
_TWINS = [[other.keys == action.keys and other.props == action.props for other in ACTIONS] for action in ACTIONS]
GRAMMAR = (
    *(name for action in (*ACTIONS, *UNSEEN) for name in (action.label, *action.synonyms, action.description)),
    *(*PHRASES, *COLORS, "a person in a shirt and trousers", "a person with shorts , large and small"),
)


@dataclass(frozen=True)
class FigurePool:
    """Frames of training clips, and what they show."""

    images: Tensor  # (N, 3, H, W) uint8
    actions: Tensor  # (N,) ids of `ACTIONS`
    phrases: Tensor  # (N, phrases) bool
    clothes: list[str]
    parts: Tensor  # (N, patches) ids of the part that covers most of a patch


def build_figure_pool(settings: Settings) -> FigurePool:
    """Render the training clips."""
    images, phrases, clothes, parts = [], [], [], []
    for index in range(settings.figure_clips):
        rng = clip_generator(settings.seed, "train", index)
        # the task without a preferred place
        clip = render_figures(sample_figures(rng, "details", ACTIONS[index % len(ACTIONS)], num_frames=8))
        images.append(resize_and_crop(decode(clip, range(8)), settings.image_size))
        known = [set(clip.attributes(frame)) for frame in range(8)]
        phrases += [[phrase in frame for phrase in PHRASES] for frame in known]
        clothes += [clip.clothes] * 8
        parts.append(_patch_parts(clip.parts, settings.grid))
        if index % 500 == 0:
            sys.stderr.write(f"rendered {index} of {settings.figure_clips} clips of figures\n")
    actions = torch.arange(settings.figure_clips).remainder(len(ACTIONS)).repeat_interleave(8)
    return FigurePool(torch.cat(images), actions, torch.tensor(phrases), clothes, torch.cat(parts))


def _patch_parts(parts: np.ndarray, grid: int) -> Tensor:
    """Return the most frequent part of each patch: 0 none, then the parts of a person, then things: (T, patches)."""
    left = (parts.shape[2] - parts.shape[1]) // 2  # the model sees the middle square
    ids = parts[:, :, left : left + parts.shape[1]].copy()
    ids[ids > len(PARTS)] -= len(PARTS)
    side = ids.shape[1] // grid
    blocks = ids.reshape(len(ids), grid, side, grid, side)
    # a limb seldom fills a patch
    shares = [(blocks == part).mean((2, 4)) * (1.0 if part else 0.4) for part in range(_num_parts())]
    return torch.from_numpy(np.argmax(shares, axis=0).reshape(len(ids), -1).astype(np.uint8))


def _num_parts() -> int:
    return part_id(THINGS[-1]) - len(PARTS) + 1


class FigureObjective(Encoder):
    """Samples batches of figures and computes their losses."""

    def __init__(self, settings: Settings, pool: FigurePool, model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
        super().__init__(settings, model, tokenizer)
        self.pool = pool
        self.dense_head = nn.Linear(settings.width, _num_parts())
        twins = torch.tensor(_TWINS).float()
        self.targets = twins / twins.sum(1, keepdim=True)
        self.part_weights = torch.ones(_num_parts())
        self.part_weights[0] = 0.2

    def losses(self) -> dict[str, Tensor]:
        """Sample a batch and compute its losses, weighted."""
        pool = self.pool
        rows = torch.from_numpy(self.rng.integers(0, len(pool.images), size=self.settings.figure_batch))
        images = pool.images[rows].roll(tuple(self.rng.integers(-2, 3, size=2).tolist()), dims=(-2, -1))
        output = self.model.vision_model(pixel_values=normalize(images))
        embeds = F.normalize(self.model.visual_projection(output.pooler_output), dim=-1)
        names = [self.fill(self.pick((action.label, *action.synonyms))) for action in ACTIONS]
        sentences, targets = self._sentences(rows)
        bank = [self.pick(("a person with {}", "{}", "a photo of a person, {}")).format(phrase) for phrase in PHRASES]
        name_embeds, sentence_embeds, bank_embeds = self.encode(names), self.encode(sentences), self.encode(bank)
        scale = self.model.logit_scale.exp()
        true = pool.phrases[rows].float()
        logits = scale * embeds @ bank_embeds.T
        losses = {
            "action": F.cross_entropy(scale * embeds @ name_embeds.T, self.targets[pool.actions[rows]]),
            "sentence": self.contrast(embeds, sentence_embeds, targets),
            "phrase": -(true * logits.log_softmax(-1)).sum(-1).div(true.sum(-1)).mean() - true.sum(-1).log().mean(),
            "part": F.cross_entropy(
                self.dense_head(output.last_hidden_state[:, 1:]).flatten(0, 1),
                pool.parts[rows].flatten().long(),
                self.part_weights,
            ),
        }
        if self.rng.random() < 0.25:
            losses["word"] = self._word_loss()
        return losses

    def _sentences(self, rows: Tensor) -> tuple[list[str], Tensor]:
        """Write a sentence about each frame, of some of the phrases that are true of it."""
        texts: dict[str, int] = {}
        targets = []
        for row in rows.tolist():
            true = [PHRASES[index] for index in self.pool.phrases[row].nonzero()[:, 0].tolist()]
            count = int(self.rng.integers(2, 5))
            chosen = [str(phrase) for phrase in self.rng.permutation(true)[:count]]
            people = "two people" if "two people" in true else "a person"
            dressed = f" in {self.pool.clothes[row]}" if self.rng.random() < 0.4 else ""
            text = f"{people}{dressed} with {', '.join(p for p in chosen if p not in ('one person', 'two people'))}"
            targets.append(texts.setdefault(text, len(texts)))
        return list(texts), torch.tensor(targets)

    def _word_loss(self) -> Tensor:
        """Bring the names of all actions, seen and unseen, near their descriptions."""
        known = (*ACTIONS, *UNSEEN)
        names = self.encode([self.fill(self.pick((action.label, *action.synonyms))) for action in known])
        descriptions = self.encode([action.description for action in known])
        logits = self.model.logit_scale.exp() * names @ descriptions.T
        return F.cross_entropy(logits, torch.arange(len(known)))


@torch.no_grad()
def measure_figures(model: CLIPModel, tokenizer: CLIPTokenizer, per_class: int) -> dict[str, float]:
    """Score zero-shot top-1 by the mean of 8 of 16 frames on the tasks of KinoFigures, unseen actions by descriptions too."""
    scores = {}
    for task in ("actions", "views", "shifted", "unseen"):
        images, labels = [], []
        for index, (clip, _) in enumerate(figure_clips(task, "validation", per_class)):
            frames = decode(clip, range(1, clip.spec.num_frames, clip.spec.num_frames // NUM_FRAMES))
            images.append(resize_and_crop(frames, model.vision_model.embeddings.image_size))
            labels.append(index % len(figure_classes(task)))
        output = model.vision_model(pixel_values=normalize(torch.cat(images)))
        embeds = F.normalize(model.visual_projection(output.pooler_output), dim=-1).unflatten(0, (len(labels), -1))
        texts = {task: [PROMPT.format(action.label) for action in figure_classes(task)]}
        if task == "unseen":
            texts["unseen_by_description"] = [action.description for action in figure_classes(task)]
        for name, candidates in texts.items():
            input_ids, _ = tokenize_texts(tokenizer, candidates)
            text = model.text_projection(model.text_model(input_ids=input_ids).pooler_output)
            right = (embeds.mean(1) @ F.normalize(text, dim=-1).T).argmax(-1) == torch.tensor(labels)
            scores[f"figures_{name}"] = float(right.float().mean())
    return scores
