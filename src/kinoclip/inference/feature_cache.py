"""Features on disk: of frames, so that other labels need neither decoding nor the vision tower, and of label texts."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kinoclip.outputs import FrameFeatures, TextFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.video_processing import RecognizerVideoProcessor, SampledVideo

from .encoding import EncodedVideo, encode_videos

logger = logging.getLogger(__name__)
Found = TypeVar("Found")

# of the files; another number makes all that were written before unknown
_FORMAT = "kinoclip features 2"
# of a config, what says nothing about weights or frames
_NAMES = ("_name_or_path", "id2label", "label2id", "transformers_version")


@dataclass(frozen=True)
class FreshVideo:
    """A decoded video whose features are not on disk; `key` is what they will be called, None if they cannot be kept."""

    sample: SampledVideo
    key: str | None


class FeatureCache:
    """The features of videos and of label texts, each in a safetensors file that is named by all that they depend on.

    That is the content of the video, not its name or time: a video that was moved is known again, one that was changed in place
    is not taken for the old one, and reading a file costs little beside decoding it. Of texts it is their tokens. And it is the
    model (class, config, weights, number format) and its video processor, so that any number of models and jobs may share a folder.

    Files are written whole, and checked when they are read; one that is damaged or something else is named and written anew.

    Args:
        folder: made if it is missing.
        model: whose `encode_frames` it is.
        video_processor: reads the videos.

    Raises:
        ValueError: the model's frames depend on more than their pixels.
        OSError: the folder cannot be made.
    """

    def __init__(self, folder: str | Path, model: VideoRecognizer, video_processor: RecognizerVideoProcessor):
        needed = list(inspect.signature(model.encode_frames).parameters)
        if needed != ["pixel_values_videos"]:
            raise ValueError(
                f"The frame features of a {type(model).__name__} depend on more than the pixels "
                f"({', '.join(needed[1:])}), so they cannot be kept. Leave the folder for features out."
            )
        self.folder, self.model, self.video_processor = Path(folder), model, video_processor
        self.folder.mkdir(parents=True, exist_ok=True)
        said = [_FORMAT, hash_model(model), video_processor.to_dict()]
        self._encoder = hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()

    def read(self, video: str) -> EncodedVideo | FreshVideo:
        """Give the features of a video, or decode it if they are not here; may run in a thread of its own.

        Raises:
            see `RecognizerVideoProcessor.sample`.
        """
        before = _state(video)
        key = None if before is None else self._key(video)
        if key is not None:
            found = self._load(key, _as_video)
            if found is not None:
                return found
        sample = self.video_processor.sample(video)
        # a file that is still being written must not give its features to the content it had
        return FreshVideo(sample, key if _state(video) == before else None)

    def encode(self, videos: Sequence[EncodedVideo | FreshVideo]) -> list[EncodedVideo]:
        """Encode at once what is not here yet, and keep it.

        Raises:
            OSError: a file cannot be written.
        """
        encoded = encode_videos(self.model, [v if isinstance(v, EncodedVideo) else v.sample for v in videos])
        for video, features in zip(videos, encoded, strict=True):
            if isinstance(video, FreshVideo) and video.key is not None:
                facts = [features.indices, features.timestamps, features.duration_seconds]
                self._keep(video.key, dict(features.features.items()), json.dumps(facts))
        return encoded

    def encode_text(self, **inputs: Tensor) -> TextFeatures:
        """Give the features of candidates, encoded now if they are not here.

        Args:
            inputs: of `model.encode_text`.

        Raises:
            OSError: a file cannot be written.
        """
        digest = hashlib.sha256(self._encoder.encode())
        for name, tensor in sorted(inputs.items()):
            _add(digest, name, tensor)
        key, device = digest.hexdigest()[:40], self.model.device
        text = self._load(key, lambda tensors, _: TextFeatures.from_tensors(tensors))
        if text is None:
            text = self.model.encode_text(**{name: tensor.to(device) for name, tensor in inputs.items()})
            self._keep(key, text.tensors(), "")
            return text
        return TextFeatures.from_tensors({name: tensor.to(device) for name, tensor in text.tensors().items()})

    def _key(self, video: str) -> str:
        digest = hashlib.sha256(self._encoder.encode())
        path = Path(video)
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if path.is_dir():
                digest.update(file.name.encode("utf-8", "surrogateescape") + b"/")
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
        return digest.hexdigest()[:40]

    def _place(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _keep(self, key: str, tensors: dict[str, Tensor], facts: str) -> None:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"format": _FORMAT, "key": key, "facts": facts, "sha256": _hash_content(tensors, facts)}
        partial = self.folder / f".{key}.{os.getpid()}.{get_ident()}"
        try:
            partial.write_bytes(save(tensors, metadata))
            partial.replace(self._place(key))
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def _load(self, key: str, build: Callable[[dict[str, Tensor], str], Found]) -> Found | None:
        """Give what is kept under a key, or None where there is nothing that can be believed."""
        place = self._place(key)
        if not place.exists():
            return None
        try:
            with safe_open(place, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (it is no mapping)
            if (metadata.get("format"), metadata.get("key")) != (_FORMAT, key):
                raise ValueError("it holds something else")
            if metadata.get("sha256") != _hash_content(tensors, metadata["facts"]):
                raise ValueError("its content has changed")
            return build(tensors, metadata["facts"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s is not used, because %s; its features are computed again.", place, error)
            return None


def _as_video(tensors: dict[str, Tensor], facts: str) -> EncodedVideo:
    return EncodedVideo(FrameFeatures(**tensors), *json.loads(facts))


def hash_model(model: VideoRecognizer) -> str:
    """Give hex digits that say which class, config and weights a model has, whatever it is called."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in _NAMES}
    digest = hashlib.sha256(json.dumps([type(model).__name__, config], sort_keys=True, default=str).encode())
    for name, tensor in model.state_dict().items():
        _add(digest, name, tensor)
    return digest.hexdigest()


def _hash_content(tensors: dict[str, Tensor], facts: str) -> str:
    digest = hashlib.sha256(facts.encode())
    for name, tensor in sorted(tensors.items()):
        _add(digest, name, tensor)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, name: str, tensor: Tensor) -> None:
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(_bytes_of(tensor))


def _bytes_of(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()


def _state(video: str) -> list[tuple[int, int, int]] | None:
    """Give what changes when a file, or one of a folder of pictures, does; None for what is no file."""
    path = Path(video)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if not all(file.is_file() for file in files):
        return None
    return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in map(Path.stat, files)]
