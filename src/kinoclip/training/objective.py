"""From a batch of videos to what `forward` is given, and from its answer to the loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kinoclip.losses import binary_cross_entropy
from kinoclip.outputs import FrameFeatures, RecognitionOutput, TextFeatures
from kinoclip.recognizer import VideoRecognizer

from .mixing import TargetMixer
from .recipe import Recipe


class Objective:
    """Match videos with all classes, or with the captions of their batch.

    Each caption is the video's label in one template, drawn uniformly from those of the processor, as ActionCLIP's `train.py`
    does. Where no trained parameter takes part in the texts, they are encoded once.

    Args:
        model: with the parameters frozen that are not trained.
        processor: of the model.
        recipe: what is matched, and how labels are mixed.
        texts: what the model reads for each class.
        attributes: (N, L), the sentence of each video's attributes, for a model with a branch for them.
    """

    def __init__(
        self,
        model: VideoRecognizer,
        processor: Any,
        recipe: Recipe,
        texts: Sequence[str],
        attributes: Tensor | None = None,
    ):
        self.captions = recipe.training.objective == "captions"
        self.yes_no = recipe.training.multi_label == "yes_no"
        self.mixer = TargetMixer(recipe.data_settings, len(texts))
        self.attributes = attributes
        self.trained_branch = getattr(model.config, "train_branch", "video")
        self.text: TextFeatures | None = None
        self.encoded: dict[str, Tensor] = {}
        if model.config.reads_text:
            self.encoded = {name: rows.to(model.device) for name, rows in processor.encode_labels(list(texts)).items()}
            if not trains_text(model, self.encoded):
                self.text = encode_text(model, self.encoded)

    def inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Give what `forward` takes for a batch of `VideoSamples`, or of cached features under "frames"."""
        tensors = {name: t for name, t in batch.items() if isinstance(t, Tensor) and name not in ("index", "draw")}
        inputs: dict[str, Any] = self.mixer(tensors)
        if "frames" in batch:
            inputs["frame_features"] = batch["frames"]
        if self.attributes is not None:
            inputs["attribute_input_ids"] = self.attributes[batch["index"].cpu()].to(inputs["labels"].device)
        return inputs | (self._captions(inputs["labels"], batch) if self.captions else self._classes())

    def _classes(self) -> dict[str, Any]:
        return dict(self.encoded) if self.text is None else {"text_features": self.text}

    def _captions(self, labels: Tensor, batch: dict[str, Any]) -> dict[str, Any]:
        if labels.ndim != 1:
            raise ValueError(
                'Videos with several labels have no caption of their own. Set training.objective = "candidates".'
            )
        count = len(self.encoded["input_ids"])
        templates = torch.zeros_like(labels) if count == 1 else batch["draw"].to(labels.device) % count
        if self.text is not None:
            return {"text_features": select_texts(self.text, labels, templates), "candidate_labels": labels}
        chosen = {name: _select(rows, labels, templates) for name, rows in self.encoded.items()}
        return {**chosen, "candidate_labels": labels}

    def losses(self, output: RecognitionOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return the losses of an output by name; their sum is minimized.

        Where the attributes branch alone is trained, the loss of the frozen video branch is left out.
        """
        losses = dict(output.losses or {})
        if self.trained_branch == "attributes":
            losses = {name: loss for name, loss in losses.items() if name == "attributes" or name not in output.votes}
        if not self.yes_no:
            return losses
        further = {name: loss for name, loss in losses.items() if name not in output.votes}
        return {"yes_no": binary_cross_entropy(output.logits, labels), **further}


def encode_text(model: VideoRecognizer, encoded: dict[str, Tensor]) -> TextFeatures:
    """Encode texts as evaluation does, without gradient."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return model.encode_text(**encoded)
    finally:
        model.train(was_training)


def trains_text(model: VideoRecognizer, encoded: dict[str, Tensor]) -> bool:
    """Tell whether anything that is trained takes part in the texts."""
    with torch.enable_grad():
        text = model.encode_text(**{name: rows[:, :1] for name, rows in encoded.items()})
    branches = (text.branches or {}).values()
    return any(t.requires_grad for t in (text.embeds, text.words, *branches) if t is not None)


def select_texts(text: TextFeatures, rows: Tensor, templates: Tensor) -> TextFeatures:
    """Select one candidate and one template for each video: P becomes 1 and K becomes B."""
    branches = text.branches or {}
    return TextFeatures(
        embeds=_select(text.embeds, rows, templates),
        words=None if text.words is None else text.words[rows],
        word_mask=None if text.word_mask is None else text.word_mask[rows],
        branches={name: _select(t, rows, templates) for name, t in branches.items()} or None,
    )


def _select(texts: Tensor, rows: Tensor, templates: Tensor) -> Tensor:
    """Select (P, K, ...) -> (1, B, ...); a branch with fewer templates takes turns with them."""
    return texts[templates % len(texts), rows][None]


def join_frames(parts: Sequence[FrameFeatures]) -> FrameFeatures:
    """Put the videos of several micro-batches one behind another."""
    return FrameFeatures(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def join_texts(parts: Sequence[TextFeatures]) -> TextFeatures:
    """Put the candidates of several micro-batches one behind another."""
    first = parts[0]
    axes = {"embeds": 1, "words": 0, "word_mask": 0}
    joined = {n: torch.cat([part[n] for part in parts], axis) for n, axis in axes.items() if first.get(n) is not None}
    branches = {n: torch.cat([(part.branches or {})[n] for part in parts], 1) for n in first.branches or {}}
    return TextFeatures(**joined, branches=branches or None)
