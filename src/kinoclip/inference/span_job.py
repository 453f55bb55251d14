"""Many long videos to records of their spans."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import Any

from .batches import share_out
from .classify import Classifier
from .jobs import Report
from .records import VIDEO_ERRORS, Record, error_record
from .timeline import Span, Watcher


@dataclass(frozen=True)
class SpanJob:
    """How spans are looked for; records of different jobs never share a file.

    Args:
        classifier: the model.
        labels: names to choose from; None for those of the checkpoint.
        background: of `find_spans`, like the rest.
        threshold: see there.
        frames_per_second: see there.
        min_seconds: see there.
    """

    classifier: Classifier
    labels: tuple[str, ...] | None
    background: tuple[str, ...] = ()
    threshold: float = 0.5
    frames_per_second: float = 4.0
    min_seconds: float = 0.0

    @property
    def identity(self) -> str:
        """Twelve hex digits that say which model, labels and options made a record."""
        numbers = [self.threshold, self.frames_per_second, self.min_seconds]
        window = [self.classifier.video_processor.num_frames, self.classifier.video_processor.keep_every]
        said = ["spans", self.classifier.name, self.labels, self.background, numbers, window]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]

    def label(
        self,
        videos: Sequence[str],
        report: Report | None = None,
        *,
        done: Container[str] = (),
        process: int = 0,
        processes: int = 1,
    ) -> Iterator[Record]:
        """Give the record of each video in order, as `Job.label` does; one that cannot be read gives an error record."""
        watcher = Watcher(self.classifier, self.labels, background=self.background)
        options = {name: getattr(self, name) for name in ("threshold", "frames_per_second", "min_seconds")}
        for (video,) in self.share_out(videos, process, processes):
            if video in done:
                continue
            try:
                spans = watcher.find_spans(video, **options)
                record: Record = {"video": video, "spans": [span_record(span) for span in spans]}
            except VIDEO_ERRORS as error:
                record = error_record(video, error)
            record["job"] = self.identity
            if report is not None:
                report(record)
            yield record

    def share_out(self, videos: Sequence[str], process: int = 0, processes: int = 1) -> list[Sequence[str]]:
        """Give the videos of one of several processes; a long one is enough at a time."""
        return share_out(videos, 1, process, processes)


def span_record(span: Span) -> dict[str, Any]:
    """Give a span as JSON has it."""
    start, end, label, probability = astuple(span)
    return {"start": round(start, 3), "end": round(end, 3), "label": label, "probability": round(probability, 4)}
