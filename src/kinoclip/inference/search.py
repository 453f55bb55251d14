"""Search videos by text: one vector for each video, compared with those of the queries."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from kinoclip.data.files import find_videos
from kinoclip.inference.batch_job import READ_SECONDS, Plan, ReadBatch, choose_batch_size, compute_batches
from kinoclip.inference.classifier import Classifier
from kinoclip.inference.encoding import encode_videos, join_features, mean_of_views
from kinoclip.inference.feature_cache import hash_model
from kinoclip.inference.records import Record
from kinoclip.methods.candidates import encode_candidates
from kinoclip.modeling.checkpoints import first_line
from kinoclip.modeling.names import DEFAULT
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.storage import atomic_file, readable_by
from kinoclip.video import VideoDecodeError

Pooling = Literal["own", "mean"]

_FORMAT = "kinoclip video embeddings 2"


class Match(NamedTuple):
    """A video and its cosine similarity to the query."""

    video: str
    score: float


@dataclass(frozen=True)
class VideoEmbeddings:
    """One vector for each of many videos.

    Args:
        videos: their names.
        embeds: (N, D), unit length.
        model: the name of the model.
        fingerprint: `hash_model` of the model.
        unreadable: the videos without a vector, with the error.
    """

    videos: list[str]
    embeds: Tensor
    model: str
    fingerprint: str
    unreadable: dict[str, str] = field(default_factory=dict)

    def save(self, path: str | Path) -> None:
        """Write a .safetensors file atomically."""
        path = check_embeddings_path(path)
        facts = {"format": _FORMAT, "model": self.model, "fingerprint": self.fingerprint}
        names = {"unreadable": json.dumps(self.unreadable), "videos": json.dumps(self.videos)}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, owns=readable_by(self.load), shared=True) as temporary:
            save_file({"embeds": self.embeds}, temporary, facts | names)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file of `save`.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: it is something else, or was written by an earlier version.
        """
        path = check_embeddings_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist. Make it with `kinoclip embed`.")
        try:
            with safe_open(path, framework="pt") as file:
                facts, embeds = file.metadata() or {}, file.get_tensor("embeds")
            if facts.get("format") != _FORMAT:
                raise ValueError(f"its format is {facts.get('format')!r}, not {_FORMAT!r}. Embed the videos again.")
            videos = json.loads(facts["videos"])
            if embeds.shape[:1] != (len(videos),):
                raise ValueError("the number of videos is wrong")
            return cls(videos, embeds, facts["model"], facts["fingerprint"], json.loads(facts["unreadable"]))
        except Exception as error:
            raise ValueError(f"{path} cannot be read as video embeddings of kinoclip: {first_line(error)}") from error


def embed_videos(
    videos: Sequence[str | Path],
    *,
    model: str | Path | Classifier = DEFAULT,
    pooling: Pooling = "own",
    batch_size: int | None = None,
    features: str | Path | None = None,
    read_seconds: float = READ_SECONDS,
    on_record: Callable[[Record], None] | None = None,
) -> VideoEmbeddings:
    """Compute one vector for each video, in the space of the model's texts.

    Args:
        videos: files, folders of them, or http(s) URLs.
        model: as for `kinoclip.classify`.
        pooling: "own" is the method's vector; "mean" is that of the mean frame, for methods that weigh frames for each label.
        batch_size: videos that go through the model together; see `choose_batch_size`.
        features: folder where frame features are stored; see `FeatureCache`.
        read_seconds: the time limit for reading one video.
        on_record: callback, called for each video; one that cannot be read has an "error".

    Raises:
        FileNotFoundError: a video or the model does not exist.
        ValueError: the method has no such vector.
        VideoDecodeError: none of the videos can be read.
    """
    classifier = model if isinstance(model, Classifier) else Classifier.load(model)
    paths = find_videos([str(video) for video in videos]).videos
    if not paths:
        raise FileNotFoundError("The given paths hold no videos. Name videos, or folders of videos.")
    recognizer = classifier.model.unwrap()
    if pooling == "mean" and type(recognizer).embed_video is VideoRecognizer.embed_video:
        raise ValueError(
            f"The method of {classifier.name} has one way to pool the frames of a video. Use pooling='own'."
        )
    cache = None if features is None else classifier.store_features(features)
    text = classifier.model.candidates()
    if text is None:  # any candidates do: videos with a vector of their own have the same one
        text = encode_candidates(classifier.model, classifier.processor, ["a video"], name=classifier.name)

    @torch.inference_mode()
    def embed(batch: ReadBatch) -> Tensor:
        samples: list[Any] = list(batch.samples.values())
        encoded = encode_videos(classifier.model, samples) if cache is None else cache.encode(samples)
        frames = join_features(classifier.model, encoded)
        embeds = classifier.model.aggregate(frames, text) if pooling == "own" else recognizer.embed_video(frames)
        if embeds.ndim != 2:
            raise ValueError(
                f"The method of {classifier.name} weighs the frames for each label, so a video has no vector of its own. Use "
                "pooling='mean' (--pooling mean) for the mean of the frames."
            )
        return mean_of_views(embeds, len(samples))

    rows: dict[str, Tensor] = {}
    unreadable: dict[str, str] = {}
    plan = Plan(paths, choose_batch_size(classifier.model, batch_size))
    read = classifier.read if cache is None else cache.read
    for batch, embedded in compute_batches(read, embed, plan, classifier.model, read_seconds):
        unreadable |= {video: record["error"]["message"] for video, record in batch.errors.items()}
        rows |= dict(zip(batch.samples, () if embedded is None else embedded, strict=True))
        for video in batch.videos if on_record is not None else ():
            on_record(batch.errors.get(video, {"video": video}))  # type: ignore[misc]
    if not rows:
        first = next(iter(unreadable.values()))
        raise VideoDecodeError(f"None of {len(paths)} videos could be read; the first: {first}")
    embeds = torch.stack(list(rows.values()))
    return VideoEmbeddings(list(rows), embeds, classifier.name, hash_model(classifier.model), unreadable)


def search(
    embeddings: VideoEmbeddings,
    queries: str | Sequence[str],
    *,
    model: str | Path | Classifier | None = None,
    top_k: int = 5,
) -> list[list[Match]]:
    """Find the videos that match each query best, as the method compares a video with a text.

    Args:
        embeddings: of `embed_videos`.
        queries: what to search for, in words.
        model: the one that made the embeddings, if it is not found under its name.
        top_k: number of videos.

    Returns:
        For each query the best videos, best first.

    Raises:
        ValueError: the model is another one, or reads no text; or a query is empty, too long or duplicated.
    """
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}.")
    classifier = model if isinstance(model, Classifier) else Classifier.load(model or embeddings.model)
    if hash_model(classifier.model) != embeddings.fingerprint:
        raise ValueError(
            f"The videos were embedded with {embeddings.model}, but the model {classifier.name} is another one, or has changed "
            "since. Use the same model, or embed the videos again."
        )
    if not classifier.processor.reads_text:
        raise ValueError(f"The model {classifier.name} has no tokenizer, so it cannot search by text.")
    texts = [queries] if isinstance(queries, str) else list(queries)
    text = classifier.encode_labels(texts)
    with torch.inference_mode():
        videos = embeddings.embeds.to(classifier.model.device, classifier.model.dtype)
        scores = classifier.model.match(videos, text).float().T
    best = scores.topk(min(top_k, len(embeddings.videos)))
    return [
        [Match(embeddings.videos[i], score) for score, i in zip(values, indices, strict=True)]
        for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def check_embeddings_path(path: str | Path) -> Path:
    """Check that the name of a file of embeddings ends in .safetensors."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"A file of embeddings must end in .safetensors, got {path}.")
    return path
