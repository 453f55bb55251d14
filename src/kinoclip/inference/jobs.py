"""Many videos to records: decoded ahead, classified in batches, one record per video."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from kinoclip.export.exported import ExportedRecognizer
from kinoclip.video.pictures import IMAGE_SUFFIXES
from kinoclip.video.time_limits import Reading, ReadingThreads

from .classification import Classification
from .classify import Classifier
from .feature_cache import FeatureCache
from .records import VIDEO_ERRORS, Record, classification_record, error_record
from .saving import save_explanation

Result = TypeVar("Result")
Report = Callable[[Record], None]
# more threads than that decode no faster than a model on a GPU takes in
_MAX_DECODERS = 16
# a video that takes longer to read gets an error record
READ_SECONDS = 600.0


@dataclass(frozen=True)
class Job:
    """How videos are labelled; records of different jobs never share a file.

    Args:
        classifier: the model.
        labels: the names to choose from; None for those of the checkpoint.
        top_k: how many labels a record names.
        explain: add the reasons.
        pictures: folder that gets a file of the reasons for each video.
        picture_format: of these files, see `save_explanation`.
        threshold: of `Classification.decide`, like the next.
        background: further names that compete with the labels and are never the answer.
        batch_size: videos that go through the model at once. Records do not depend on it, up to the rounding of floats.
        features: where frame features are kept; None computes them anew.
        read_seconds: the longest that reading one video may take.
    """

    classifier: Classifier
    labels: tuple[str, ...] | None
    top_k: int = 5
    explain: bool = False
    pictures: Path | None = None
    picture_format: str = "png"
    threshold: float = 0.0
    background: tuple[str, ...] = ()
    batch_size: int = 8
    features: FeatureCache | None = None
    read_seconds: float = READ_SECONDS

    @property
    def identity(self) -> str:
        """Twelve hex digits that say which model, labels and options made a record."""
        processor, model = self.classifier.video_processor, self.classifier.model
        contract = [processor.sampling, processor.num_frames, processor.num_clips, processor.num_crops]
        finder = self.classifier.attributes
        lexicon = None if finder is None else finder.lexicon
        described = self.classifier.descriptions
        said: list[Any] = [self.classifier.name, self.labels, self.top_k, self.explain, contract, lexicon]
        said += [] if described is None else [dict(described)]
        said += [] if self.classifier.chinese is None else [{"chinese": self.classifier.chinese}]
        said += [] if self.pictures is None else [{"pictures": [str(self.pictures), self.picture_format]}]
        said += [] if not (self.threshold or self.background) else [{"none": [self.threshold, self.background]}]
        said += [] if model.dtype == torch.float32 else [{"dtype": str(model.dtype)}]
        said += ["graphs"] if isinstance(model, ExportedRecognizer) else []
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]

    def set_labels(self) -> tuple[str, ...]:
        """Encode all names, those of the background last, and give them.

        Raises:
            ValueError: see `Classifier.set_labels`; or the checkpoint's own labels cannot have a background.
        """
        if self.labels is None and self.background:
            raise ValueError("A background competes with labels that are given. Give labels too.")
        return self.classifier.set_labels(None if self.labels is None else (*self.labels, *self.background))

    def label(
        self,
        videos: Sequence[str],
        report: Report | None = None,
        *,
        done: Container[str] = (),
        process: int = 0,
        processes: int = 1,
    ) -> Iterator[Record]:
        """Give the record of each video in order; the next ones are decoded while these are classified.

        Args:
            videos: all of them. Which of them go through the model together depends on this list alone, so that a job that is
                continued, or shared out to several processes, gives the same records to the last digit.
            report: hears of each record.
            done: videos that have their record already.
            process: which of several processes this is.
            processes: how many there are.
        """
        self.set_labels()
        batches = share_out(videos, self.batch_size, process, processes)
        batches = [batch for batch in batches if any(video not in done for video in batch)]
        read = self.classifier.read if self.features is None else self.features.read
        for batch, samples, errors in read_batches(read, batches, processes, self.read_seconds):
            records = {video: self._record(a) for video, a in zip(samples, self._answer(samples), strict=True)}
            for video in batch:
                if video not in done:
                    record = {**(errors.get(video) or records[video]), "job": self.identity}
                    if report is not None:
                        report(record)
                    yield record

    def _answer(self, samples: dict[str, Any]) -> list[Classification]:
        if not samples:
            return []
        found = list(samples.values())
        if self.features is not None:
            found = self.features.encode(found)
        explain = self.explain or self.pictures is not None
        return self.classifier.answers(found, top_k=self.top_k, explain=explain, names=list(samples))

    def _record(self, answer: Classification) -> Record:
        record = classification_record(answer, answer.decide(self.threshold, self.background))
        if self.pictures is not None:
            record["picture"] = str(save_picture(answer, self.pictures, self.picture_format))
        return record


def share_out(videos: Sequence[str], batch_size: int, process: int = 0, processes: int = 1) -> list[Sequence[str]]:
    """Cut videos into batches, and give every n-th of these: the share of one of several processes.

    >>> share_out("abcdefg", 2, process=1, processes=2)
    ['cd', 'g']
    """
    starts = range(process * batch_size, len(videos), processes * batch_size)
    return [videos[start : start + batch_size] for start in starts]


def read_batches(
    read: Callable[[str], Result],
    batches: Sequence[Sequence[str]],
    processes: int = 1,
    seconds: float = READ_SECONDS,
) -> Iterator[tuple[Sequence[str], dict[str, Result], dict[str, Record]]]:
    """Give each batch of videos, with what was read of each, and with error records of those that cannot be read.

    Threads read ahead, as many as there are processor cores for this one of several processes: a batch, or one video each. Reading a
    video may take so many seconds.
    """
    threads = max(1, min(_MAX_DECODERS, (os.cpu_count() or 1) // processes))
    ahead = 1 + threads // max(map(len, batches), default=1)
    with ReadingThreads(read, threads, seconds) as pool:
        waiting: deque[list[Reading[Result]]] = deque()
        for number, batch in enumerate(batches):
            for later in batches[number + len(waiting) : number + 1 + ahead]:
                waiting.append([pool.submit(video) for video in later])
            samples, errors = {}, {}
            for video, reading in zip(batch, waiting.popleft(), strict=True):
                try:
                    samples[video] = pool.result(reading)
                except VIDEO_ERRORS as error:
                    errors[video] = error_record(video, error)
            yield batch, samples, errors


def save_picture(answer: Classification, folder: Path, picture_format: str = "png") -> Path:
    """Show why a video got its answer, in a file of its own in a folder that is made if it is missing."""
    video = answer.video or "video"
    # videos of several folders may have one name
    digits = hashlib.sha256(os.fsencode(video)).hexdigest()[:8]
    return save_explanation(answer, folder / f"{Path(video).stem[:40]}-{digits}.{picture_format}")


def find_videos(paths: Sequence[str]) -> list[str]:
    """List the files to label: files as given, folders searched; a folder of frame images is one video.

    Every file in a folder gets a record, since only its content says whether it is a video; hidden files do not.

    Raises:
        FileNotFoundError: a path does not exist.
    """
    found: list[str] = []
    for path in paths:
        if "://" in path:
            found.append(path)
        elif not os.path.lexists(path):
            raise FileNotFoundError(f"There is no file or folder {path}.")
        else:
            found += [str(file) for file in _search(Path(path))]
    return list(dict.fromkeys(found))


def _search(path: Path) -> Iterator[Path]:
    if not path.is_dir() or _is_frame_folder(path):
        yield path
        return
    for entry in sorted(path.iterdir()):
        # a link to a folder could lead round in circles
        if not entry.name.startswith(".") and not (entry.is_symlink() and entry.is_dir()):
            yield from _search(entry)


def _is_frame_folder(folder: Path) -> bool:
    """Tell whether a folder holds images and nothing else."""
    visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return bool(visible) and all(e.is_file() and e.suffix.lower() in IMAGE_SUFFIXES for e in visible)


def leave_out(videos: Sequence[str], own: Sequence[str | Path | None]) -> list[str]:
    """Drop what a job writes itself, and anything in it if that is a folder, so that it is not taken for videos."""
    places = [os.path.realpath(path) for path in own if path is not None]
    beginnings = tuple(beginning for place in places for beginning in (place + os.sep, place + ".part-"))
    return [
        video
        for video in videos
        if "://" in video or not (os.path.realpath(video) in places or os.path.realpath(video).startswith(beginnings))
    ]
