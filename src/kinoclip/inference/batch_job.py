"""Batch jobs: many videos to records, decoded ahead in threads and classified in batches."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from kinoclip.inference.classifier import Classifier
from kinoclip.inference.encoding import compute_on_cores, threads_per_batch
from kinoclip.inference.feature_cache import FeatureCache, hash_model
from kinoclip.inference.records import VIDEO_ERRORS, Record, classification_record, error_record, span_record
from kinoclip.inference.saving import save_explanation
from kinoclip.inference.spans import SlidingWindowClassifier
from kinoclip.modeling.classification import Classification, ScoreError
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.modeling.video_processing import SampledVideo
from kinoclip.storage import file_state, hash_json
from kinoclip.video.isolation import IsolatedProcesses
from kinoclip.video.limits import Reading, ReadingThreads

Result = TypeVar("Result")

# More threads decode no faster than a model on a GPU computes.
_MAX_DECODERS = 16
GPU_BATCH_SIZE = 8
READ_SECONDS = 600.0
ISOLATED_MEGABYTES = 4000  # for 4K video with its reference frames, and the sampled frames


@dataclass(frozen=True)
class Plan:
    """The videos of a job, and the share of one of its processes.

    Batches depend on the list of all videos alone, so a continued or distributed job gives the same records to the last digit.

    Args:
        videos: of all processes.
        batch_size: videos that go through the model together.
        process: the index of this process.
        processes: their number.
        labels: of the job, those of the background last; its classifier has encoded them.
        cores: for reading; None for an equal share of this machine's.
    """

    videos: Sequence[str]
    batch_size: int
    process: int = 0
    processes: int = 1
    labels: tuple[str, ...] = ()
    cores: int | None = None

    @cached_property
    def batches(self) -> list[Sequence[str]]:
        """The batches of this process: every `processes`-th of all."""
        size = self.batch_size
        starts = range(self.process * size, len(self.videos), self.processes * size)
        return [self.videos[start : start + size] for start in starts]


class BatchJob(ABC):
    """How videos become records; `batch_size` is that of `choose_batch_size`, and `digest` that of `file_state`."""

    batch_size: int | None
    digest: bool

    @property
    @abstractmethod
    def model(self) -> VideoRecognizer:
        """The model that computes."""

    @cached_property
    def identity(self) -> str:
        """All that records depend on besides the videos: groups of eight hex digits, named by `JOB_PARTS`."""
        return "-".join(hash_json(part)[:8] for part in self._parts())

    @abstractmethod
    def _parts(self) -> tuple[list[Any], ...]:
        """Return what each group of the identity stands for."""

    def plan(self, videos: Sequence[str], process: int = 0, processes: int = 1) -> Plan:
        """Plan the work of one of several processes on all videos."""
        return Plan(videos, choose_batch_size(self.model, self.batch_size), process, processes)

    def label(self, plan: Plan | Sequence[str], *, done: Container[str] = ()) -> Iterator[Record]:
        """Yield the records of a plan, or of all videos in one process, in order; those that are `done` are skipped."""
        identity, facts, states = self.identity, self._facts(), dict[str, Any]()
        for record in self._compute(plan if isinstance(plan, Plan) else self.plan(plan), done, states):
            state = states.pop(record["video"], {})
            yield {**record, **facts, **({"file": state} if state else {}), "job": identity}

    def _facts(self) -> dict[str, Any]:
        """Return what all records say of the job."""
        return {}

    def find(self, video: str) -> tuple[Any, dict[str, Any]]:
        """Return what is decoded of a video, and the options for it."""
        return video, {}

    def path(self, video: str) -> str | None:
        """Return the file of a video; None for content without a file."""
        source = self.find(video)[0]
        return source if isinstance(source, str) else None

    def state(self, video: str) -> dict[str, Any]:
        """Return what identifies the content of a video, see `file_state`."""
        path = self.path(video)
        return {} if path is None else file_state(path, digest=self.digest)

    @abstractmethod
    def _compute(self, plan: Plan, done: Container[str], states: dict[str, Any]) -> Iterator[Record]:
        """Yield records, and set the `state` of each video before it is read."""


@dataclass(frozen=True)
class LabelJob(BatchJob):
    """How videos are labelled.

    Args:
        classifier: the model.
        labels: the names to choose from; None for those of the checkpoint.
        background: further names that compete with the labels and are never the answer.
        threshold: the lowest probability of an answer.
        batch_size: see `choose_batch_size`. Records depend on it by rounding only.
        digest: identify videos by the hash of their content instead of size and modification time.
    """

    classifier: Classifier
    labels: tuple[str, ...] | None
    background: tuple[str, ...] = ()
    threshold: float = 0.0
    batch_size: int | None = None
    digest: bool = field(default=False, kw_only=True)

    @property
    def model(self) -> VideoRecognizer:
        """The model of the classifier."""
        return self.classifier.model

    def _parts(self) -> tuple[list[Any], ...]:
        classifier, model = self.classifier, self.classifier.model
        finder = classifier.attributes
        labels = self.labels or list((model.config.id2label or {}).values())
        return (
            [hash_model(model), None if finder is None else hash_model(finder.model)],
            [
                describe_processor(classifier.processor),
                None if finder is None else describe_processor(finder.processor),
            ],
            describe_backend(model, self.batch_size),
            [labels, self.background, classifier.descriptions, classifier.chinese],
            [type(self).__name__, self.threshold, self._options(), None if finder is None else finder.lexicon],
        )

    def plan(self, videos: Sequence[str], process: int = 0, processes: int = 1) -> Plan:
        """Encode the labels and plan the work of one of several processes on all videos.

        Raises:
            ValueError: see `Classifier.set_labels`; or the checkpoint's own labels cannot have a background.
        """
        if self.labels is None and self.background:
            raise ValueError("A background competes with labels that are given. Give labels too.")
        labels = self.classifier.set_labels(None if self.labels is None else (*self.labels, *self.background))
        return replace(super().plan(videos, process, processes), labels=labels)

    def _facts(self) -> dict[str, Any]:
        facts = {"corpus": self.classifier.corpus, "model": self.classifier.source}
        return {name: fact for name, fact in facts.items() if fact}

    @abstractmethod
    def _options(self) -> list[Any]:
        """Return the options that change records."""


@dataclass(frozen=True)
class ClassifyJob(LabelJob):
    """How videos are classified, one answer per video.

    Args:
        top_k: predictions per record.
        explain: add the explanation.
        pictures: a folder for one file with the explanation of each video.
        picture_format: of these files, see `save_explanation`.
        features: where frame features are stored.
        read_seconds: the time limit for reading one video.
        isolate: decode in processes of their own, with `ISOLATED_MEGABYTES` of memory each: a file that crashes or exhausts the
            decoder costs an error record.
    """

    top_k: int = 5
    explain: bool = False
    pictures: Path | None = None
    picture_format: str = "png"
    features: FeatureCache | None = None
    read_seconds: float = READ_SECONDS
    isolate: bool = field(default=False, kw_only=True)

    def _options(self) -> list[Any]:
        pictures = None if self.pictures is None else [str(self.pictures), self.picture_format]
        return [self.top_k, self.explain, pictures]

    def _compute(self, plan: Plan, done: Container[str], states: dict[str, Any]) -> Iterator[Record]:
        explain = self.explain or self.pictures is not None

        def answer(batch: ReadBatch) -> dict[str, Record]:
            samples: list[Any] = list(batch.samples.values())
            if self.features is not None:
                samples = self.features.encode(samples)
            answers: list[Classification] = []
            try:
                answers += self.classifier.answers(
                    samples, top_k=self.top_k, explain=explain, names=list(batch.samples)
                )
            except ScoreError:  # of some of the videos
                for video, sample in zip(batch.samples, samples, strict=True):
                    try:
                        answers += self.classifier.answers([sample], top_k=self.top_k, explain=explain, names=[video])
                    except ScoreError as error:
                        batch.errors[video] = error_record(video, error)
            return {str(answer.video): record(answer) for answer in answers}

        def record(answer: Classification) -> Record:
            result = classification_record(answer, answer.decide(self.threshold, self.background))
            if self.pictures is not None:
                video = answer.video or ""
                # videos of several folders may have the same name
                digits = hashlib.sha256(os.fsencode(video)).hexdigest()[:8]
                path = self.pictures / f"{Path(video).stem[:40]}-{digits}.{self.picture_format}"
                result["picture"] = str(save_explanation(answer, path))
            return result

        reader = self.classifier.reader if self.isolate else self.classifier.read
        return read_and_compute(self, reader, answer, plan, done, states, one_by_one=explain)


@dataclass(frozen=True)
class SpanJob(LabelJob):
    """How spans are searched for in long videos, see `find_spans`.

    Args:
        frames_per_second: density of the frames.
        min_seconds: shorter spans are left out.
    """

    threshold: float = 0.5
    batch_size: int | None = 1
    frames_per_second: float = 4.0
    min_seconds: float = 0.0

    def _options(self) -> list[Any]:
        return [self.frames_per_second, self.min_seconds]

    def _compute(self, plan: Plan, done: Container[str], states: dict[str, Any]) -> Iterator[Record]:
        windows = SlidingWindowClassifier(self.classifier, self.labels, background=self.background)
        options = {name: getattr(self, name) for name in ("threshold", "frames_per_second", "min_seconds")}
        for (video,) in plan.batches:
            if video not in done:
                states[video] = self.state(video)
                try:
                    yield {"video": video, "spans": list(map(span_record, windows.find_spans(video, **options)))}
                except VIDEO_ERRORS as error:
                    yield error_record(video, error)


def describe_processor(processor: Any) -> list[Any]:
    """Return all settings of a processor and its video processor, and its tokenizer as JSON."""
    tokenizer = getattr(processor, "tokenizer", None)
    settings = {name: value for name, value in processor.to_dict().items() if name != "auto_map"}
    return [settings, tokenizer and tokenizer.backend_tokenizer.to_str()]


def describe_backend(model: VideoRecognizer, batch_size: int | None) -> list[Any]:
    """Return what rounding depends on: how a model computes, and in which batches."""
    backend = [type(model).__name__, str(model.device.type), str(model.dtype), model.uses_torch_threads]
    backend += [] if model.compiled_frames is None else ["compiled"]
    return [*backend, choose_batch_size(model, batch_size)]


class ReadBatch(NamedTuple):
    """A batch of videos, what was read of each, and the error records of those that cannot be read."""

    videos: Sequence[str]
    samples: dict[str, object]
    errors: dict[str, Record]


def read_and_compute(
    job: Any,
    reader: Callable[..., SampledVideo],
    compute: Callable[[ReadBatch], dict[str, Record]],
    plan: Plan,
    done: Container[str],
    states: dict[str, Any],
    *,
    one_by_one: bool = False,
) -> Iterator[Record]:
    """Decode the videos of a job, or load their features, and yield the records that are computed in batches.

    Args:
        job: has `features`, `read_seconds` and `isolate` as `ClassifyJob`.
        reader: decodes a video; picklable.
        compute: returns the records of readable videos; see `compute_batches`.
        plan: of this process.
        done: videos to skip.
        states: gets the state of each video before it is read.
        one_by_one: see `compute_batches`.
    """
    with IsolatedProcesses(ISOLATED_MEGABYTES) as processes:

        def decode(video: str) -> SampledVideo:
            source, options = job.find(video)
            if not job.isolate:
                return reader(source, **options)
            return processes.call(partial(reader, **options), source, name=video, seconds=job.read_seconds)

        def read(video: str) -> object:
            states[video] = job.state(video)
            if job.features is None:
                return decode(video)
            options = job.find(video)[1]
            return job.features.read(job.path(video), lambda _: decode(video), settings=options or None)

        options: dict[str, Any] = {"one_by_one": one_by_one, "done": done}
        for batch, computed in compute_batches(read, compute, plan, job.model, job.read_seconds, **options):
            records = batch.errors | (computed or {})
            yield from (records[video] for video in batch.videos if video not in done)


def compute_batches(
    read: Callable[[str], object],
    compute: Callable[[ReadBatch], Result],
    plan: Plan,
    model: VideoRecognizer,
    seconds: float = READ_SECONDS,
    *,
    one_by_one: bool = False,
    done: Container[str] = (),
) -> Iterator[tuple[ReadBatch, Result | None]]:
    """Read the videos of a plan ahead in threads, and yield each batch with what is computed of it.

    Args:
        read: reads one video.
        compute: called in parallel threads; the result is None for a batch without a readable video.
        plan: of this process.
        model: that computes.
        seconds: the time limit for reading one video.
        one_by_one: compute one batch at a time.
        done: videos to skip; the batch of a video that is left is computed as a whole.
    """
    threads = threads_per_batch(len(plan.batches), model, one_by_one=one_by_one)
    todo = [(b, n) for b, n in zip(plan.batches, threads, strict=True) if any(v not in done for v in b)]
    cores = plan.cores or (os.cpu_count() or 1) // plan.processes
    batches = read_batches(read, [batch for batch, _ in todo], cores, seconds)
    return compute_on_cores(lambda batch: compute(batch) if batch.samples else None, batches, [n for _, n in todo])


def read_batches(
    read: Callable[[str], object],
    batches: Sequence[Sequence[str]],
    cores: int | None = None,
    seconds: float = READ_SECONDS,
) -> Iterator[ReadBatch]:
    """Read batches of videos in as many threads as there are cores (None: all of this machine), one batch or one video per thread ahead."""
    threads = max(1, min(_MAX_DECODERS, cores or os.cpu_count() or 1))
    ahead = 1 + threads // max(map(len, batches), default=1)
    with ReadingThreads(read, threads, seconds) as pool:
        waiting: deque[list[Reading[object]]] = deque()
        for number, batch in enumerate(batches):
            for later in batches[number + len(waiting) : number + 1 + ahead]:
                waiting.append([pool.submit(video) for video in later])
            samples, errors = {}, {}
            for video, reading in zip(batch, waiting.popleft(), strict=True):
                try:
                    samples[video] = pool.result(reading)
                except VIDEO_ERRORS as error:
                    errors[video] = error_record(video, error)
            yield ReadBatch(batch, samples, errors)


def choose_batch_size(model: VideoRecognizer, batch_size: int | None) -> int:
    """Return the given batch size, or 1 on a CPU, where more are not faster, and 8 elsewhere."""
    if batch_size is not None:
        return batch_size
    return 1 if model.device.type == "cpu" else GPU_BATCH_SIZE
