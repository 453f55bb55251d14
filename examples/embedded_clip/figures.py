"""What the embedded CLIP learns from KinoFigures: names of actions, sentences about frames, joints and parts of the body.

No clip of an unseen action is trained on. Their names are known by their descriptions, as texts; poses of any kind are known from
clips of random poses without an action.
"""

import sys
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from embedded_clip import NUM_FRAMES, PROMPT, Encoder, Settings, decode, normalize, resize_and_crop
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from kinoclip.kinoshapes import Split, clip_generator
from kinoclip.kinoshapes.figures.acting import BY_LABEL, FigureSegment, FigureSpec
from kinoclip.kinoshapes.figures.actions import ACTIONS, UNSEEN, Action, Prop
from kinoclip.kinoshapes.figures.benchmark import figure_classes, figure_clips
from kinoclip.kinoshapes.figures.drawing import COLORS, PARTS, THINGS
from kinoclip.kinoshapes.figures.naming import POSES
from kinoclip.kinoshapes.figures.places import PLACES
from kinoclip.kinoshapes.figures.scenes import render_figures
from kinoclip.kinoshapes.figures.skeleton import JOINTS, Key
from kinoclip.modeling.layers.temporal_transformer import TemporalTransformer, frame_blocks_config
from kinoclip.text.tokens import tokenize_texts

_OTHERS = (
    *("one person", "two people", "on the left", "in the middle", "on the right"),
    *(f"seen from the {side}" for side in ("front", "left", "right", "back")),
)
PHRASES = (*POSES, *_OTHERS, *THINGS, *PLACES)
GRAMMAR = (
    *(name for action in (*ACTIONS, *UNSEEN) for name in (action.label, *action.synonyms, action.description)),
    *(*PHRASES, *COLORS, "a person in a shirt and trousers", "a person with shorts , large and small"),
)
# reversed pairs have the same frames
TWINS = [[other.keys == action.keys and other.props == action.props for other in ACTIONS] for action in ACTIONS]
KNOWN = (*ACTIONS, *UNSEEN)
_FREE = "any pose"
MARGIN = 8  # pixels at each side of the middle square


def _mirror(text: str) -> str:
    """Exchange left and right in a text."""
    other = {"left": "right", "right": "left"}
    return " ".join(other.get(word, word) for word in text.split())


def _mirrored(names: tuple[str, ...]) -> list[int]:
    """Return the index of each name after left and right are exchanged."""
    return [names.index(_mirror(name)) for name in names]


def encode_descriptions(encoder: Encoder) -> Tensor:
    """Embed what the actions of `KNOWN` look like: the mean of the description and of its mirror image, (actions, D)."""
    embeds = encoder.encode([text for action in KNOWN for text in (action.description, _mirror(action.description))])
    return F.normalize(embeds.unflatten(0, (-1, 2)).sum(1), dim=-1)


_PART_NAMES = ("", *PARTS, *THINGS)
_MIRRORED_PARTS, MIRRORED_PHRASES, _MIRRORED_JOINTS = (
    torch.tensor(_mirrored(names)) for names in (_PART_NAMES, PHRASES, JOINTS)
)


@dataclass(frozen=True)
class FigurePool:
    """Training clips and what they show, at the height of the model's images and a third wider."""

    images: Tensor  # (N, T, 3, H, W) uint8
    parts: Tensor  # (N, T, H, W) uint8, ids of `_PART_NAMES`
    actions: Tensor  # (N,) ids of `ACTIONS`, -1 for random poses
    phrases: Tensor  # (N, T, phrases) bool
    joints: Tensor  # (N, T, joints, 2) of the first person, in heights of the picture from its middle
    clothes: list[str]


def build_figure_pool(settings: Settings) -> FigurePool:
    """Render the training clips of this process; half of them show random poses."""
    indices = range(settings.rank, settings.figure_clips, settings.num_processes)
    clips = []
    for index in indices:
        clips.append(_draw_clip(settings.seed, index, settings.image_size))
        if len(clips) % 500 == 0:
            sys.stderr.write(f"rendered {len(clips)} of {len(indices)} clips of figures\n")
    images, parts, actions, phrases, joints, clothes = zip(*clips, strict=True)
    pictures, ids, true, places = (torch.from_numpy(np.stack(arrays)) for arrays in (images, parts, phrases, joints))
    return FigurePool(pictures, ids, torch.tensor(actions), true, places, list(clothes))


def _draw_clip(seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray, int, np.ndarray, np.ndarray, str]:
    rng = clip_generator(seed, "train", index)
    number = int(rng.integers(len(ACTIONS))) if rng.random() < 0.5 else -1
    action = ACTIONS[number] if number >= 0 else _random_poses(rng)
    BY_LABEL[action.label] = action
    early, late = (0, 0) if action.cycles else (int(n) for n in rng.integers(0, 2, size=2))
    # two seconds, as in the benchmark
    segment = FigureSegment(action.label, early, NUM_FRAMES - late)
    place, unusual = str(rng.choice(list(PLACES))), bool(rng.random() < 0.1)
    clip = render_figures(FigureSpec((segment,), place, False, unusual, NUM_FRAMES, 4, seed=int(rng.integers(2**31))))
    height = clip.spec.height
    images = F.interpolate(
        decode(clip, range(NUM_FRAMES)).float(), (size, size + 2 * MARGIN), mode="bicubic", antialias=True
    )
    ids = clip.parts.copy()
    ids[ids > len(PARTS)] -= len(PARTS)  # both people alike
    step = height // size
    known = [set(clip.attributes(frame)) for frame in range(NUM_FRAMES)]
    return (
        images.round().clamp(0, 255).to(torch.uint8).numpy(),
        ids[:, ::step, ::step],
        number,
        np.array([[phrase in frame for phrase in PHRASES] for frame in known]),
        ((clip.flat_joints[0] - [clip.spec.width / 2, height / 2]) / height).clip(-1, 1).astype(np.float32),
        clip.clothes,
    )


def _random_poses(rng: np.random.Generator) -> Action:
    """Sample an action of two random poses, with or without a thing and a second person."""

    def keys() -> tuple[Key, ...]:
        first = _random_body(rng) | _random_arms(rng)
        second = (first if rng.random() < 0.5 else _random_body(rng)) | _random_arms(rng)
        return ((0.0, first), (0.5, second), (1.0, first))

    props: tuple[Prop, ...] = ()
    if rng.random() < 0.45:
        kind, holder = (("ball", "right hand"), ("box", "hands"), ("cup", "right hand"), ("spoon", "right hand"), ("rope", "hands"),
                        ("chair", "seat"), ("barbell", "hands"), ("barbell", "hands"), ("bowl", "front"))[int(rng.integers(9))]  # fmt: skip
        props = (Prop(kind, holder),)  # type: ignore[arg-type]
    poses = keys()
    partner = None if rng.random() < 0.65 else poses if rng.random() < 0.5 else keys()
    distance, away = float(rng.uniform(0.4, 1.5)), bool(rng.random() < 0.2)
    return Action(
        _FREE, (), "", (), "motion", (poses,), "", (0.8, 1.6), (0, 88), props, partner, distance, away
    )  # fmt: skip


def _random_body(rng: np.random.Generator) -> dict[str, float]:
    """Sample the stance and the torso; most people stand, and half of them upright."""
    side, other = ("left", "right") if rng.random() < 0.5 else ("right", "left")
    pose = {"nod": float(rng.normal(0, 8))}
    stance = int(rng.integers(11))
    if stance < 8:
        match int(rng.integers(8)):
            case 0 | 1:
                pose["lean"] = float(rng.uniform(30, 80))
            case 2 | 3:
                pose["bend"] = float(rng.choice([-1, 1]) * rng.uniform(30, 42))
            case 4:
                pose["lean"] = float(rng.uniform(-35, -20))
    match stance:
        case 4:
            pose |= {"hip": float(rng.uniform(0.42, 0.75)), "hip_z": float(rng.uniform(-0.4, 0))}
        case 5:  # one foot far ahead
            step = float(rng.uniform(0.35, 0.65))
            pose |= {"hip": float(rng.uniform(0.6, 0.9)), f"{side}_z": step, f"{other}_z": -step}
        case 6:  # one foot lifted
            pose |= {f"{side}_y": float(rng.uniform(0.2, 0.7)), f"{side}_z": float(rng.uniform(-0.5, 0.7))}
        case 7:  # off the floor
            height = float(rng.choice([0, 0.3]))
            pose |= {"up": float(rng.uniform(0.15, 0.35)), "left_y": height, "right_y": height}
        case 8:  # lying
            way, turn = (("tilt", -84), ("tilt", 80), ("roll", 84), ("roll", -84))[int(rng.integers(4))]
            pose |= {way: turn + float(rng.normal(0, 5)), "up": 0.12, f"{side}_y": float(rng.choice([0, 0.4]))}
        case 9:  # sitting or lying on the floor
            pose |= {"hip": 0.1, "lean": float(rng.choice([-84, -45, 12])), "left_z": 0.62, "right_z": 0.62}
        case 10:  # on the knees
            pose |= {"hip": 0.42, "lean": float(rng.choice([84, 84, 10])), "left_z": -0.56, "right_z": -0.56}
        case _:
            pose |= dict.fromkeys(("left_x", "right_x"), float(rng.choice([0.03, 0.14, 0.22])))
    return pose


_ARMS = ((8, 80, 0.96), (88, 0, 0.95), (88, 85, 0.95), (168, 60, 0.95), (125, 20, 0.7), (55, 20, 0.75))


def _random_arms(rng: np.random.Generator) -> dict[str, float]:
    """Sample both arms alike, one that hangs down, or each by itself."""

    def arm(side: str, kind: int) -> dict[str, float]:
        raised, outward, reach = _ARMS[kind] + rng.normal(0, (6, 8, 0.02))
        return {f"{side}_e": float(raised), f"{side}_a": float(outward), f"{side}_r": float(min(reach, 0.98))}

    first, second = (int(kind) for kind in rng.integers(len(_ARMS), size=2))
    draw = rng.random()
    left, right = (
        (first, first) if draw < 0.55 else (first, 0) if draw < 0.7 else (0, first) if draw < 0.85 else (first, second)
    )
    return arm("left", left) | arm("right", right)


class FigureObjective(Encoder):
    """Samples batches of figures and computes their losses."""

    every = 1  # step

    def __init__(
        self,
        settings: Settings,
        pool: FigurePool,
        model: CLIPModel,
        tokenizer: CLIPTokenizer,
        teacher: CLIPModel | None = None,
        text_share: float = 1.0,
    ) -> None:
        super().__init__(settings, model, tokenizer)
        self.pool, self.teacher, self.text_share = pool, teacher, text_share
        width = settings.width
        self.heads = nn.ModuleDict(
            {
                "parts": nn.Linear(width, len(_PART_NAMES)),
                "joints": nn.Linear(width, 2 * len(JOINTS)),
                "phrases": nn.Linear(width, len(PHRASES)),
                "patches": nn.Linear(width, width),
                "temporal": TemporalTransformer(
                    frame_blocks_config(
                        hidden_size=width, num_hidden_layers=settings.temporal_layers, num_attention_heads=width // 64,
                        max_position_embeddings=model.config.text_config.max_position_embeddings,
                    )
                ),
            }
        )  # fmt: skip
        self.temporal = self.heads["temporal"]
        twins = torch.tensor(TWINS).float()
        self.targets = twins / twins.sum(1, keepdim=True)
        self.part_weights = torch.ones(len(_PART_NAMES))
        self.part_weights[0] = 0.2

    def losses(self) -> dict[str, Tensor]:
        """Sample a batch and compute its losses, weighted."""
        rows = torch.from_numpy(self.rng.integers(0, len(self.pool.images), size=self.settings.figure_batch))
        images, parts, phrases, joints = self._augment(rows)
        pixels = normalize(images.flatten(0, 1))
        output = self.model.vision_model(pixel_values=pixels)
        embeds, patches = self.model.visual_projection(output.pooler_output), output.last_hidden_state[:, 1:]
        losses = {
            "joints": 5 * F.smooth_l1_loss(self.heads["joints"](embeds), joints.flatten(0, 1).flatten(1), beta=0.1),
            "parts": F.cross_entropy(self.heads["parts"](patches).flatten(0, 1), parts.flatten(), self.part_weights),
            "listed": 3 * F.binary_cross_entropy_with_logits(self.heads["phrases"](embeds), phrases.flatten(0, 1)),
        }
        if self.teacher is not None:
            losses |= self._teacher_losses(pixels, embeds, patches)
        if self.rng.random() < self.text_share:
            losses |= self._text_losses(embeds, rows, phrases.flatten(0, 1))
        return losses

    def _teacher_losses(self, pixels: Tensor, embeds: Tensor, patches: Tensor) -> dict[str, Tensor]:
        """Compute the share of the teacher's variance that is not explained."""
        with torch.no_grad():
            output = self.teacher.vision_model(pixel_values=pixels)
            target = self.teacher.visual_projection(output.pooler_output)
        features = output.last_hidden_state[:, 1:]
        return {
            "embeds": 4 * F.mse_loss(embeds, target) / target.var(0).mean(),
            "patches": F.mse_loss(self.heads["patches"](patches), features) / features.var((0, 1)).mean(),
        }

    def _text_losses(self, embeds: Tensor, rows: Tensor, true: Tensor) -> dict[str, Tensor]:
        """Match videos and frames with names of actions, and frames with phrases or sentences."""
        actions = self.pool.actions[rows]
        acting = actions >= 0
        frames = F.normalize(embeds, dim=-1)
        names = self.encode([self.fill(self.pick((action.label, *action.synonyms))) for action in ACTIONS])
        scale = self.model.logit_scale.exp()
        losses = {}
        if acting.any():
            videos = F.normalize(self.temporal(embeds.unflatten(0, (-1, NUM_FRAMES))[acting]).mean(1), dim=-1)
            of_frames = actions[acting].repeat_interleave(NUM_FRAMES)
            shown = frames.unflatten(0, (-1, NUM_FRAMES))[acting].flatten(0, 1)
            losses["video"] = F.cross_entropy(scale * videos @ names.T, actions[acting])
            losses["action"] = F.cross_entropy(scale * shown @ names.T, self.targets[of_frames])
        if self.rng.random() < 0.5:
            losses["phrase"] = 2 * self._phrase_loss(frames, true)
        else:
            chosen = torch.from_numpy(self.rng.permutation(len(frames))[:64])
            sentences, targets = self._sentences(true[chosen], rows[chosen // NUM_FRAMES])
            losses["sentence"] = 2 * self.contrast(frames[chosen], self.encode(sentences), targets)
        if self.rng.random() < 0.25:
            losses["word"] = self._word_loss()
        return losses

    def _augment(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cut, mirror and recolor each clip: images (B, T, 3, S, S), parts (B, T, patches), phrases, joints."""
        settings, pool = self.settings, self.pool
        images, parts = pool.images[rows], pool.parts[rows]
        phrases, joints = pool.phrases[rows].float(), pool.joints[rows]
        size, side = settings.image_size, settings.patch_size
        cut = []
        for number in range(len(rows)):
            left, down = int(self.rng.integers(-4, 5)), int(self.rng.integers(-2, 3))
            square = slice(MARGIN + left, MARGIN + left + size)
            picture, ids = (t[number][..., square].roll(down, dims=-2) for t in (images, parts))
            true, places = phrases[number], joints[number] + torch.tensor([-left / size, down / size])
            if self.rng.random() < 0.5:
                picture, ids = picture.flip(-1), _MIRRORED_PARTS[ids.flip(-1).long()]
                true, places = true[:, MIRRORED_PHRASES], places[:, _MIRRORED_JOINTS] * torch.tensor([-1.0, 1.0])
            gain = torch.from_numpy(self.rng.uniform(0.85, 1.15, size=(3, 1, 1))).float()
            shift = float(self.rng.uniform(-15, 15))
            cut.append(((picture * gain + shift).clamp(0, 255), ids.long(), true, places))
        pictures, ids, true, places = (torch.stack(values) for values in zip(*cut, strict=True))
        blocks = ids.unflatten(-1, (-1, side)).unflatten(-3, (-1, side)).transpose(-3, -2).flatten(-2).flatten(0, 3)
        counts = torch.zeros(len(blocks), len(_PART_NAMES)).scatter_add_(1, blocks, torch.ones(blocks.shape))
        counts[:, 0] *= 0.4  # a limb seldom fills a patch
        return pictures, counts.argmax(-1).unflatten(0, (len(rows) * NUM_FRAMES, -1)), true, places

    def _phrase_loss(self, frames: Tensor, true: Tensor) -> Tensor:
        """Match each frame with all phrases that are true of it."""
        bank = self.encode(
            [self.pick(("a person with {}", "{}", "a photo of a person, {}")).format(name) for name in PHRASES]
        )
        logits = self.model.logit_scale.exp() * frames @ bank.T
        return -(true * logits.log_softmax(-1)).sum(-1).div(true.sum(-1)).mean() - true.sum(-1).log().mean()

    def _sentences(self, true: Tensor, rows: Tensor) -> tuple[list[str], Tensor]:
        """Write a sentence about each frame, of some of the phrases that are true of it."""
        texts: dict[str, int] = {}
        targets = []
        for row, known in zip(rows.tolist(), true.tolist(), strict=True):
            names = [phrase for phrase, holds in zip(PHRASES, known, strict=True) if holds]
            chosen = [str(phrase) for phrase in self.rng.permutation(names)[: int(self.rng.integers(2, 6))]]
            people = "two people" if "two people" in names else "a person"
            dressed = f" in {self.pool.clothes[row]}" if self.rng.random() < 0.3 else ""
            listed = ", ".join(name for name in chosen if name not in ("one person", "two people"))
            targets.append(texts.setdefault(f"{people}{dressed} with {listed}", len(texts)))
        return list(texts), torch.tensor(targets)

    def _word_loss(self) -> Tensor:
        """Bring the names of all actions, seen and unseen, near their descriptions."""
        names = self.encode([self.fill(self.pick((action.label, *action.synonyms))) for action in KNOWN])
        descriptions = encode_descriptions(self)
        return F.cross_entropy(self.model.logit_scale.exp() * names @ descriptions.T, torch.arange(len(KNOWN)))


@torch.no_grad()
def measure_figures(
    model: CLIPModel, temporal: nn.Module, tokenizer: CLIPTokenizer, split: Split, per_class: int
) -> dict[str, float]:
    """Score top-1 on 8 of 16 frames of the tasks of KinoFigures.

    "figures_actions" and so on are zero-shot, by the mean of the frames; with "_temporal", after the temporal head. Unseen actions
    are also matched with their descriptions.
    """
    scores = {}
    for task in ("actions", "views", "shifted", "unseen"):
        images, labels = [], []
        for index, (clip, _) in enumerate(figure_clips(task, split, per_class)):
            frames = decode(clip, range(1, clip.spec.num_frames, clip.spec.num_frames // NUM_FRAMES))
            images.append(resize_and_crop(frames, model.config.vision_config.image_size))
            labels.append(index % len(figure_classes(task)))
        output = model.vision_model(pixel_values=normalize(torch.cat(images)))
        embeds = model.visual_projection(output.pooler_output).unflatten(0, (len(labels), -1))
        videos = {"": F.normalize(embeds, dim=-1).mean(1)}
        texts = {"": [PROMPT.format(action.label) for action in figure_classes(task)]}
        if task == "unseen":
            texts["_by_description"] = [action.description for action in figure_classes(task)]
        else:
            videos["_temporal"] = temporal(embeds).mean(1)
        for name, candidates in texts.items():
            input_ids, _ = tokenize_texts(tokenizer, candidates)
            text = F.normalize(model.text_projection(model.text_model(input_ids=input_ids).pooler_output), dim=-1)
            for kind, video in videos.items():
                right = (video @ text.T).argmax(-1) == torch.tensor(labels)
                scores[f"figures_{task}{name}{kind}"] = float(right.float().mean())
    return scores
