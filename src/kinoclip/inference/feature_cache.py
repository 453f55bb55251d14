"""Frame features and text features on disk, so that a video is decoded and encoded once for any number of label sets."""

import inspect
import json
import logging
import os
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kinoclip.inference.encoding import EncodedVideo, encode_videos
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.modeling.video_processing import RecognizerVideoProcessor, SampledVideo
from kinoclip.storage import atomic_file, hash_file, hash_json, hash_tensors, readable_by

logger = logging.getLogger(__name__)

# Files of another format are computed again.
_FORMAT = "kinoclip features 3"
# fields of a config that change neither weights nor features
_NAMES = ("_name_or_path", "id2label", "label2id", "transformers_version")


def hash_model(model: VideoRecognizer) -> str:
    """Return the hash of a model's class, config and weights, as 64 hex digits; its name does not matter.

    The weights count by a checksum of each tensor, which several cores compute several times as fast as a SHA-256.
    """

    def checksum(tensor: Tensor) -> list[Any]:
        values = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
        return [str(tensor.dtype), list(tensor.shape), zlib.crc32(values)]

    state = model.state_dict()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        weights = dict(zip(state, pool.map(checksum, state.values()), strict=True))
    config = {name: value for name, value in model.config.to_dict().items() if name not in _NAMES}
    return hash_json([type(model).__name__, config, model.content_hash, weights])


class FeatureStore:
    """Tensors in safetensors files that are named by the hash of everything they depend on.

    Any number of models and processes may share a folder. Files are written atomically and checked when they are read.

    Args:
        folder: created if it is missing.
        encoder: hash of the weights that compute the features.
        settings: JSON-able settings that the features depend on, such as those of the video processor.

    Raises:
        OSError: the folder cannot be created.
    """

    def __init__(self, folder: str | Path, encoder: str, settings: Any):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._encoder = hash_json([_FORMAT, encoder, settings])

    def video_key(self, video: str | Path | bytes, settings: Any = None) -> str:
        """Return the key of a file, a folder of frames, or the content of a file, by content and JSON-able settings."""
        content = sha256(video).hexdigest() if isinstance(video, bytes) else hash_file(video)
        return hash_json([self._encoder, content, settings])[:40]

    def text_key(self, inputs: dict[str, Tensor]) -> str:
        """Return the key of candidates by the inputs of `encode_text`."""
        return hash_tensors(inputs, self._encoder)[:40]

    def path(self, key: str) -> Path:
        """Return the path of the file for a key."""
        return self.folder / f"{key}.safetensors"

    def save(self, key: str, tensors: dict[str, Tensor], facts: Any = None) -> None:
        """Write tensors and JSON-able facts."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"format": _FORMAT, "key": key, "facts": json.dumps(facts), "sha256": hash_tensors(tensors, facts)}
        try:
            with atomic_file(self.path(key), owns=_is_features, shared=True) as temporary:
                save_file(tensors, temporary, metadata)
        except FileExistsError as error:
            logger.warning("Features are not stored: %s", error)

    def load(self, key: str) -> tuple[dict[str, Tensor], Any] | None:
        """Read tensors and facts; None if the file does not exist, or with a warning if it is damaged."""
        path = self.path(key)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
            if (metadata.get("format"), metadata.get("key")) != (_FORMAT, key):
                raise ValueError("it holds something else")
            facts = json.loads(metadata["facts"])
            if metadata.get("sha256") != hash_tensors(tensors, facts):
                raise ValueError("its content has changed")
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            logger.warning("%s is not used because %s. Its features are computed again.", path, error)
            return None
        return tensors, facts


@readable_by
def _is_features(path: Path) -> bool:
    with path.open("rb") as file:  # of a damaged file only the begin may be whole
        return b'"format":"kinoclip features ' in file.read(1000)


@dataclass(frozen=True)
class UncachedVideo:
    """A decoded video; `key` is that of its features, None if they must not be stored."""

    sample: SampledVideo
    key: str | None


class FeatureCache:
    """The features of videos and of label texts for one model and its video processor, in a `FeatureStore`.

    Raises:
        ValueError: the model's frame features depend on more than the pixels.
        OSError: the folder cannot be created.
    """

    def __init__(self, folder: str | Path, model: VideoRecognizer, video_processor: RecognizerVideoProcessor):
        needed = list(inspect.signature(model.encode_frames).parameters)
        if not set(needed) <= {"pixel_values_videos", "frame_times"}:
            raise ValueError(
                f"The frame features of a {type(model).__name__} depend on more than the pixels "
                f"({', '.join(needed[1:])}), so they cannot be stored. Leave the folder for features out."
            )
        self.model, self.video_processor = model, video_processor
        self.store = FeatureStore(folder, hash_model(model), video_processor.to_dict())

    def read(
        self, video: str | None, sample: Callable[[Any], SampledVideo] | None = None, settings: Any = None
    ) -> EncodedVideo | UncachedVideo:
        """Load the features of a video, or decode it, with `sample` if that is given. Thread-safe.

        Args:
            video: a path, or an address, whose features are not stored; None for content without a name.
            sample: called with the video.
            settings: JSON-able settings that the features depend on, besides those of the video processor.
        """
        before = None if video is None else _state(video)
        key = None if before is None or video is None else self.store.video_key(video, settings)
        stored = None if key is None else self.store.load(key)
        if stored is not None:
            return EncodedVideo(FrameFeatures(**stored[0]), *stored[1])
        decoded = (sample or self.video_processor.sample)(video)  # type: ignore[arg-type]  # None has a `sample`
        # the features of a file that was changed meanwhile must not be stored for its old content
        return UncachedVideo(decoded, key if video is not None and _state(video) == before else None)

    def encode(self, videos: Sequence[EncodedVideo | UncachedVideo]) -> list[EncodedVideo]:
        """Encode the uncached videos in one batch and store their features."""
        encoded = encode_videos(self.model, [v if isinstance(v, EncodedVideo) else v.sample for v in videos])
        for video, result in zip(videos, encoded, strict=True):
            if isinstance(video, UncachedVideo) and video.key is not None:
                facts = [result.indices, result.timestamps, result.duration_seconds]
                self.store.save(video.key, dict(result.features.items()), facts)
        return encoded

    def encode_text(self, **inputs: Tensor) -> TextFeatures:
        """Load the features of candidates, or encode and store them; `inputs` are those of `model.encode_text`."""
        key, device = self.store.text_key(inputs), self.model.device
        stored = self.store.load(key)
        if stored is not None:
            return TextFeatures.from_tensors({name: tensor.to(device) for name, tensor in stored[0].items()})
        text = self.model.encode_text(**{name: tensor.to(device) for name, tensor in inputs.items()})
        self.store.save(key, text.tensors())
        return text


def _state(video: str) -> list[tuple[int, int, int]] | None:
    """Return what changes when a file, or a file of a folder, is changed; None for anything else, such as a URL."""
    path = Path(video)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    if not all(file.is_file() for file in files):
        return None
    return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in map(Path.stat, files)]
