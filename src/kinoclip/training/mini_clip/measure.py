"""Measure a mini CLIP on clips it has not seen: does it name objects, and does it see when they are there?"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from kinoclip.data.kinoshapes import OBJECTS, Split, encode_video, kinoshapes_clips

from .objective import pad_with_zeros
from .pool import decode, normalize, resize_and_crop
from .settings import PROMPT

NUM_FRAMES = 8
TEMPERATURE = 0.01


@dataclass(frozen=True)
class Scores:
    """What was measured; every value is a share, 0..1.

    Attributes:
        accuracy: clips whose object is named right, 8 frames averaged.
        frame_accuracy: frames whose object is named right.
        untrimmed_accuracy: clips named right where the object is absent before and after.
        saliency_mass: saliency of the true label inside the object's span, on untrimmed clips.
        saliency_hits: untrimmed clips whose most salient frame lies inside the span.
        frames_inside: frames inside the span, which is what saliency by chance would score.
    """

    accuracy: float
    frame_accuracy: float
    untrimmed_accuracy: float
    saliency_mass: float
    saliency_hits: float
    frames_inside: float


@torch.no_grad()
def measure(
    model: CLIPModel, tokenizer: CLIPTokenizer, num_videos: int, seed: int = 0, split: Split = "test"
) -> Scores:
    """Score `num_videos` trimmed and as many untrimmed clips over the 36 objects, after H.264.

    Saliency is BIKE's: the softmax over frames of cosine / 0.01, averaged over all 77 tokens of the zero-padded prompt.
    """
    input_ids = pad_with_zeros(tokenizer, [PROMPT.format(name) for name in OBJECTS])
    output = model.text_model(input_ids=input_ids)
    texts, words = (
        F.normalize(model.text_projection(part), dim=-1) for part in (output.pooler_output, output.last_hidden_state)
    )
    frames, labels, _ = _encode(model, num_videos, seed, split, untrimmed=False)
    untrimmed, untrimmed_labels, inside = _encode(model, num_videos, seed, split, untrimmed=True)
    cosines = torch.einsum("btd,bld->blt", untrimmed, words[untrimmed_labels])
    saliency = (cosines / TEMPERATURE).softmax(dim=-1).mean(dim=1)
    return Scores(
        accuracy=_share((frames.mean(1) @ texts.T).argmax(-1) == labels),
        frame_accuracy=_share((frames @ texts.T).argmax(-1) == labels[:, None]),
        untrimmed_accuracy=_share((untrimmed.mean(1) @ texts.T).argmax(-1) == untrimmed_labels),
        saliency_mass=float((saliency * inside).sum(-1).mean()),
        saliency_hits=_share(inside.gather(1, saliency.argmax(-1, keepdim=True))),
        frames_inside=_share(inside),
    )


def _encode(
    model: CLIPModel, num_videos: int, seed: int, split: Split, untrimmed: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Give frame embeddings (B, T, D), labels (B,) and whether each frame lies inside the span (B, T)."""
    images, labels, inside = [], [], []
    for clip in kinoshapes_clips(num_videos, seed, split=split, untrimmed=untrimmed):
        # The middle of eight equal parts.
        places = [(2 * i + 1) * clip.spec.num_frames // (2 * NUM_FRAMES) for i in range(NUM_FRAMES)]
        frames = decode(encode_video(clip.frames, clip.spec.fps))[places]
        images.append(resize_and_crop(frames, model.vision_model.embeddings.image_size))
        labels.append(OBJECTS.index(clip.label))
        span = clip.spans[0]
        inside.append([span.start_frame <= place < span.end_frame for place in places])
    seen = model.vision_model(pixel_values=normalize(torch.cat(images)))
    embeds = F.normalize(model.visual_projection(seen.pooler_output), dim=-1)
    embeds = embeds.unflatten(0, (num_videos, NUM_FRAMES))
    return embeds, torch.tensor(labels), torch.tensor(inside)


def _share(hits: Tensor) -> float:
    """Give the share of true values."""
    return float(hits.float().mean())
