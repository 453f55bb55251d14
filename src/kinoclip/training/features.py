"""Frame features of a frozen encoder, computed once for each video and kept on disk under the hash of what they depend on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinoclip.data.samples import VideoSamples, collate
from kinoclip.outputs import FrameFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.video import VideoDecodeError


class FeatureSamples(VideoSamples):
    """The frame features of a data set's videos in place of their pixels.

    Item i is `frames` (name to tensor, without the axis of videos), `labels` and `index`.

    Args:
        samples: of the videos.
        folder: where the features are kept; any number of runs may share it.
        model: whose encoder it is.

    Raises:
        ValueError: something in the samples is random, or the encoder is trained.
    """

    def __init__(self, samples: VideoSamples, folder: Path, model: VideoRecognizer):
        vars(self).update(vars(samples))
        self._samples, self.folder = samples, folder
        if samples.augmentation is not None or samples.random_frames or samples.discarded:
            raise ValueError(
                "Features can be kept only where each epoch sees the same pixels, and no others than those that are encoded. Set "
                "data.augmentation to none and data.random_frames to false, or training.cache_features to false."
            )
        self._encoder = _hash_encoder(
            model, json.dumps([samples.video_processor.to_dict(), samples.sampling], default=str)
        )
        folder.mkdir(parents=True, exist_ok=True)

    def fill(self, model: VideoRecognizer, process: int = 0, processes: int = 1) -> None:
        """Compute what is not there yet, every n-th video; one that cannot be read is left out.

        Raises:
            ValueError: the encoder is trained.
        """
        was_training = model.training
        model.eval()
        for index in range(process, len(self), processes):
            place = self._place(index)
            if place.exists():
                continue
            try:
                pixels = self._samples[index]["pixel_values_videos"].to(model.device)
            except VideoDecodeError:
                continue
            frames = model.encode_frames(pixels)
            if frames.embeds.requires_grad:
                raise ValueError(
                    'The encoder of frames is trained, so its features change. Set training.freeze = "towers", or '
                    "training.cache_features to false."
                )
            partial = place.with_name(f".{place.name}.{process}")
            save_file({name: tensor[0].cpu().contiguous() for name, tensor in frames.items()}, partial)
            partial.replace(place)
        model.train(was_training)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read the features of one video.

        Raises:
            VideoDecodeError: the video could not be read.
        """
        row, place = self.dataset[index % len(self)], self._place(index % len(self))
        if not place.is_file():
            raise VideoDecodeError(
                f"{row.get('name') or f'video {index}'} could not be read when features were computed."
            )
        return {"frames": load_file(place), **self._facts(row, index)}

    def _place(self, index: int) -> Path:
        row = self.dataset[index]
        digest = sha256(self._encoder)
        for part in _content(row["video"]):
            digest.update(part)
        digest.update(json.dumps([row.get(name) for name in ("start", "end", "fps")]).encode())
        return self.folder / f"{digest.hexdigest()[:40]}.safetensors"


def collate_features(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make a batch of videos or of features, those under "frames"."""
    batch: dict[str, Any] = dict(collate(samples))
    if "frames" in samples[0]:
        names = samples[0]["frames"]
        batch["frames"] = FrameFeatures(**{n: torch.stack([sample["frames"][n] for sample in samples]) for n in names})
    return batch


def _content(video: dict[str, Any]) -> list[bytes]:
    if video["bytes"] is not None:
        return [video["bytes"]]
    path = Path(video["path"])
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file.read_bytes() for file in files if file.is_file()]


def _hash_encoder(model: nn.Module, settings: str) -> bytes:
    """Hash everything that does not change in training."""
    digest = sha256(settings.encode())
    fixed = [(name, p) for name, p in model.named_parameters() if not p.requires_grad]
    for name, tensor in (*fixed, *model.named_buffers()):
        digest.update(name.encode())
        digest.update(_as_bytes(tensor))
    return digest.digest()


def _as_bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
