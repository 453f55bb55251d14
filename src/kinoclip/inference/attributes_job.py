"""Find the attributes of many videos, and write them in the format of BIKE's authors."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinoclip.data.samples import row_source
from kinoclip.inference.attributes import AttributeFinder
from kinoclip.inference.batch_job import (
    READ_SECONDS,
    BatchJob,
    Plan,
    ReadBatch,
    describe_backend,
    describe_processor,
    read_and_compute,
)
from kinoclip.inference.encoding import encode_videos
from kinoclip.inference.feature_cache import FeatureCache, hash_model
from kinoclip.inference.records import Record, error_record, read_records
from kinoclip.modeling.classification import ScoreError
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.storage import check_owned, claimed, readable_by
from kinoclip.text.attributes import read_attributes, write_attributes


@dataclass(frozen=True)
class AttributesJob(BatchJob):
    """How attributes of many videos are found.

    Args:
        finder: the model and the lexicon.
        rows: from the name of a video to its row, as `kinoclip.data.load_videos` builds it; None for an unknown name.
        batch_size: see `choose_batch_size`. Records depend on it by rounding only.
        features: where frame features are stored; see `ClassifyJob`, as for the next two.
        read_seconds: the time limit for reading one video.
        isolate: decode in processes of their own.
        digest: identify videos by the hash of their content instead of size and modification time.
    """

    finder: AttributeFinder
    rows: Callable[[str], Mapping[str, Any] | None]
    batch_size: int | None = None
    features: FeatureCache | None = None
    read_seconds: float = READ_SECONDS
    isolate: bool = False
    digest: bool = field(default=False, kw_only=True)

    @property
    def model(self) -> VideoRecognizer:
        """The model of the finder."""
        return self.finder.model

    def find(self, video: str) -> tuple[Any, dict[str, Any]]:
        """Return what is decoded of a video, and its segment and frame rate."""
        row = self.rows(video)
        return (None, {}) if row is None else row_source(row)

    def _parts(self) -> tuple[list[Any], ...]:
        finder = self.finder
        return (
            [hash_model(finder.model)],
            [describe_processor(finder.processor)],
            describe_backend(finder.model, self.batch_size),
            finder.lexicon,
            [type(self).__name__, finder.top_k],
        )

    def _compute(self, plan: Plan, done: Container[str], states: dict[str, Any]) -> Iterator[Record]:
        def describe(batch: ReadBatch) -> dict[str, Record]:
            samples: list[Any] = list(batch.samples.values())
            encoded = encode_videos(self.model, samples) if self.features is None else self.features.encode(samples)
            found = {}
            for video, each in zip(batch.samples, encoded, strict=True):
                try:
                    found[video] = {"video": video, "attributes": self.finder.find_in(each)}
                except ScoreError as error:
                    batch.errors[video] = error_record(video, error)
            return found

        reader = self.finder.processor.video_processor.sample
        return read_and_compute(self, reader, describe, plan, done, states)


def name_videos(found: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Return the rows of videos by name, from the given paths and the videos in each (`find_videos`).

    Names are those of `kinoclip.data.load_videos`: relative to the folder. A file or address that is given keeps its path.

    Raises:
        ValueError: two videos have the same name.
    """
    rows: dict[str, dict[str, Any]] = {}
    for path, videos in found.items():
        for video in videos:
            is_given = "://" in path or Path(video) == Path(path)
            name = video if is_given else Path(video).relative_to(path).as_posix()
            before = rows.setdefault(name, {"video": {"path": video, "bytes": None}})["video"]["path"]
            if before != video:
                raise ValueError(f"{before} and {video} are both named {name}. Describe them in two files.")
    return rows


def write_found(path: str | Path, records: Path) -> tuple[int, int]:
    """Write the attributes in records as `read_attributes` reads them; return the numbers of videos with and without any."""
    check_owned(path, lambda path: owns_found(path, records))
    found = {record["video"]: record.get("attributes") for record in read_records(records)}
    known = {video: phrases for video, phrases in found.items() if phrases}
    write_attributes(path, known, owns=claimed)
    return len(known), len(found) - len(known)


def owns_found(path: Path, records: Path) -> bool:
    """Check whether a file of attributes was written from these records, all of which are kept."""
    if not records.exists():
        return False
    named = {record["video"] for record in read_records(records)}
    return readable_by(lambda path: read_attributes(path).keys() <= named)(path)
