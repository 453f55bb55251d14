"""From a batch of videos to the inputs of `forward`, and from its output to the loss."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.transforms.v2 import CutMix, MixUp
from torchvision.tv_tensors import Video

from kinoclip.modeling.losses import binary_cross_entropy
from kinoclip.modeling.outputs import FrameFeatures, RecognitionOutput, TextFeatures, candidate_axis
from kinoclip.modeling.recognizer import VideoRecognizer, evaluation_mode
from kinoclip.training.recipe import Recipe
from kinoclip.training.settings import DataSettings


class TargetMixer:
    """Apply mixup, cutmix and label smoothing to a batch, with torchvision's transforms and torch's random numbers.

    With alphas of both mixup and cutmix, each is chosen half of the time.
    """

    def __init__(self, data: DataSettings, num_classes: int):
        self.transforms = [
            transform(alpha=alpha, num_classes=num_classes, labels_getter=lambda inputs: inputs[-1])
            for transform, alpha in ((MixUp, data.mixup), (CutMix, data.cutmix))
            if alpha
        ]
        self.smoothing = data.label_smoothing
        self.num_classes = num_classes

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Change all pixels (B, T, 3, H, W) of a batch alike; `labels` (B,) or (B, K) become shares (B, K)."""
        if not self.transforms and not self.smoothing:
            return batch
        labels = batch["labels"]
        shares = labels.float() if labels.ndim == 2 else one_hot(labels, self.num_classes).float()
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1)
        if self.transforms and len(labels) > 1:
            names = [name for name, value in batch.items() if value.ndim == 5]
            transform = self.transforms[int(torch.randint(len(self.transforms), ()))]
            *videos, shares = transform(*(Video(batch[name]) for name in names), shares)
            batch = {**batch, **{name: video.as_subclass(Tensor) for name, video in zip(names, videos, strict=True)}}
        shares = (1 - self.smoothing) * shares + self.smoothing / self.num_classes
        return {**batch, "labels": shares}


class Objective:
    """Match videos with all classes, or with the captions of their batch.

    Each caption is the video's label in one template, drawn uniformly from those of the processor, as in ActionCLIP's
    `train.py`, and so is its second name among those that the processor has. If no trained parameter of the model takes part in the texts of the classes, they are encoded once.
    Attributes (N, L) are the sentence of each video, for a model with an attributes branch.
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
            with torch.enable_grad():
                text = model.encode_text(**{name: rows[:, :1] for name, rows in self.encoded.items()})
            if not any(tensor.requires_grad for tensor in text.tensors().values()):  # no trained parameter takes part
                with evaluation_mode(model), torch.no_grad():
                    self.text = model.encode_text(**self.encoded)

    @property
    def reads_videos(self) -> bool:
        """Whether the losses depend on the videos; that of the attributes branch alone does not."""
        is_alone = self.trained_branch == "attributes" and self.attributes is not None
        return not is_alone or self.yes_no or bool(self.mixer.transforms)

    def inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of `forward` for a batch of `VideoSamples`, or of stored features under "frames"."""
        tensors = {name: t for name, t in batch.items() if isinstance(t, Tensor) and name not in ("index", "draw")}
        inputs: dict[str, Any] = self.mixer(tensors)
        if "frames" in batch:
            inputs["frame_features"] = batch["frames"]
        if self.attributes is not None:
            inputs["attribute_input_ids"] = self.attributes[batch["index"].cpu()].to(inputs["labels"].device)
        if self.captions:
            return inputs | self._captions(inputs["labels"], batch)
        return inputs | (dict(self.encoded) if self.text is None else {"text_features": self.text})

    def _captions(self, labels: Tensor, batch: dict[str, Any]) -> dict[str, Any]:
        if labels.ndim != 1:
            raise ValueError(
                "Captions need videos with one label each, got several labels per video. Set "
                'training.objective = "candidates".'
            )
        draws = batch["draw"].to(labels.device) if "draw" in batch else torch.zeros_like(labels)
        if self.text is not None:
            return {"text_features": _select_texts(self.text, labels, draws), "candidate_labels": labels}
        chosen = {name: _select(rows, labels, draws) for name, rows in self.encoded.items()}
        return {**chosen, "candidate_labels": labels}

    def losses(self, output: RecognitionOutput, labels: Tensor) -> dict[str, Tensor]:
        """Return the losses of an output by name; their sum is minimized.

        If the attributes branch alone is trained, the loss of the frozen video branch is left out.
        """
        losses = dict(output.losses or {})
        if self.trained_branch == "attributes":
            losses = {name: loss for name, loss in losses.items() if name == "attributes" or name not in output.votes}
        if not self.yes_no:
            return losses
        further = {name: loss for name, loss in losses.items() if name not in output.votes}
        return {"yes_no": binary_cross_entropy(output.logits, labels), **further}


def _select_texts(text: TextFeatures, rows: Tensor, draws: Tensor) -> TextFeatures:
    """Select one candidate and one of its texts for each video: P becomes 1 and K becomes B; all words are kept."""
    selected = {}
    for name, tensor in text.tensors().items():
        if "word" in name:
            selected[name] = tensor.index_select(candidate_axis(name), rows)
        else:
            selected[name] = _select(tensor, rows, draws)
    return TextFeatures.from_tensors(selected)


def _select(texts: Tensor, rows: Tensor, draws: Tensor) -> Tensor:
    """Select (P, K, ...) -> (1, B, ...) by the draw of each video, among the templates or the second names of its label."""
    return texts[draws % len(texts), rows][None]


def join_frames(parts: Sequence[FrameFeatures | None]) -> FrameFeatures | None:
    """Concatenate the videos of several micro-batches; None if they are not read."""
    read = [part for part in parts if part is not None]
    return FrameFeatures(**{name: torch.cat([part[name] for part in read]) for name in read[0]}) if read else None


def join_texts(parts: Sequence[TextFeatures]) -> TextFeatures:
    """Concatenate the candidates of several micro-batches."""
    tensors = [part.tensors() for part in parts]
    return TextFeatures.from_tensors(
        {name: torch.cat([each[name] for each in tensors], candidate_axis(name)) for name in tensors[0]}
    )
