"""Many videos to records: decoded ahead, classified in batches, one record per video."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kinoclip.export.exported import ExportedRecognizer
from kinoclip.video.pictures import IMAGE_SUFFIXES

from .batches import READ_SECONDS, ReadBatch, choose_batch_size, read_batches, share_out
from .classification import Classification
from .classify import Classifier
from .computing import compute_on_cores, spread
from .feature_cache import FeatureCache
from .records import Record, classification_record
from .saving import save_explanation

Report = Callable[[Record], None]


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
        batch_size: videos that go through the model at once, see `choose_batch_size`. Records do not depend on it, up to the rounding
            of floats.
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
    batch_size: int | None = None
    features: FeatureCache | None = None
    read_seconds: float = READ_SECONDS

    @property
    def identity(self) -> str:
        """Twelve hex digits that say which model, labels and options made a record."""
        processor, model = self.classifier.video_processor, self.classifier.model
        contract = [processor.sampling, processor.num_frames, processor.num_clips, processor.num_crops]
        finder = self.classifier.attributes
        lexicon = None if finder is None else [finder.name, *finder.lexicon]
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
        batches = self.share_out(videos, process, processes)
        threads = spread(len(batches), self.classifier.model, one_by_one=self._explains)
        todo = [(batch, n) for batch, n in zip(batches, threads, strict=True) if any(v not in done for v in batch)]
        read = self.classifier.read if self.features is None else self.features.read
        found = read_batches(read, [batch for batch, _ in todo], processes, self.read_seconds)
        for (batch, samples, errors), answers in compute_on_cores(self._answer, found, [n for _, n in todo]):
            records = {video: self._record(answer) for video, answer in zip(samples, answers, strict=True)}
            for video in batch:
                if video not in done:
                    record = {**(errors.get(video) or records[video]), "job": self.identity}
                    if report is not None:
                        report(record)
                    yield record

    def share_out(self, videos: Sequence[str], process: int = 0, processes: int = 1) -> list[Sequence[str]]:
        """Give the batches of one of several processes."""
        return share_out(videos, choose_batch_size(self.classifier.model, self.batch_size), process, processes)

    @property
    def _explains(self) -> bool:
        return self.explain or self.pictures is not None

    def _answer(self, batch: ReadBatch) -> list[Classification]:
        if not batch.samples:
            return []
        found: list[Any] = list(batch.samples.values())
        if self.features is not None:
            found = self.features.encode(found)
        return self.classifier.answers(found, top_k=self.top_k, explain=self._explains, names=list(batch.samples))

    def _record(self, answer: Classification) -> Record:
        record = classification_record(answer, answer.decide(self.threshold, self.background))
        if self.pictures is not None:
            record["picture"] = str(save_picture(answer, self.pictures, self.picture_format))
        return record


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
