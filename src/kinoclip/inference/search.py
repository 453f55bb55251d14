"""Find videos by a text: one vector for each video, compared with those of the queries."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import normalize

from kinoclip.conversion import first_line
from kinoclip.embedded import EMBEDDED
from kinoclip.outputs import TextFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.video import VideoDecodeError

from .batches import READ_SECONDS, ReadBatch, choose_batch_size, read_batches, share_out
from .classify import Classifier
from .computing import compute_on_cores, spread
from .encoding import EncodedVideo, encode_videos, join_features
from .feature_cache import hash_model
from .jobs import find_videos
from .parquet_records import need_pyarrow, table_name
from .records import Record

Pooling = Literal["own", "mean"]

_FORMAT = "kinoclip video embeddings 1"
_SUFFIXES = (".safetensors", ".parquet")
# the fields by which methods that weigh frames for each candidate say so; each of them knows "mean" too
_POOLING_FIELDS = ("interaction", "frame_aggregation")


class Match(NamedTuple):
    """A video that was found, and how well it fits the query: their cosine."""

    video: str
    score: float


@dataclass(frozen=True)
class VideoEmbeddings:
    """One vector for each of many videos, to keep in a file.

    Args:
        videos: their names.
        embeds: (N, D), unit length.
        model: what made them.
        fingerprint: of the model's config and weights.
        unreadable: the videos that have no vector, and why.
    """

    videos: list[str]
    embeds: Tensor
    model: str
    fingerprint: str
    unreadable: dict[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write a .safetensors or .parquet file, whole or not at all.

        Raises:
            ValueError: another ending.
            ImportError: Parquet without pyarrow.
        """
        path = check_embeddings_path(path)
        facts = {"format": _FORMAT, "model": self.model, "fingerprint": self.fingerprint}
        facts["unreadable"] = json.dumps(self.unreadable)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            if path.suffix == ".parquet":
                _write_parquet(partial, self.videos, self.embeds, facts)
            else:
                partial.write_bytes(save({"embeds": self.embeds}, {**facts, "videos": json.dumps(self.videos)}))
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is something else.
        """
        path = check_embeddings_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}. Make one with `kinoclip embed`.")
        try:
            facts, videos, embeds = (_read_parquet if path.suffix == ".parquet" else _read_safetensors)(path)
            if facts.get("format") != _FORMAT or embeds.shape[:1] != (len(videos),):
                raise ValueError("it has another format")
            unreadable = json.loads(facts["unreadable"])
            return cls(videos, embeds, facts["model"], facts["fingerprint"], unreadable)
        except Exception as error:
            raise ValueError(f"{path} holds no video embeddings of kinoclip: {first_line(error)}") from error


def embed_videos(
    videos: Sequence[str | Path],
    *,
    model: str | Path | Classifier = EMBEDDED,
    pooling: Pooling = "own",
    batch_size: int | None = None,
    features: str | Path | None = None,
    read_seconds: float = READ_SECONDS,
    report: Callable[[Record], None] | None = None,
) -> VideoEmbeddings:
    """Give one vector for each video, in the space of the model's texts.

    Args:
        videos: files, folders of them, or http(s) URLs.
        model: as for `kinoclip.classify`.
        pooling: the vector is the "own" of the method, or the "mean" of the frames, for a method that weighs them anew for each
            label and defines a mean too.
        batch_size: videos that go through the model at once; see `choose_batch_size`.
        features: folder where frame features are kept and found again; see `FeatureCache`.
        read_seconds: the longest that reading one video may take.
        report: hears of each video; one that cannot be read has an "error".

    Raises:
        FileNotFoundError: no such video or model.
        ValueError: the method has no such vector.
        VideoDecodeError: none of the videos can be read.
    """
    classifier = model if isinstance(model, Classifier) else Classifier.load(model)
    found = find_videos([str(video) for video in videos])
    if not found:
        raise FileNotFoundError("There is no file in what was given. Name videos, or folders that hold some.")
    read, encode = _choose_reader(classifier, features)
    rows: dict[str, Tensor] = {}
    errors: dict[str, Record] = {}
    text = _any_text(classifier)

    def embed(batch: ReadBatch) -> Tensor | None:
        return _embed(classifier, encode(list(batch.samples.values())), text) if batch.samples else None

    batches = share_out(found, choose_batch_size(classifier.model, batch_size))
    readings = read_batches(read, batches, seconds=read_seconds)
    with _pooled(classifier, pooling):
        for batch, embedded in compute_on_cores(embed, readings, spread(len(batches), classifier.model)):
            errors |= batch.errors
            if embedded is not None:
                rows |= dict(zip(batch.samples, embedded, strict=True))
            for video in batch.videos:
                if report is not None:
                    report(batch.errors.get(video, {"video": video}))
    unreadable = {video: record["error"]["message"] for video, record in errors.items()}
    if not rows:
        raise VideoDecodeError(
            f"None of {len(found)} videos could be read; the first: {next(iter(unreadable.values()))}"
        )
    embeds = torch.stack(list(rows.values()))
    return VideoEmbeddings(list(rows), embeds, classifier.name, hash_model(classifier.model), unreadable)


def search(
    embeddings: VideoEmbeddings,
    queries: str | Sequence[str],
    *,
    model: str | Path | Classifier | None = None,
    top_k: int = 5,
) -> list[list[Match]]:
    """Find the videos that fit each query best, as the method itself compares a video with a text.

    Args:
        embeddings: what `embed_videos` gave.
        queries: what to look for, in words.
        model: the one that made the embeddings, where it is not found under the name that it had.
        top_k: how many videos.

    Returns:
        For each query the best videos, best first.

    Raises:
        ValueError: the model is another one, or reads no text; or a query is empty, too long or double.
    """
    if top_k < 1:
        raise ValueError(f"top_k is {top_k}. Ask for at least one video.")
    classifier = model if isinstance(model, Classifier) else Classifier.load(model or embeddings.model)
    if hash_model(classifier.model) != embeddings.fingerprint:
        raise ValueError(
            f"The videos were embedded with {embeddings.model}, and the model {classifier.name} is another one, or has changed "
            "since. Give the same model, or embed the videos again."
        )
    if classifier.processor is classifier.video_processor:
        raise ValueError(f"The model {classifier.name} reads no text, so it cannot look for one.")
    classifier.set_labels(queries)
    with torch.inference_mode():
        videos = embeddings.embeds.to(classifier.model.device, classifier.model.dtype)
        scores = classifier.model.match(videos, classifier.text).float().T
    best = scores.topk(min(top_k, len(embeddings.videos)))
    return [
        [Match(embeddings.videos[i], score) for score, i in zip(values, indices, strict=True)]
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def check_embeddings_path(path: str | Path) -> Path:
    """Make sure that embeddings can be in a file of this name.

    Raises:
        ValueError: another ending than .safetensors or .parquet.
        ImportError: Parquet without pyarrow.
    """
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{path} ends in {path.suffix or 'nothing'}. Use {' or '.join(_SUFFIXES)} for embeddings.")
    if path.suffix == ".parquet":
        need_pyarrow()
    return path


@contextmanager
def _pooled(classifier: Classifier, pooling: Pooling) -> Iterator[None]:
    """Let a method average the frames while this lasts, if it is asked for the mean.

    Raises:
        ValueError: it defines none.
    """
    configs = [module.config for module in classifier.model.modules() if isinstance(module, VideoRecognizer)]
    switches = [(config, name) for config in configs for name in _POOLING_FIELDS if hasattr(config, name)]
    if pooling == "mean" and not switches:
        raise ValueError(
            f"The method of {classifier.name} has one way to join the frames of a video, and it needs no mean. Use pooling='own'."
        )
    before = [getattr(config, name) for config, name in switches]
    try:
        for config, name in switches if pooling == "mean" else ():
            setattr(config, name, "mean")
        yield
    finally:
        for (config, name), value in zip(switches, before, strict=True):
            setattr(config, name, value)


def _choose_reader(
    classifier: Classifier, features: str | Path | None
) -> tuple[Callable[[str], Any], Callable[[Sequence[Any]], list[EncodedVideo]]]:
    """Give what reads a video, and what encodes those that were read."""
    if features is None:
        return classifier.read, partial(encode_videos, classifier.model)
    cache = classifier.keep_features(features)
    return cache.read, cache.encode


@torch.inference_mode()
def _any_text(classifier: Classifier) -> TextFeatures:
    """Give candidates to aggregate with: which ones does not matter, where videos have a vector of their own."""
    stored = classifier.model.candidates()
    if stored is not None:
        return stored
    inputs = classifier.processor(text=["a video"])
    return classifier.model.encode_text(
        **{name: tensor.to(classifier.model.device) for name, tensor in inputs.items()}
    )


@torch.inference_mode()
def _embed(classifier: Classifier, videos: Sequence[EncodedVideo], text: TextFeatures) -> Tensor:
    """Give a vector of unit length for each video, the mean of those of its views: (B, D)."""
    embeds = classifier.model.aggregate(join_features(classifier.model, videos), text)
    if embeds.ndim != 2:
        raise ValueError(
            f"The method of {classifier.name} weighs the frames anew for each label, so a video has no vector of its own. Use "
            "pooling='mean' (--pooling mean) for the mean of the frames, which this method defines too."
        )
    views = normalize(embeds.float(), dim=-1).unflatten(0, (len(videos), -1))
    return normalize(views.mean(1), dim=-1).cpu()


def _read_safetensors(path: Path) -> tuple[dict[str, str], list[str], Tensor]:
    with safe_open(path, framework="pt") as file:
        facts = file.metadata() or {}
        return facts, json.loads(facts["videos"]), file.get_tensor("embeds")


def _write_parquet(path: Path, videos: Sequence[str], embeds: Tensor, facts: dict[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeds.flatten().numpy()), embeds.shape[1])
    names = pa.array([table_name(video) for video in videos], pa.string())
    pq.write_table(pa.table({"video": names, "embedding": vectors}, metadata=facts), path)


def _read_parquet(path: Path) -> tuple[dict[str, str], list[str], Tensor]:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    facts = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    return facts, table["video"].to_pylist(), torch.tensor(table["embedding"].to_pylist())
