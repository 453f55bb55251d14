"""What is exported of a recognizer: its stages, as functions from named tensors to named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kinoclip.outputs import FrameFeatures, RecognitionOutput, TextFeatures
from kinoclip.recognizer import VideoRecognizer

Tensors = dict[str, Tensor]

# pixels to features of frames, ids to features of candidates, both to logits; or pixels to logits at once
PARTS = ("frames", "text", "head")
FUSED = "video"
# further to the head, where a model has a branch that votes by attributes
HEAD_WITH_ATTRIBUTES = "head_attributes"
ATTRIBUTES, CHINESE = "attribute_input_ids", "chinese_input_ids"

# texts in one piece: recognizers encode more in several, of which a graph has a fixed number
_ROWS = 64
_LABELS = ("running", "opening a door", "a red circle", "swimming", "playing chess")


@dataclass(frozen=True)
class Stage:
    """One graph to be.

    Args:
        name: of the graph.
        run: what it computes.
        inputs: tensors to trace it with, by name.
        cuts_text: whether texts may be shorter than the tower's length, because only their end is read.
        most_labels: that it takes at once, where the tracer cannot know.
    """

    name: str
    run: Callable[[Tensors], Tensors]
    inputs: Tensors
    cuts_text: bool = False
    most_labels: int | None = None

    def axes(self, name: str) -> dict[int, str]:
        """Name the axes of an input that may have any size."""
        if name == "pixel_values_videos" or name.startswith("frame_"):
            return {0: "batch", 1: "frames"}
        if name == ATTRIBUTES:
            return {0: "batch"}
        if name in ("text_words", "text_word_mask"):
            return {0: "labels"}
        cut = self.cuts_text and name in ("input_ids", "word_mask")
        return {1: "labels", 2: "length"} if cut else {1: "labels"}


class Examples:
    """Random inputs of a recognizer.

    Args:
        model: the recognizer.
        processor: its processor, or its video processor alone.
        num_frames: that go in, for each video.
        seed: of the pixels.
    """

    def __init__(self, model: VideoRecognizer, processor: Any, num_frames: int, seed: int = 0):
        self.model, self.processor, self.num_frames = model, processor, num_frames
        self.generator = torch.Generator().manual_seed(seed)
        # what SLLM holds has the towers
        self.towers: Any = getattr(model.config, "recognizer_config", model.config)

    @property
    def reads_text(self) -> bool:
        """Whether labels of one's own can be given."""
        has_tower = self.model.config.reads_text and getattr(self.towers, "text_tower", True)
        return has_tower and hasattr(self.processor, "encode_labels") and not self._classifies

    @property
    def _classifies(self) -> bool:
        """Whether the candidates are the rows of a trained classifier, which have a bias, and are no texts."""
        own = self.model.candidates()
        return own is not None and "bias" in (own.branches or {})

    def pixels(self, batch: int) -> Tensor:
        """Give (B, T, 3, H, W)."""
        video_processor = getattr(self.processor, "video_processor", self.processor)
        size = video_processor.crop_size
        shape = (batch, self.num_frames, 3, size["height"], size["width"])
        return torch.randn(shape, generator=self.generator)

    def texts(self, count: int) -> Tensors:
        """Give what `encode_text` takes for some labels, at most five."""
        inputs = dict(self.processor.encode_labels(_LABELS[:count]))
        if CHINESE in self.model.used_text_inputs():
            stored = getattr(self.processor, "chinese", None) or {}
            shape = (len(stored.get("templates", "-")), count, stored.get("context_length", 52))
            words = self.towers.chinese_text_config.vocab_size
            inputs[CHINESE] = torch.randint(1, words, shape, generator=self.generator)
        return inputs

    def attributes(self, batch: int) -> Tensor | None:
        """Give the attributes of some videos (B, L); None where the model cannot use them."""
        if ATTRIBUTES not in self.model.used_branch_inputs() or not self.reads_text:
            return None
        ids: Tensor = self.processor.encode_attributes([[_LABELS[i % 5], _LABELS[0]] for i in range(batch)])
        return ids

    def candidates(self, count: int) -> TextFeatures:
        """Give the features of some labels, or of the checkpoint's own where it reads no others.

        Raises:
            ValueError: there are neither.
        """
        if self.reads_text:
            return self.model.encode_text(**self.texts(count))
        own = self.model.candidates()
        if own is None:
            raise ValueError(
                f"This {type(self.model).__name__} carries no labels and cannot read any, so there is nothing to match "
                "videos with. Give it a tokenizer and a text tower, or labels of its own (`model.set_candidates`)."
            )
        return own


@torch.no_grad()
def find_stages(examples: Examples, parts: Sequence[str]) -> list[Stage]:
    """Give the stages of a recognizer that are asked for.

    Raises:
        ValueError: the model has no such stage; errors of the model itself, such as a missing corpus.
    """
    model = examples.model
    if "text" in parts and not examples.reads_text:
        raise ValueError(
            f"This {type(model).__name__} cannot read text here: it lacks a text tower or a tokenizer, or its labels are "
            "those of its classifier. Leave the part text out."
        )
    if FUSED in parts and model.candidates() is None:
        raise ValueError(
            "One graph from video to logits needs labels that the model carries. Store some first, as `kinoclip convert "
            "METHOD CHECKPOINT --labels A,B` and `model.set_candidates` do."
        )
    pixels = examples.pixels(2)
    stages = {
        "frames": lambda: Stage("frames", _encode_frames(model), {"pixel_values_videos": pixels}),
        "text": lambda: _text_stage(examples),
        "head": lambda: Stage("head", _match(model), _head_inputs(examples, pixels)),
        FUSED: lambda: Stage(FUSED, _recognize(model), {"pixel_values_videos": pixels}),
    }
    found = {part: stages[part]() for part in parts}
    attributes = examples.attributes(2)
    if "head" in found and attributes is not None:
        inputs = {**found["head"].inputs, ATTRIBUTES: attributes}
        found[HEAD_WITH_ATTRIBUTES] = Stage(HEAD_WITH_ATTRIBUTES, _match(model), inputs)
    return list(found.values())


def _head_inputs(examples: Examples, pixels: Tensor) -> Tensors:
    frames = examples.model.encode_frames(pixels.to(examples.model.dtype))
    text = examples.candidates(3)
    tensors = {**frames_to_tensors(frames), **text_to_tensors(text)}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def _encode_frames(model: VideoRecognizer) -> Callable[[Tensors], Tensors]:
    return lambda inputs: frames_to_tensors(model.encode_frames(**inputs))


def _text_stage(examples: Examples) -> Stage:
    model = examples.model
    templates = max(len(ids) for ids in examples.texts(1).values())
    most = max(1, _ROWS // templates)
    inputs = examples.texts(min(3, most))
    reads_words = model.encode_text(**inputs).words is not None
    return Stage("text", lambda given: text_to_tensors(model.encode_text(**given)), inputs, not reads_words, most)


def _match(model: VideoRecognizer) -> Callable[[Tensors], Tensors]:
    def run(inputs: Tensors) -> Tensors:
        further = {name: inputs[name] for name in (ATTRIBUTES,) if name in inputs}
        frames, text = tensors_to_frames(inputs), tensors_to_text(inputs)
        return output_to_tensors(model(frame_features=frames, text_features=text, **further))

    return run


def _recognize(model: VideoRecognizer) -> Callable[[Tensors], Tensors]:
    return lambda inputs: output_to_tensors(model(**inputs))


def frames_to_tensors(frames: FrameFeatures) -> Tensors:
    """Name the tensors of frame features."""
    return {f"frame_{name}": tensor for name, tensor in frames.items()}


def tensors_to_frames(tensors: Mapping[str, Tensor]) -> FrameFeatures:
    """Find frame features among named tensors."""
    return FrameFeatures(**_without_prefix(tensors, "frame_"))


def text_to_tensors(text: TextFeatures) -> Tensors:
    """Name the tensors of text features."""
    return {f"text_{name}": tensor for name, tensor in text.tensors().items()}


def tensors_to_text(tensors: Mapping[str, Tensor]) -> TextFeatures:
    """Find text features among named tensors."""
    return TextFeatures.from_tensors(_without_prefix(tensors, "text_"))


def output_to_tensors(output: RecognitionOutput) -> Tensors:
    """Name the tensors of an answer."""
    votes = {f"vote_{name}": vote for name, vote in output.votes.items()}
    video = {} if output.video_embeds is None else {"video_embeds": output.video_embeds}
    return {"logits": output.logits, **votes, **video}


def tensors_to_output(tensors: Mapping[str, Tensor]) -> RecognitionOutput:
    """Make an answer of named tensors."""
    return RecognitionOutput(
        logits=tensors["logits"],
        votes=_without_prefix(tensors, "vote_"),
        video_embeds=tensors.get("video_embeds"),
    )


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
