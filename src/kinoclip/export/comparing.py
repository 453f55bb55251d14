"""An export beside the model it came from, on random videos and labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kinoclip.outputs import TextFeatures
from kinoclip.recognizer import VideoRecognizer

from .exported import ExportedRecognizer
from .stages import ATTRIBUTES, FUSED, HEAD_WITH_ATTRIBUTES, Examples

# graphs of float32 hold the same operations in another order
TOLERANCE = 1e-4


@dataclass
class Comparison:
    """How near an export is to its model.

    Attributes:
        difference: of frames, text and logits, the largest difference relative to the largest value (of logits, or to one
            where all are smaller).
        same_best: answers whose best label is the same.
        answers: that were compared.
    """

    difference: dict[str, float] = field(default_factory=dict)
    same_best: int = 0
    answers: int = 0

    @property
    def largest(self) -> float:
        """The largest of all differences; not a number where an output is none."""
        return max(self.difference.values(), key=lambda value: (value != value, value))

    def add(self, name: str, found: Tensor, wanted: Tensor) -> None:
        """Take in a pair of outputs."""
        scale = wanted.abs().max().clamp_min(1.0 if name == "logits" else 1e-12)
        value = ((found - wanted).abs().max() / scale).item()
        self.difference[name] = max(self.difference.get(name, 0.0), value, key=lambda each: (each != each, each))
        if name == "logits":
            self.same_best += int((found.argmax(-1) == wanted.argmax(-1)).sum())
            self.answers += len(wanted)


@torch.no_grad()
def compare(model: VideoRecognizer, processor: Any, exported: ExportedRecognizer, num_frames: int) -> Comparison:
    """Run an export and its model on the same random inputs, of other sizes than those it was traced with.

    Args:
        model: in float32, in evaluation mode.
        processor: its processor.
        exported: what was made of it.
        num_frames: that it was traced with.
    """
    comparison = Comparison()
    other = num_frames - 1 if num_frames > 2 else num_frames + 1
    lengths = [num_frames, other if takes_any_frames(exported) else num_frames]
    for seed, (videos, length, labels) in enumerate(zip((1, 3), lengths, (5, 4), strict=True)):
        examples = Examples(model, processor, length, seed + 1)
        _compare_once(examples, exported, videos, labels, comparison)
    return comparison


def takes_any_frames(exported: ExportedRecognizer) -> bool:
    """Tell whether all graphs that read frames take different numbers of them."""
    read = [graph.spec for name, graph in exported.graphs.items() if name != "text"]
    return all("frames" in spec.limits for spec in read)


def _compare_once(
    examples: Examples, exported: ExportedRecognizer, videos: int, labels: int, comparison: Comparison
) -> None:
    model, graphs, pixels = examples.model, exported.graphs, examples.pixels(videos)
    if FUSED in graphs:
        logits = exported(pixel_values_videos=pixels).logits
        comparison.add("logits", logits, model(pixel_values_videos=pixels).logits)
        return
    frames = found_frames = model.encode_frames(pixels)
    if "frames" in graphs:
        found_frames = exported.encode_frames(pixels)
        comparison.add("frames", found_frames.embeds, frames.embeds)
    heads = [name for name in ("head", HEAD_WITH_ATTRIBUTES) if name in graphs]
    if not heads and "text" not in graphs:
        return
    text, found_text = _compare_text(examples, exported, labels, comparison)
    for name in heads:
        further = {} if name == "head" else {ATTRIBUTES: examples.attributes(videos)}
        wanted = model(frame_features=frames, text_features=text, **further)
        found = exported(frame_features=found_frames, text_features=found_text, **further)
        comparison.add("logits", found.logits, wanted.logits)


def _compare_text(
    examples: Examples, exported: ExportedRecognizer, labels: int, comparison: Comparison
) -> tuple[TextFeatures, TextFeatures]:
    if "text" not in exported.graphs:
        text = examples.candidates(labels)
        return text, text
    inputs = examples.texts(labels)
    text, found = examples.model.encode_text(**inputs), exported.encode_text(**inputs)
    comparison.add("text", found.embeds, text.embeds)
    return text, found
