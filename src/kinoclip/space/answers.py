"""Answer requests of the page: model cache, checks, and one-line errors without paths of the server."""

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from kinoclip.inference.classifier import Classification, Classifier
from kinoclip.inference.records import classification_record, span_record
from kinoclip.inference.spans import SlidingWindowClassifier
from kinoclip.methods.auto import read_revision
from kinoclip.modeling.classification import Span
from kinoclip.modeling.names import EMBEDDED, EMBEDDED_RECOGNIZER
from kinoclip.space.limits import Limits, VisitError
from kinoclip.video.errors import VideoDecodeError, error_line

logger = logging.getLogger(__name__)
Report = Callable[[float, str], None]
_TOP_K = 5
EMBEDDED_MODELS = (EMBEDDED_RECOGNIZER, EMBEDDED)


@dataclass(frozen=True)
class Question:
    """A request.

    Args:
        video: path of the file.
        labels: candidate labels.
        model: one of `Models.names`.
        frames: number of sampled frames; None for the number of the model.
        threshold: probability below which the answer is "none of these".
        spans: also find the spans of each label.
        chinese: label to Chinese name, for a model with a Chinese branch.
    """

    video: str
    labels: tuple[str, ...]
    model: str = EMBEDDED_RECOGNIZER
    frames: int | None = None
    threshold: float = 0.0
    spans: bool = False
    chinese: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A response: the ranking with its explanation, and the spans if requested."""

    model: str
    threshold: float
    ranking: Classification
    spans: list[Span] | None = None
    revision: str | None = None  # of a model from the Hub

    @property
    def label(self) -> str | None:
        """The most probable label; None where it is below the threshold."""
        return self.ranking.decide(self.threshold)

    def record(self) -> dict[str, Any]:
        """Return the answer as a JSON-able record."""
        record = classification_record(self.ranking, self.label)
        for name in ("video", "model"):  # paths of the server
            record.pop(name, None)
        if self.spans is not None:
            record["spans"] = [span_record(span) for span in self.spans]
        revision = {} if self.revision is None else {"revision": self.revision}
        return {"model": self.model, **revision, "threshold": self.threshold, **record}


class Models:
    """Cache of models by displayed name, loaded on first use.

    Args:
        sources: folders and hub ids in addition to the embedded models. A folder is displayed without its path.
        keep: maximum number of loaded models.

    Raises:
        ValueError: two models have the same displayed name.
    """

    def __init__(self, sources: Sequence[str] = (), keep: int = 2):
        self._sources: dict[str, str] = {name: name for name in EMBEDDED_MODELS}
        for source in sources:
            name = Path(source).resolve().name if Path(source).is_dir() else source
            if self._sources.setdefault(name, source) != source:
                raise ValueError(f"{source} and {self._sources[name]} have the same name {name}. Rename one of them.")
        self._load = lru_cache(maxsize=keep)(Classifier.load)

    @property
    def names(self) -> list[str]:
        """All names; the embedded models last."""
        return [*(name for name in self._sources if name not in EMBEDDED_MODELS), *EMBEDDED_MODELS]

    def load(self, name: str) -> Classifier:
        """Return a model, loading it on first use.

        Raises:
            VisitError: the name is unknown, or the model cannot be loaded.
        """
        if name not in self._sources:
            raise VisitError(f"The model must be one of {', '.join(self.names)}, got {name[:100]!r}.")
        try:
            return self._load(self._sources[name])
        except (OSError, ValueError, RuntimeError) as error:
            logger.exception("the model %s cannot be loaded", name)
            raise VisitError(f"The model {name} cannot be loaded at the moment. Choose another one.") from error

    def reads_chinese(self, name: str) -> bool:
        """Return whether a model has a Chinese branch and its tokenizer."""
        classifier = self.load(name)
        has_branch = "chinese_input_ids" in classifier.model.used_inputs()
        return has_branch and getattr(classifier.processor, "chinese_tokenizer", None) is not None


def answer(question: Question, models: Models, limits: Limits) -> Answer:
    """Answer a request whose video was checked.

    Raises:
        VisitError: it cannot be answered; the message holds no paths of the server.
        VideoDecodeError: the video cannot be read.
    """
    try:
        _check_numbers(question, limits)
        classifier = models.load(question.model)
        if question.chinese:
            # Chinese names of one visitor must not reach the next.
            own = copy(classifier.processor)
            classifier = Classifier(classifier.model, own, classifier.name, chinese=question.chinese)
        return _ask(question, classifier)
    except (VisitError, VideoDecodeError, OSError):
        raise
    except Exception as error:
        logger.exception("a request failed")
        advice = "Set the number of frames back to 0." if question.frames else "Try another video or another model."
        raise VisitError(f"Internal error. {advice}") from error


def _ask(question: Question, classifier: Classifier) -> Answer:
    try:
        classifier.set_labels(question.labels)
    except ValueError as error:  # a label is too long for the text tower
        raise VisitError(error_line(error)) from error
    sample = classifier.video_processor.sample(question.video, num_frames=question.frames)
    ranking = classifier.answer(sample, top_k=_TOP_K, explain=True)
    spans = None
    if question.spans:
        if ranking.duration_seconds is None:
            raise VisitError("This video has no time stamps. Switch the time line off.")
        windows = SlidingWindowClassifier(classifier, question.labels, window=question.frames)
        spans = windows.find_spans(question.video, threshold=question.threshold)
    return Answer(question.model, question.threshold, ranking, spans, read_revision(classifier.name))


def _check_numbers(question: Question, limits: Limits) -> None:
    if not 0 <= question.threshold <= 1:
        raise VisitError(f"The threshold must be from 0 to 1, got {question.threshold}.")
    if question.frames is not None and not 1 <= question.frames <= limits.frames:
        raise VisitError(f"The number of frames must be from 1 to {limits.frames}, or 0, got {question.frames}.")


def hide_path(error: Exception, path: str) -> str:
    """Return the message of an error without the path of the file."""
    line = error_line(error)
    for known in (path, str(Path(path).resolve())):
        line = line.replace(f"{known}: ", "This file cannot be used: ").replace(known, "this file")
    return line
