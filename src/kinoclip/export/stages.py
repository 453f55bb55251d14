"""The exported stages of a recognizer, as functions from named tensors to named tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kinoclip.modeling.outputs import FrameFeatures, RecognitionOutput, TextFeatures
from kinoclip.modeling.recognizer import VideoRecognizer

Tensors = dict[str, Tensor]

# Pixels to frame features, token ids to text features, and both to logits; or pixels to logits in one graph.
PARTS = ("frames", "text", "head")
FUSED = "video"
# The head of a model with an attributes branch has a second graph.
HEAD_WITH_ATTRIBUTES = "head_attributes"
ATTRIBUTES, CHINESE = "attribute_input_ids", "chinese_input_ids"

# Texts per call: recognizers encode more texts in chunks, whose number a graph fixes.
_ROWS = 64
_LABELS = ("running", "opening a door", "a red circle", "swimming", "playing chess")


@dataclass(frozen=True)
class Stage:
    """A graph to trace."""

    name: str
    run: Callable[[Tensors], Tensors]  # from inputs to outputs
    inputs: Tensors  # examples, by name
    cuts_text: bool = False  # texts may be shorter than the context length, because only their last token is read
    max_labels: int | None = None  # labels per call, where the tracer cannot infer it

    def axes(self, name: str) -> dict[int, str]:
        """Return the dynamic axes of an input."""
        if name == "pixel_values_videos" or name.startswith("frame_"):
            return {0: "batch", 1: "frames"}
        if name == ATTRIBUTES:
            return {0: "batch"}
        if name in ("text_words", "text_word_mask"):
            return {0: "labels"}
        cut = self.cuts_text and name in ("input_ids", "word_mask")
        return {1: "labels", 2: "length"} if cut else {1: "labels"}


class Examples:
    """Random inputs of a recognizer, with `num_frames` encoded frames per video."""

    def __init__(self, model: VideoRecognizer, processor: Any, num_frames: int, seed: int = 0):
        self.model, self.processor, self.num_frames = model, processor, num_frames
        self.generator = torch.Generator().manual_seed(seed)
        # SLLM wraps the recognizer that has the towers.
        self.towers: Any = getattr(model.config, "recognizer_config", model.config)

    @property
    def reads_text(self) -> bool:
        """Whether the model can encode label texts."""
        has_tower = self.model.config.reads_text and getattr(self.towers, "text_tower", True)
        own = self.model.candidates()
        # The rows of a trained classifier have a bias; texts do not.
        is_classifier = own is not None and "bias" in (own.branches or {})
        return has_tower and self.processor.reads_text and not is_classifier

    def pixels(self, batch: int) -> Tensor:
        """Return random pixels (B, T, 3, H, W)."""
        size = self.processor.video_processor.crop_size
        shape = (batch, self.num_frames, 3, size["height"], size["width"])
        return torch.randn(shape, generator=self.generator)

    def texts(self, count: int) -> Tensors:
        """Return the inputs of `encode_text` for up to five labels."""
        inputs = dict(self.processor.encode_labels(_LABELS[:count]))
        if CHINESE in self.model.used_inputs():
            stored = getattr(self.processor, "chinese", None) or {}
            shape = (len(stored.get("templates", "-")), count, stored.get("context_length", 52))
            words = self.towers.second_tower_config.vocab_size
            inputs[CHINESE] = torch.randint(1, words, shape, generator=self.generator)
        return inputs

    def attributes(self, batch: int) -> Tensor | None:
        """Return attribute ids (B, L), or None without an attributes branch."""
        if ATTRIBUTES not in self.model.used_inputs() or not self.reads_text:
            return None
        ids: Tensor = self.processor.encode_attributes([[_LABELS[i % 5], _LABELS[0]] for i in range(batch)])
        return ids

    def candidates(self, count: int) -> TextFeatures:
        """Return text features of some labels, or, where the model cannot encode text, its own candidates."""
        if self.reads_text:
            return self.model.encode_text(**self.texts(count))
        own = self.model.candidates()
        if own is None:
            raise ValueError(
                f"This {type(self.model).__name__} has no candidates and cannot encode text. Add a tokenizer and a text "
                "tower, or candidates (`model.set_candidates`)."
            )
        return own


@torch.no_grad()
def find_stages(examples: Examples, parts: Sequence[str]) -> list[Stage]:
    """Return the requested stages of a recognizer; raise a `ValueError` if it lacks one, or what a stage needs."""
    model = examples.model
    if "text" in parts and not examples.reads_text:
        raise ValueError(
            f"This {type(model).__name__} cannot encode text: it lacks a text tower or a tokenizer, or its labels are those of a "
            "trained classifier. Leave out the part text."
        )
    if FUSED in parts and model.candidates() is None:
        raise ValueError(
            "One graph from video to logits needs labels stored in the model. Store them with `kinoclip convert METHOD "
            "CHECKPOINT --labels A,B` or `model.set_candidates`."
        )
    pixels = examples.pixels(2)
    stages = {
        "frames": lambda: Stage(
            "frames", lambda given: frames_to_tensors(model.encode_frames(**given)), {"pixel_values_videos": pixels}
        ),
        "text": lambda: _text_stage(examples),
        "head": lambda: Stage("head", _match(model), _head_inputs(examples, pixels)),
        FUSED: lambda: Stage(FUSED, lambda given: output_to_tensors(model(**given)), {"pixel_values_videos": pixels}),
    }
    requested = {part: stages[part]() for part in parts}
    attributes = examples.attributes(2)
    if "head" in requested and attributes is not None:
        inputs = {**requested["head"].inputs, ATTRIBUTES: attributes}
        requested[HEAD_WITH_ATTRIBUTES] = Stage(HEAD_WITH_ATTRIBUTES, _match(model), inputs)
    return list(requested.values())


def _head_inputs(examples: Examples, pixels: Tensor) -> Tensors:
    frames = examples.model.encode_frames(pixels.to(examples.model.dtype))
    text = examples.candidates(3)
    tensors = {**frames_to_tensors(frames), **text_to_tensors(text)}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


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


def frames_to_tensors(frames: FrameFeatures) -> Tensors:
    """Return frame features as named tensors."""
    return {f"frame_{name}": tensor for name, tensor in frames.items()}


def tensors_to_frames(tensors: Mapping[str, Tensor]) -> FrameFeatures:
    """Return the frame features among named tensors."""
    return FrameFeatures(**_without_prefix(tensors, "frame_"))


def text_to_tensors(text: TextFeatures) -> Tensors:
    """Return text features as named tensors."""
    return {f"text_{name}": tensor for name, tensor in text.tensors().items()}


def tensors_to_text(tensors: Mapping[str, Tensor]) -> TextFeatures:
    """Return the text features among named tensors."""
    return TextFeatures.from_tensors(_without_prefix(tensors, "text_"))


def output_to_tensors(output: RecognitionOutput) -> Tensors:
    """Return an output as named tensors."""
    votes = {f"vote_{name}": vote for name, vote in output.votes.items()}
    video = {} if output.video_embeds is None else {"video_embeds": output.video_embeds}
    return {"logits": output.logits, **votes, **video}


def tensors_to_output(tensors: Mapping[str, Tensor]) -> RecognitionOutput:
    """Build an output from named tensors."""
    return RecognitionOutput(
        logits=tensors["logits"],
        votes=_without_prefix(tensors, "vote_"),
        video_embeds=tensors.get("video_embeds"),
    )


def _without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
