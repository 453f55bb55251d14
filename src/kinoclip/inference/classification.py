"""The answer for one video: labels with their probabilities, and why."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, overload

import torch


class Prediction(NamedTuple):
    """One label and how probable it is among those that were given."""

    label: str
    probability: float


@dataclass(frozen=True)
class Classification(Sequence[Prediction]):
    """The answer for one video: a sequence of predictions, best first.

    Args:
        predictions: the best labels.
        video: name of the video, where it has one.
        frame_indices: which frames were looked at.
        timestamps: when they are shown, in seconds after the first frame; None where the source has no clock.
        duration_seconds: of the video; None where the source has no clock.
        attributes: the phrases that described the video, best first; only with an attributes branch and a lexicon.
        saliency: label to how much each frame counted for it (sums to one); only when an explanation was asked for and
            the method weighs frames.
        frames: (T, 3, h, w) uint8, the frames that were looked at; like what follows, only when an explanation was asked for.
        attention: (T, rows, columns), how much the model looked at each patch of a frame (sums to one over it); of the
            first crop, as `frames` are.
        regions: (T, rows, columns), the region that each patch belongs to, where the model merges patches.
        entities: name of an entity of the model's corpus (unit, or unit and description where several share it) to its score in each frame, the sum of the cosines of the regions that show
            it; those with the highest total, best first.
        entity_map: (T, rows, columns), which of `entities` each patch shows, -1 for another.
        languages: "english" and "chinese" to label to its probability by the names in that language alone; only with a
            Chinese branch.
        agreement: the share of the probability that both languages give to the same labels, from 0 to 1.
    """

    predictions: tuple[Prediction, ...]
    video: str | None = None
    frame_indices: list[int] = field(default_factory=list)
    timestamps: list[float] | None = None
    duration_seconds: float | None = None
    attributes: list[str] | None = None
    saliency: dict[str, list[float]] | None = None
    frames: torch.Tensor | None = field(default=None, repr=False, compare=False)
    attention: torch.Tensor | None = field(default=None, repr=False, compare=False)
    regions: torch.Tensor | None = field(default=None, repr=False, compare=False)
    entities: dict[str, list[float]] | None = None
    entity_map: torch.Tensor | None = field(default=None, repr=False, compare=False)
    languages: dict[str, dict[str, float]] | None = None
    agreement: float | None = None

    def __len__(self) -> int:
        return len(self.predictions)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...
    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.predictions[index]

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.predictions[0].label

    def decide(self, threshold: float = 0.0, background: Collection[str] = ()) -> str | None:
        """Give the most probable label, or None where it is of the background or less probable than the threshold.

        The probabilities are shared out among the names that were given, so the best one says which of them fits best, and not
        that it fits: a background (names of what is no answer) takes its share where none does.

        Args:
            threshold: from 0, which believes every label, to 1.
            background: names among those that the video was classified with.
        """
        label, probability = self.predictions[0]
        return None if label in background or probability < threshold else label
