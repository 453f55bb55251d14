"""Many videos to one file of records: resumable, one record per video, nothing lost."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from kinoclip.video import VideoDecodeError
from kinoclip.video.pictures import IMAGE_SUFFIXES
from kinoclip.video_processing import SampledVideo

from .classify import Classification, Classifier
from .explain import draw_explanation

Record = dict[str, Any]
# what may be wrong with one video; anything else is a fault of the job and ends it
VIDEO_ERRORS = (VideoDecodeError, OSError)
# fields of a record beside the answer, in the order of their columns
_FURTHER = ("saliency", "entities", "languages", "agreement", "spans")


@dataclass(frozen=True)
class Job:
    """How videos are labelled; records of different jobs never share a file.

    Args:
        classifier: the model.
        labels: the names to choose from; None for those of the checkpoint.
        top_k: how many labels a record names.
        explain: add the reasons.
        pictures: folder that gets a picture of the reasons for each video.
    """

    classifier: Classifier
    labels: tuple[str, ...] | None
    top_k: int = 5
    explain: bool = False
    pictures: Path | None = None

    @property
    def identity(self) -> str:
        """Twelve hex digits that say which model, labels and options made a record."""
        processor = self.classifier.video_processor
        contract = [processor.sampling, processor.num_frames, processor.num_clips, processor.num_crops]
        finder = self.classifier.attributes
        lexicon = None if finder is None else finder.lexicon
        described = self.classifier.descriptions
        said: list[Any] = [self.classifier.name, self.labels, self.top_k, self.explain, contract, lexicon]
        said += [] if described is None else [dict(described)]
        said += [] if self.classifier.chinese is None else [{"chinese": self.classifier.chinese}]
        said += [] if self.pictures is None else [{"pictures": str(self.pictures)}]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:12]

    def label(self, videos: Sequence[str], report: Callable[[Record], None] | None = None) -> Iterator[Record]:
        """Give the record of each video in order; the next video is decoded while this one is classified.

        A video that cannot be read gives an error record. `report` hears of each record.
        """
        self.classifier.set_labels(self.labels)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="kinoclip-decode") as decoder:
            pending: Future[SampledVideo] | None = None
            try:
                for i, video in enumerate(videos):
                    current = pending or decoder.submit(self.classifier.read, video)
                    pending = decoder.submit(self.classifier.read, videos[i + 1]) if i + 1 < len(videos) else None
                    record = self._record(video, current)
                    if report is not None:
                        report(record)
                    yield record
            finally:
                decoder.shutdown(wait=False, cancel_futures=True)

    def _record(self, video: str, decoded: Future[SampledVideo]) -> Record:
        try:
            sample = decoded.result()
        except VIDEO_ERRORS as error:
            return {**error_record(video, error), "job": self.identity}
        explain = self.explain or self.pictures is not None
        answer = self.classifier.answer(sample, top_k=self.top_k, explain=explain, video=video)
        record = classification_record(answer)
        if self.pictures is not None:
            record["picture"] = str(save_picture(answer, self.pictures))
        return {**record, "job": self.identity}


def save_picture(answer: Classification, folder: Path) -> Path:
    """Draw why a video got its answer, into a file of its own in a folder that is made if it is missing."""
    video = answer.video or "video"
    # videos of several folders may have one name
    digits = hashlib.sha256(os.fsencode(video)).hexdigest()[:8]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{Path(video).stem[:40]}-{digits}.png"
    draw_explanation(answer).save(path)
    return path


def classification_record(answer: Classification) -> Record:
    """Give what a record says of one video."""
    record: Record = {
        "video": answer.video,
        "predictions": [{"label": p.label, "probability": round(p.probability, 6)} for p in answer],
        "frame_indices": answer.frame_indices,
        "timestamps": _rounded(answer.timestamps),
        "duration_seconds": None if answer.duration_seconds is None else round(answer.duration_seconds, 3),
    }
    if answer.attributes is not None:
        record["attributes"] = answer.attributes
    if answer.saliency is not None:
        record["saliency"] = {label: _rounded(weights, 4) for label, weights in answer.saliency.items()}
    if answer.entities is not None:
        record["entities"] = {name: _rounded(scores) for name, scores in answer.entities.items()}
    if answer.languages is not None:
        by_language = answer.languages.items()
        record["languages"] = {
            name: {label: round(vote, 4) for label, vote in votes.items()} for name, votes in by_language
        }
        record["agreement"] = round(answer.agreement or 0.0, 4)
    return record


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


class RecordFile:
    """A JSONL or CSV file that grows by whole records and can be continued after any interruption.

    Args:
        path: ends in .jsonl or .csv.
        job: the identity that its records carry.
        top_k: columns of a CSV.

    Raises:
        ValueError: another ending, or the file holds records of another job or something else.
        OSError: the file cannot be written.
    """

    def __init__(self, path: str | Path, job: str, top_k: int = 5):
        self.path = Path(path)
        if self.path.suffix not in (".jsonl", ".csv"):
            raise ValueError(f"The output {path} ends in {self.path.suffix or 'nothing'}. Use .jsonl or .csv.")
        self.job = job
        self.top_k = top_k
        self.done: set[str] = set()
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"The output {path} is no regular file. Name a new file or one to continue.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+b", buffering=0)
        try:
            self._resume()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, record: Record) -> None:
        """Append one record; when that fails, what was half written is taken back.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        end = self._file.seek(0, os.SEEK_END)
        try:
            self._append(self._encode(record))
        except OSError:
            self._file.truncate(end)
            raise
        self.done.add(record["video"])

    def _append(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]

    def _encode(self, record: Record) -> bytes:
        if self.path.suffix == ".jsonl":
            line = json.dumps(record, ensure_ascii=False) + "\n"
            # a file name that is no text survives as an escape, which JSON reads back
            return line.encode("utf-8", "backslashreplace")
        return _csv_line(_csv_values(record, self.top_k))

    def _resume(self) -> None:
        """Drop a last line that was cut off, and remember which videos have their record."""
        self._file.seek(0)
        content = self._file.read()
        whole = _whole_length(content, self.path.suffix)
        for video, job in _read_records(self.path, content[:whole]):
            if job != self.job:
                raise ValueError(
                    f"{self.path} holds records that were made with another model, other labels or options. "
                    "Choose another output file, or remove this one."
                )
            self.done.add(video)
        if whole < len(content):
            self._file.truncate(whole)
        if self.path.suffix == ".csv" and whole == 0:
            self._append(_csv_line(_csv_header(self.top_k)))


def _read_records(path: Path, content: bytes) -> Iterator[tuple[str, str]]:
    """Give video and job of each record."""
    try:
        if path.suffix == ".jsonl":
            for line in content.splitlines():
                record = json.loads(line)
                yield record["video"], record["job"]
        else:
            for row in csv.DictReader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline="")):
                yield row["video"], row["job"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} holds something else than records of kinoclip. Choose another output file."
        ) from error


def _whole_length(content: bytes, suffix: str) -> int:
    """Give the length of the part that ends with a whole record."""
    if suffix == ".jsonl":
        return content.rfind(b"\n") + 1
    end = 0
    quoted = False
    for i, byte in enumerate(content):  # a line end inside quotes belongs to a name
        if byte == 0x22:
            quoted = not quoted
        elif byte == 0x0A and not quoted:
            end = i + 1
    return end


def _csv_header(top_k: int) -> list[str]:
    pairs = [name for rank in range(1, top_k + 1) for name in (f"label_{rank}", f"probability_{rank}")]
    return [
        "video",
        *pairs,
        "error",
        "duration_seconds",
        "timestamps",
        "frame_indices",
        "attributes",
        *_FURTHER,
        "picture",
        "job",
    ]


def _csv_values(record: Record, top_k: int) -> list[Any]:
    predictions = record.get("predictions", [])
    pairs = [value for p in predictions for value in (p["label"], p["probability"])]
    pairs += [""] * (2 * top_k - len(pairs))
    error = record.get("error")
    return [
        record["video"],
        *pairs,
        f"{error['type']}: {error['message']}" if error else "",
        record.get("duration_seconds"),
        " ".join(map(str, record.get("timestamps") or [])),
        " ".join(map(str, record.get("frame_indices") or [])),
        ", ".join(record.get("attributes") or []),
        *(json.dumps(record[name], ensure_ascii=False) if name in record else "" for name in _FURTHER),
        record.get("picture", ""),
        record["job"],
    ]


def _csv_line(values: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _rounded(values: Sequence[float] | None, digits: int = 3) -> list[float] | None:
    return None if values is None else [round(value, digits) for value in values]


def error_record(video: str, error: BaseException) -> Record:
    """Give the record of a video that cannot be read."""
    return {"video": video, "error": {"type": type(error).__name__, "message": error_line(error)}}


def error_line(error: BaseException) -> str:
    """Give an error as one line, as a person reads it."""
    if isinstance(error, OSError) and error.strerror:
        named = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{named}"
    return " ".join(str(error).split()) or type(error).__name__
