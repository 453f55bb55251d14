"""From a visitor's question to an answer: loaded models, checks, and one sentence for whatever goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

from kinoclip.embedded import EMBEDDED
from kinoclip.inference.classify import Classification, Classifier
from kinoclip.inference.records import classification_record, error_line
from kinoclip.inference.span_job import span_record
from kinoclip.inference.timeline import Span, Watcher
from kinoclip.video import VideoDecodeError, VideoTimeoutError, time_limit
from kinoclip.video.time_limits import read_within

from .limits import Limits, VisitError, check_video

logger = logging.getLogger(__name__)
Report = Callable[[float, str], None]
# of a ranking
_TOP_K = 5


@dataclass(frozen=True)
class Question:
    """What a visitor asks.

    Args:
        video: path of the file.
        labels: names to choose from.
        model: one of `Models.names`.
        frames: how many to look at; None for as many as the model was trained with.
        threshold: probability below which the answer is "none of these".
        spans: tell too from when to when each label is seen.
        chinese: label to its Chinese name, for a model with a Chinese branch.
    """

    video: str
    labels: tuple[str, ...]
    model: str = EMBEDDED
    frames: int | None = None
    threshold: float = 0.5
    spans: bool = False
    chinese: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a visitor gets: the ranking with its reasons, and the spans if they were asked for."""

    model: str
    threshold: float
    ranking: Classification
    spans: list[Span] | None = None

    @property
    def label(self) -> str | None:
        """The most probable label; None where it is below the threshold."""
        return self.ranking.decide(self.threshold)

    def record(self) -> dict[str, Any]:
        """Give everything as JSON has it."""
        record = classification_record(self.ranking, self.label)
        del record["video"]  # a name on this machine
        if self.spans is not None:
            record["spans"] = [span_record(span) for span in self.spans]
        return {"model": self.model, "threshold": self.threshold, **record}


class Models:
    """Models by the names that visitors see, loaded when they are first asked for; the last few are kept.

    Args:
        sources: folders and hub ids beside the embedded model. A folder is shown by its own name, without the path.
        keep: how many stay loaded.

    Raises:
        ValueError: two of them would be shown by the same name.
    """

    def __init__(self, sources: Sequence[str] = (), keep: int = 2):
        self._sources: dict[str, str] = {EMBEDDED: EMBEDDED}
        for source in sources:
            name = Path(source).resolve().name if Path(source).is_dir() else source
            if self._sources.setdefault(name, source) != source:
                raise ValueError(f"{source} and {self._sources[name]} are both called {name}. Rename one of them.")
        self._load = lru_cache(maxsize=keep)(Classifier.load)
        # of whoever computes: a classifier holds the labels that it was last asked for
        self.lock = Lock()

    @property
    def names(self) -> list[str]:
        """All names; those of the owner first."""
        return [name for name in self._sources if name != EMBEDDED] + [EMBEDDED]

    def load(self, name: str) -> Classifier:
        """Give a model, loading it if it is not there.

        Raises:
            VisitError: there is no such model, or it cannot be loaded.
        """
        if name not in self._sources:
            raise VisitError(f"There is no model {name[:100]!r} here. Choose one of: {', '.join(self.names)}.")
        try:
            return self._load(self._sources[name])
        except (OSError, ValueError, RuntimeError) as error:
            logger.exception("the model %s cannot be loaded", name)
            raise VisitError(f"The model {name} cannot be loaded at the moment. Choose another one.") from error

    def reads_chinese(self, name: str) -> bool:
        """Tell whether a model has a Chinese branch, and the tokenizer that it needs."""
        with self.lock:
            classifier = self.load(name)
        has_branch = "chinese_input_ids" in classifier.model.used_text_inputs()
        return has_branch and getattr(classifier.processor, "chinese_tokenizer", None) is not None


def answer(question: Question, models: Models, limits: Limits, report: Report = lambda share, what: None) -> Answer:
    """Answer one question; `report` hears how far it is.

    Raises:
        VisitError: it cannot be answered; nothing in the message tells of this machine.
    """
    try:
        read_within(limits.reading_seconds, lambda path: check_video(path, limits), question.video)
        _check_numbers(question, limits)
        with models.lock:
            report(0.1, f"Loading {question.model}")
            classifier = models.load(question.model)
            if question.chinese:
                # what one visitor calls things must not stay for the next
                own = copy(classifier.processor)
                classifier = Classifier(classifier.model, own, classifier.name, chinese=question.chinese)
            return _ask(question, classifier, limits, report)
    except VisitError:
        raise
    except VideoTimeoutError as error:
        raise VisitError("Reading this video takes too long here. Cut a part out of it, or encode it anew.") from error
    except (VideoDecodeError, FileNotFoundError) as error:
        raise VisitError(_hide_path(error, question.video)) from error
    except Exception as error:
        logger.exception("a question could not be answered")
        advice = " Set the number of frames back to 0." if question.frames else " Try another video or another model."
        raise VisitError(f"Sorry, this did not work.{advice}") from error


def _ask(question: Question, classifier: Classifier, limits: Limits, report: Report) -> Answer:
    report(0.3, "Looking at the frames")
    classifier.set_labels(question.labels)
    read = partial(classifier.video_processor.sample, num_frames=question.frames)
    sample = read_within(limits.reading_seconds, read, question.video)
    ranking = classifier.answer(sample, top_k=_TOP_K, explain=True)
    spans = None
    if question.spans:
        report(0.6, "Looking for when each label is seen")
        if ranking.duration_seconds is None:
            raise VisitError("This video has no clock, so there is no time line for it. Switch the time line off.")
        watcher = Watcher(classifier, question.labels, window=question.frames)
        with time_limit(limits.seconds):
            spans = watcher.find_spans(question.video, threshold=question.threshold)
    return Answer(question.model, question.threshold, ranking, spans)


def _check_numbers(question: Question, limits: Limits) -> None:
    if not 0 <= question.threshold <= 1:
        raise VisitError(f"The threshold is {question.threshold}. It is a probability, from 0 to 1.")
    if question.frames is not None and not 1 <= question.frames <= limits.frames:
        raise VisitError(f"The number of frames is {question.frames}. Choose from 1 to {limits.frames}, or 0.")


def _hide_path(error: Exception, path: str) -> str:
    """Say what is wrong with a file without telling where it lies."""
    line = error_line(error)
    for known in (path, str(Path(path).resolve())):
        line = line.replace(f"{known}: ", "This file cannot be used: ").replace(known, "this file")
    return line
