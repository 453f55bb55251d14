"""The answer for one video: labels with their probabilities, and the evidence."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple, overload

import torch


class ScoreError(ValueError):
    """The scores of a video are NaN or infinite, so there is no answer."""


def to_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Return the softmax of logits (..., K) in float32.

    Raises:
        ScoreError: a logit is NaN or infinite; minus infinity stands for a candidate that is impossible.
    """
    probabilities = logits.float().softmax(-1)
    if not probabilities.isfinite().all():
        raise ScoreError(
            "The model's scores are NaN or infinite, so there is no answer. Check its weights, or load it with dtype=float32."
        )
    return probabilities


class Prediction(NamedTuple):
    """One label and its probability among the given labels."""

    label: str
    probability: float


@dataclass(frozen=True)
class Classification(Sequence[Prediction]):
    """The answer for one video: a sequence of predictions, best first.

    Args:
        predictions: the best labels.
        video: name of the video, if it has one.
        frame_indices: of the sampled frames.
        timestamps: of those frames, in seconds after the first frame; None where the source has no clock.
        duration_seconds: of the video; None where the source has no clock.
        attributes: the phrases that describe the video, best first; only with an attributes branch and a lexicon.
        saliency: label to the weight of each frame (sums to one); only with `explain`, if the method weighs frames.
        frames: (T, 3, h, w) uint8, the sampled frames; only with `explain`, as all that follow.
        attention: (T, rows, columns), attention to each patch of the first crop (sums to one per frame).
        regions: (T, rows, columns), the region that each patch belongs to, if the model merges patches.
        entities: name of an entity of the model's corpus (unit, or unit and description where several share it) to its score in each frame, the sum of the cosines of the regions that show
            it; those with the highest total, best first.
        entity_map: (T, rows, columns), which of `entities` each patch shows, -1 for another.
        languages: "english" and "chinese" to label to its probability by the names in that language alone; only with a
            Chinese branch.
        agreement: the share of the probability that both languages give to the same labels, from 0 to 1.
        model: name of the model, and its revision where it came from the Hub.
        page: renders the answer with its explanation as HTML, for notebooks; only with `explain`.
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
    model: str | None = None
    page: Callable[["Classification"], str] | None = field(default=None, repr=False, compare=False)

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

    def to_dict(self) -> dict[str, Any]:
        """Convert the answer to JSON-able data, without frames and maps."""
        record: dict[str, Any] = {
            "video": self.video,
            "label": self.label,
            "predictions": [{"label": p.label, "probability": round(p.probability, 6)} for p in self],
            "frame_indices": self.frame_indices,
            "timestamps": None if self.timestamps is None else _rounded(self.timestamps),
            "duration_seconds": None if self.duration_seconds is None else round(self.duration_seconds, 3),
        }
        if self.attributes is not None:
            record["attributes"] = self.attributes
        if self.saliency is not None:
            record["saliency"] = {label: _rounded(weights, 4) for label, weights in self.saliency.items()}
        if self.entities is not None:
            record["entities"] = {name: _rounded(scores) for name, scores in self.entities.items()}
        if self.languages is not None:
            languages = self.languages.items()
            record["languages"] = {name: {k: round(vote, 4) for k, vote in votes.items()} for name, votes in languages}
            record["agreement"] = round(self.agreement or 0.0, 4)
        if self.model:
            record["model"] = self.model
        return record

    def _repr_html_(self) -> str:
        """Render the answer for a notebook: the page of its explanation, or a table."""
        if self.page is not None:
            return self.page(self)
        rows = "".join(f"<tr><td>{escape(label)}</td><td>{probability:.1%}</td></tr>" for label, probability in self)
        return f"<table><caption>{escape(self.video or 'video')}</caption>{rows}</table>"

    def decide(self, threshold: float = 0.0, background: Collection[str] = ()) -> str | None:
        """Return the most probable label, or None if it is of the background or less probable than the threshold.

        Probabilities are shared among the given labels, so the best one may be wrong for the video. A background
        (labels that name other content) takes the probability where no label fits. The threshold is from 0, which
        accepts all, to 1.
        """
        label, probability = self.predictions[0]
        return None if label in background or probability < threshold else label


class Classifications(list[Classification]):
    """The answers for several videos."""

    def to_dataframe(self) -> Any:
        """Return a pandas `DataFrame` with a row for each prediction: video, rank (from 1), label, probability."""
        import pandas

        rows = [(answer.video, rank, *each) for answer in self for rank, each in enumerate(answer, 1)]
        return pandas.DataFrame(rows, columns=["video", "rank", "label", "probability"])

    def _repr_html_(self) -> str:
        return "".join(answer._repr_html_() for answer in self)


def _rounded(values: Sequence[float], digits: int = 3) -> list[float]:
    return [round(value, digits) for value in values]


@dataclass(frozen=True)
class Span:
    """One label from one time to another, with its mean probability over the windows in between."""

    start_seconds: float
    end_seconds: float
    label: str
    probability: float
