"""Compare the explanations of a model with the truth of KinoFigures: when an action happens, and where a part is."""

from collections.abc import Iterator
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from kinoclip.inference.classifier import Classifier
from kinoclip.kinoshapes.figures.benchmark import figure_classes, figure_clips
from kinoclip.kinoshapes.figures.drawing import THINGS
from kinoclip.kinoshapes.figures.scenes import FigureClip
from kinoclip.modeling.recognizer import VideoRecognizer

# entities of the corpus to what is drawn
_DRAWN = {
    "head": ("head",),
    "face": ("head",),
    "hair": ("head",),
    "neck": ("head", "torso"),
    "chest": ("torso",),
    "hips": ("torso",),
}
_DRAWN |= {name: (f"left {part}", f"right {part}") for name, part in
           (("arms", "arm"), ("elbows", "arm"), ("hands", "hand"), ("legs", "leg"), ("knees", "leg"), ("feet", "foot"))}  # fmt: skip
_DRAWN |= {thing: (thing,) for thing in THINGS}
# the measurements, each with the one that it has by chance
REASONS = {
    "saliency_on_action": "action_share",
    "attention_on_person": "person_share",
    "entity_on_part": "part_share",
}


def measure_reasons(model: VideoRecognizer, processor: Any, clips: int) -> dict[str, float]:
    """Return `REASONS` of a model, as far as it reads labels and explains itself, over untrimmed test clips.

    "saliency_on_action" is the share of an action's saliency on the frames that show it, which are "action_share" of all;
    "attention_on_person" the share of a frame's attention on the patches that show somebody who acts, "person_share" of all;
    "entity_on_part" how often a patch that is named after a part of a body or a thing shows it, and "part_share" how often any patch of
    the same frames does.
    """
    labels = [action.label for action in figure_classes("untrimmed")]
    if not model.config.reads_text:
        return {}
    classifier = Classifier(model, processor)
    found: dict[str, list[float]] = {name: [] for pair in REASONS.items() for name in pair}
    for clip, _ in islice(figure_clips("untrimmed", "test"), clips):
        answer = classifier.classify(clip.frames, labels, top_k=len(labels), explain=True)
        for span in clip.spans if answer.saliency is not None else ():
            inside = torch.tensor([span.start_frame <= frame < span.end_frame for frame in answer.frame_indices])
            weights = torch.tensor(answer.saliency[span.label])
            found["saliency_on_action"].append(float(weights[inside].sum() / weights.sum()))
            found["action_share"].append(float(inside.double().mean()))
        if answer.attention is not None:
            shown = _patches(clip.masks[answer.frame_indices], answer.attention.shape[1:])
            found["attention_on_person"].append(float((answer.attention * shown).sum() / answer.attention.sum()))
            found["person_share"].append(float(shown.double().mean()))
        if answer.entity_map is not None:
            for hit, share in _compare(clip, answer.frame_indices, answer.entity_map, list(answer.entities)):
                found["entity_on_part"].append(hit)
                found["part_share"].append(share)
    return {name: round(fmean(values), 4) for name, values in found.items() if values}


def _patches(mask: NDArray[np.bool_], grid: tuple[int, ...]) -> Tensor:
    """Return which patches (T, rows, columns) of what the model sees show something of a mask (T, H, W)."""
    rows, columns = grid
    height, width = mask.shape[1:]
    left = (width - height) // 2  # the model sees the middle square
    square = torch.from_numpy(mask)[:, None, :, left : left + height].float()
    return adaptive_avg_pool2d(square, (rows, columns))[:, 0] > 0


def _compare(clip: FigureClip, frames: list[int], named: Tensor, names: list[str]) -> Iterator[tuple[float, float]]:
    """Yield for each part that is named in a frame the share of its patches that show it, and that of all patches."""
    for number, name in enumerate(names):
        if name not in _DRAWN or named.shape[1:] == (1, 1):  # a frame that is aligned as a whole has no parts
            continue
        people = range(1 if name in THINGS else len(clip.joints))
        drawn = [clip.mask(part, person)[frames] for part in _DRAWN[name] for person in people]
        shown = _patches(np.any(drawn, axis=0), named.shape[1:])
        for patches, seen in zip(named == number, shown, strict=True):
            if patches.any():
                yield float(seen[patches].double().mean()), float(seen.double().mean())
