"""Settings, tokenizer and model of the embedded CLIP, and what it learns from KinoShapes; `figures.py` has what it learns from KinoFigures."""

import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from kinoclip.kinoshapes import (
    BACKGROUNDS,
    COLORS,
    OBJECTS,
    SHAPES,
    VERBS,
    KinoClip,
    clip_generator,
    encode_video,
    kinoshapes_clips,
    render,
    sample_spec,
)
from kinoclip.text.tokens import CONTEXT_LENGTH, tokenize_texts
from kinoclip.video import VideoReader

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NUM_FRAMES = 8
PROMPT = "This is a video about {}"
LABEL_TEMPLATES = (
    *(PROMPT, PROMPT + ".", "a video of {}", "a video of a {}.", "a photo of {}", "a photo of a {}."),
    *("human action of {}", "a {}", "the {}", "{}"),
)
EMPTY_TEMPLATES = (
    *("an empty {} background", "nothing on a {} background", "a video of an empty {} background"),
    "This is a video about an empty {} background",
)
# Words that labels and prompts often contain, so that they are not split into letters.
COMMON_WORDS = """
the of and a to in is on that it with as for was by at be this are from or an have has not but what all were when we
there can their one two three time up down out over about into like look looking then these some other more new long
day get come made make making may part play playing person people man woman child girl boy someone human action
activity video photo picture clip frame image example showing shows doing does performing watching first last next
left right turn turning open opening close closing push pushing pull pulling put putting take taking throw throwing
catch catching drop dropping hold holding lift lifting hit hitting kick kicking run running walk walking jump jumping
climb climbing swim swimming ride riding drive driving dance dancing sing singing eat eating drink drinking cook
cooking cut cutting clean cleaning wash washing brush brushing read reading write writing draw drawing paint painting
talk talking laugh laughing cry smile hug kiss shake hand hands hair face head body foot water ball bike horse car
guitar piano drum music game sport soccer basketball baseball tennis golf hockey football skate skating ski skiing
surf surfing box boxing wrestling fencing archery diving bowling juggling yoga exercise weight press pull squat
dog cat bird fish tree flower house room door table chair book phone paper food bread fruit cake coffee beer
small large big little round moving still nothing empty object shape color background gray black orange pink brown
"""


@dataclass(frozen=True)
class Settings:
    """Sizes, lengths and weights of a training; it ends after `steps` if given (reproducible), else after `minutes`."""

    seed: int = 0
    steps: int | None = None
    minutes: float = 120.0
    pool_clips: int = 1500
    figure_clips: int = 12_000
    batch_size: int = 24
    figure_batch: int = 16  # clips
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    dense_weight: float = 1.0
    detail_weight: float = 0.5
    even_weight: float = 0.5
    padded_share: float = 0.2
    image_size: int = 48
    patch_size: int = 8
    width: int = 128  # of both towers, with width / 64 heads as in every CLIP of OpenAI
    vision_layers: int = 4
    text_layers: int = 2
    temporal_layers: int = 2
    teacher_share: float = 0.4  # of steps or minutes
    text_share: float = 0.6  # of the steps of CLIP's own tower
    text_batch: int = 160  # frames, in the last training of the text tower
    text_steps: int = 1700
    text_rate: float = 1e-3
    standing_clips: int = 1450
    head_epochs: int = 20
    head_batch: int = 256
    head_rate: float = 1e-3
    num_processes: int = 1
    rank: int = 0  # of this process

    @property
    def grid(self) -> int:
        """Patches along one side of an image."""
        return self.image_size // self.patch_size


def learn_merges(counts: Mapping[str, int], num_merges: int) -> list[tuple[str, str]]:
    """Learn byte-pair merges from the counts of words: the most frequent pair first, of equal ones the first in the alphabet."""
    words = {word: (*word[:-1], word[-1] + "</w>") for word in sorted(counts)}
    merges: list[tuple[str, str]] = []
    while len(merges) < num_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in pairwise(symbols):
                pairs[pair] += counts[word]
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        words = {word: merge_pair(symbols, merges[-1]) for word, symbols in words.items()}
    return merges


def merge_pair(symbols: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join each occurrence of a pair, from the left."""
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return tuple(merged)


def build_tokenizer(more: Sequence[str] = (), num_merges: int = 600) -> CLIPTokenizer:
    """Train CLIP's byte-pair tokenizer on the captions of KinoShapes, `more` and common words; "<|endoftext|>" has the highest id."""
    grammar = [*LABEL_TEMPLATES, *EMPTY_TEMPLATES, *COLORS, *SHAPES, *BACKGROUNDS, *VERBS, *more]
    counts = Counter(COMMON_WORDS.split())
    for word in " ".join(grammar).lower().replace("{}", "").replace(".", " . ").replace(",", " , ").split():
        counts[word] += 100
    merges = learn_merges(counts, num_merges)
    letters = list(bytes_to_unicode().values())  # any other text is split into bytes
    vocab = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    vocab += ["<|startoftext|>", "<|endoftext|>"]
    ids = {token: index for index, token in enumerate(vocab)}
    return CLIPTokenizer(vocab=ids, merges=merges, model_max_length=CONTEXT_LENGTH)


@dataclass(frozen=True)
class Pool:
    """Frames of training clips, encoded and decoded once, and what they show."""

    images: Tensor  # (N, 3, H, W) uint8
    colors: Tensor  # (N,) ids, -1 where the frame is empty
    shapes: Tensor  # (N,) ids, -1 where the frame is empty
    backgrounds: Tensor  # (N,) ids
    verbs: list[str]  # of the clip of each frame
    masks: Tensor  # (N, patches) share of each patch that the object covers


def decode(clip: KinoClip, indices: Sequence[int]) -> Tensor:
    """Encode a clip as H.264 and decode frames of it, uint8 (T, 3, H, W)."""
    with VideoReader(encode_video(clip.frames, clip.spec.fps)) as reader:
        return torch.as_tensor(reader.frames(list(indices)))


def resize_and_crop(frames: Tensor, size: int) -> Tensor:
    """Scale the shorter side to `size` (bicubic) and crop the center: (T, 3, H, W) to (T, 3, size, size), uint8."""
    height, width = frames.shape[-2:]
    scale = size / min(height, width)
    sides = (round(height * scale), round(width * scale))
    scaled = F.interpolate(frames.float(), sides, mode="bicubic", antialias=True)
    top, left = ((side - size) // 2 for side in sides)
    return scaled[..., top : top + size, left : left + size].round().clamp(0, 255).to(torch.uint8)


def normalize(images: Tensor) -> Tensor:
    """Convert uint8 images (..., 3, H, W) to the input of CLIP."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images.float() / 255 - mean) / std


def build_pool(settings: Settings) -> Pool:
    """Render the training clips; a quarter of them is untrimmed."""
    images, masks, rows, verbs = [], [], [], []
    for index in range(settings.rank, settings.pool_clips, settings.num_processes):
        rng = clip_generator(settings.seed, "train", index)
        spec = sample_spec(rng, num_frames=8, untrimmed=index % 4 == 0, distractors=int(rng.integers(0, 3)))
        clip = render(spec)
        images.append(resize_and_crop(decode(clip, range(8)), settings.image_size))
        visible = [bool(mask.any()) for mask in clip.masks]
        ids = (list(COLORS).index(clip.color), SHAPES.index(clip.shape))
        rows += [[*(ids if seen else (-1, -1)), BACKGROUNDS.index(clip.background)] for seen in visible]
        verbs += [clip.verb] * len(visible)
        left = (clip.masks.shape[2] - clip.masks.shape[1]) // 2
        square = torch.from_numpy(clip.masks)[:, None, :, left : left + clip.masks.shape[1]].float()
        masks.append(F.adaptive_avg_pool2d(square, settings.grid).flatten(1))
        if index % 500 == settings.rank:
            sys.stderr.write(f"rendered {index} of {settings.pool_clips} clips\n")
    colors, shapes, backgrounds = torch.tensor(rows).unbind(1)
    return Pool(torch.cat(images), colors, shapes, backgrounds, verbs, torch.cat(masks))


def build_model(settings: Settings, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Build the untrained model with the vocabulary of a tokenizer."""
    tower = {
        "hidden_size": settings.width,
        "intermediate_size": 4 * settings.width,
        "num_attention_heads": settings.width // 64,
        "projection_dim": settings.width,
    }
    text = {
        "vocab_size": len(tokenizer),
        "num_hidden_layers": settings.text_layers,
        "max_position_embeddings": CONTEXT_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    image = {"image_size": settings.image_size, "patch_size": settings.patch_size}
    vision = {"num_hidden_layers": settings.vision_layers, **image}
    torch.manual_seed(settings.seed)
    return CLIPModel(
        CLIPConfig(text_config={**tower, **text}, vision_config={**tower, **vision}, projection_dim=settings.width)
    )


@torch.no_grad()
def initialize_image_tower(model: CLIPModel, pool: Pool, scale: float = 0.2) -> None:
    """Initialize the patch embedding with the whitened principal components of the pool, and positions with sinusoids.

    Whitening gives outlines the weight that flat color has by nature; sinusoids distinguish near from distant patches. Both
    shorten training.
    """
    embeddings = model.vision_model.embeddings
    size, width = embeddings.patch_size, embeddings.embed_dim
    step = max(1, len(pool.images) // 3000)
    patches = F.unfold(normalize(pool.images[::step]), size, stride=size).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(torch.cov(patches[pool.masks[::step].flatten() > 0.05].T))
    values, vectors = values.flip(0)[:width], vectors.flip(1)[:, :width]
    # A thousandth of the largest variance limits the amplification of compression noise.
    whitened = (vectors / (values + 1e-3 * values[0]).sqrt()).T
    embeddings.patch_embedding.weight[: len(whitened)] = scale * whitened.unflatten(1, (3, size, size))
    grid = embeddings.image_size // size
    angles = torch.arange(grid)[:, None] * (math.pi / grid * torch.linspace(0.5, grid / 2, width // 4))
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)
    embeddings.position_embedding.weight[1:] = scale * torch.cat([rows, columns], dim=-1).flatten(0, 1)


def match_many(logits: Tensor, matches: Tensor) -> Tensor:
    """CLIP's loss where every frame (row) may match several texts (columns), and the other way round."""

    def one_way(logits: Tensor, matches: Tensor) -> Tensor:
        found = matches.sum(1) > 0
        share = matches[found] / matches[found].sum(1, keepdim=True)
        return -(share * logits[found].log_softmax(1)).sum(1).mean()

    return (one_way(logits, matches) + one_way(logits.T, matches.T)) / 2


def rate_at(progress: float, peak: float, warmup: float = 0.05) -> float:
    """Return the learning rate after a share of the training: a linear warmup, and half a cosine."""
    return peak * min(1.0, progress / warmup) * 0.5 * (1 + math.cos(math.pi * progress))


class Encoder:
    """Texts and losses that shapes and figures share."""

    def __init__(self, settings: Settings, model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
        self.settings, self.model, self.tokenizer = settings, model, tokenizer
        self.rng = np.random.default_rng((settings.seed, settings.rank))

    def contrast(self, embeds: Tensor, texts: Tensor, targets: Tensor) -> Tensor:
        """CLIP's loss where several images may share a text: `targets` (B,) is the text of each image."""
        matches = F.one_hot(targets, len(texts)).float()
        return match_many(self.model.logit_scale.exp() * embeds @ texts.T, matches)

    def fill(self, name: str) -> str:
        """Put a name into a random template."""
        return (PROMPT if self.rng.random() < 0.3 else self.pick(LABEL_TEMPLATES)).format(name)

    def pick(self, choices: Sequence[str]) -> str:
        """Choose at random."""
        return choices[int(self.rng.integers(len(choices)))]

    def encode(self, texts: list[str]) -> Tensor:
        """Embed texts without padding to the full length, at their end."""
        inputs = self.tokenizer(texts, padding=True, return_tensors="pt")
        output = self.model.text_model(input_ids=inputs.input_ids)
        return F.normalize(self.model.text_projection(output.pooler_output), dim=-1)


class Objective(Encoder):
    """Samples batches of shapes and computes their losses."""

    every = 3  # steps

    def __init__(self, settings: Settings, pool: Pool, model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
        super().__init__(settings, model, tokenizer)
        self.pool = pool
        self.heads = nn.ModuleDict({"patches": nn.Linear(settings.width, 2 + len(COLORS) + len(SHAPES))})

    def losses(self) -> dict[str, Tensor]:
        """Sample a batch and compute its losses, weighted."""
        settings, pool, grid = self.settings, self.pool, self.settings.grid
        rows = torch.from_numpy(self.rng.integers(0, len(pool.images), size=settings.batch_size))
        images, masks = pool.images[rows], pool.masks[rows]
        if self.rng.random() < 0.5:
            images = images.flip(-1)
            masks = masks.unflatten(1, (grid, grid)).flip(-1).flatten(1)
        # Two pixels at most: the masks are not changed.
        images = images.roll(tuple(self.rng.integers(-2, 3, size=2).tolist()), dims=(-2, -1))
        output = self.model.vision_model(pixel_values=normalize(images))
        embeds = F.normalize(self.model.visual_projection(output.pooler_output), dim=-1)
        texts, targets = self._object_texts(rows)
        readings = self._encode_padded(texts) if self.rng.random() < settings.padded_share else [self.encode(texts)]
        details, detail_targets = self._detail_texts(rows)
        return {
            "object": torch.stack([self.contrast(embeds, reading, targets) for reading in readings]).mean(),
            "detail": settings.detail_weight * self.contrast(embeds, self.encode(details), detail_targets),
            "even": settings.even_weight * self._even_loss(embeds, readings[0], targets),
            "dense": settings.dense_weight * self._dense_loss(output.last_hidden_state[:, 1:], rows, masks),
        }

    def _even_loss(self, embeds: Tensor, texts: Tensor, targets: Tensor) -> Tensor:
        """Make the logits of an empty frame uniform over objects, so that it does not affect the mean over frames."""
        empty = embeds[targets >= len(OBJECTS)]
        if not len(empty):
            return embeds.new_zeros(())
        logits = self.model.logit_scale.exp() * empty @ texts[: len(OBJECTS)].T
        return (logits.logsumexp(-1) - logits.mean(-1)).mean() - math.log(len(OBJECTS))

    def _dense_loss(self, tokens: Tensor, rows: Tensor, masks: Tensor) -> Tensor:
        """Classify color and shape in each patch that the object covers, and "empty" in the others."""
        color_logits, shape_logits = self.heads["patches"](tokens).split([1 + len(COLORS), 1 + len(SHAPES)], dim=-1)
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
        texts = [self.fill(name) for name in OBJECTS] + [self._fill_empty(name) for name in BACKGROUNDS]
        colors, shapes, backgrounds = (ids[rows] for ids in (pool.colors, pool.shapes, pool.backgrounds))
        return texts, torch.where(colors >= 0, colors * len(SHAPES) + shapes, len(OBJECTS) + backgrounds)

    def _detail_texts(self, rows: Tensor) -> tuple[list[str], Tensor]:
        """Describe less than the object (a color, a shape, the background), or more (the caption)."""
        level, pool = self.rng.choice(["color", "shape", "background", "caption"]), self.pool
        if level == "background":
            start, end = self.pick(("a", "the", "on a")), self.pick(("background", "wall", "scene"))
            return [f"{start} {name} {end}" for name in BACKGROUNDS], pool.backgrounds[rows]
        if level != "caption":
            ids = (pool.colors if level == "color" else pool.shapes)[rows]
            names = [f"{name} {self.pick(('shape', 'object'))}" for name in COLORS] if level == "color" else SHAPES
            texts = [*(self.fill(name) for name in names), self.pick(("an empty background", "nothing"))]
            return texts, torch.where(ids >= 0, ids, len(names))
        captions: dict[tuple[int, ...], str] = {}  # frames that show the same share a text
        targets = []
        for row in rows.tolist():
            key = color, shape, ground = tuple(int(ids[row]) for ids in (pool.colors, pool.shapes, pool.backgrounds))
            caption = self._fill_empty(BACKGROUNDS[ground])
            if color >= 0:
                motion = f" {pool.verbs[row]}" if self.rng.random() < 0.5 else ""
                caption = f"a {list(COLORS)[color]} {SHAPES[shape]}{motion} on a {BACKGROUNDS[ground]} background"
            captions.setdefault(key, caption)
            targets.append(list(captions).index(key))
        return list(captions.values()), torch.tensor(targets)

    def _fill_empty(self, name: str) -> str:
        return self.pick(EMPTY_TEMPLATES).format(name)

    def _encode_padded(self, texts: list[str]) -> list[Tensor]:
        """Embed texts padded with id 0, at their end and at a random position from the last word on."""
        input_ids, _ = tokenize_texts(self.tokenizer, texts)
        output = self.model.text_model(input_ids=input_ids)
        ends = (input_ids == self.tokenizer.eos_token_id).int().argmax(-1)
        positions = torch.from_numpy(self.rng.integers(ends.numpy() - 1, CONTEXT_LENGTH))
        tokens = output.last_hidden_state[torch.arange(len(texts)), positions]
        return [F.normalize(self.model.text_projection(part), dim=-1) for part in (output.pooler_output, tokens)]


@torch.no_grad()
def measure(model: CLIPModel, tokenizer: CLIPTokenizer, num_videos: int, seed: int = 0) -> dict[str, float]:
    """Score `num_videos` trimmed and as many untrimmed test clips over the 36 objects, after H.264; all values are 0..1.

    `saliency_mass` is the saliency of the true label inside the object's span, and `saliency_hits` the clips whose most salient
    frame is inside; `frames_inside` is the mass by chance. Saliency is BIKE's: the softmax over frames of cosine / 0.01, averaged
    over all 77 tokens of the zero-padded prompt.
    """
    input_ids, _ = tokenize_texts(tokenizer, [PROMPT.format(name) for name in OBJECTS])
    output = model.text_model(input_ids=input_ids)
    parts = (output.pooler_output, output.last_hidden_state)
    texts, words = (F.normalize(model.text_projection(part), dim=-1) for part in parts)
    frames, labels, _ = _encode_clips(model, num_videos, seed, untrimmed=False)
    untrimmed, untrimmed_labels, inside = _encode_clips(model, num_videos, seed, untrimmed=True)
    saliency = torch.einsum("btd,bld->blt", untrimmed, words[untrimmed_labels]).div(0.01).softmax(dim=-1).mean(dim=1)
    hits = {
        "accuracy": (frames.mean(1) @ texts.T).argmax(-1) == labels,
        "frame_accuracy": (frames @ texts.T).argmax(-1) == labels[:, None],
        "untrimmed_accuracy": (untrimmed.mean(1) @ texts.T).argmax(-1) == untrimmed_labels,
        "saliency_hits": inside.gather(1, saliency.argmax(-1, keepdim=True)),
        "frames_inside": inside,
    }
    mass = float((saliency * inside).sum(-1).mean())
    return {**{name: float(share.float().mean()) for name, share in hits.items()}, "saliency_mass": mass}


def _encode_clips(model: CLIPModel, num_videos: int, seed: int, untrimmed: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return frame embeddings (B, T, D), labels (B,) and whether each frame is inside the span (B, T)."""
    images, labels, inside = [], [], []
    for clip in kinoshapes_clips(num_videos, seed, split="test", untrimmed=untrimmed):
        indices = [(2 * i + 1) * clip.spec.num_frames // (2 * NUM_FRAMES) for i in range(NUM_FRAMES)]
        images.append(resize_and_crop(decode(clip, indices), model.config.vision_config.image_size))
        labels.append(OBJECTS.index(clip.label))
        inside.append([clip.spans[0].start_frame <= index < clip.spans[0].end_frame for index in indices])
    output = model.vision_model(pixel_values=normalize(torch.cat(images)))
    embeds = F.normalize(model.visual_projection(output.pooler_output), dim=-1)
    return embeds.unflatten(0, (num_videos, NUM_FRAMES)), torch.tensor(labels), torch.tensor(inside)
