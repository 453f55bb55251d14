"""Videos after the vision tower: what is left to do needs no pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from kinoclip.outputs import FrameFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.video_processing import SampledVideo

from .computing import encode_on_cores


@dataclass(frozen=True)
class EncodedVideo:
    """What the encoder knows of the frames of one video.

    Args:
        features: of its views, (V, T, D).
        indices: which frames of the video they are.
        timestamps: when each is shown, in seconds after the first frame; None where the source has no clock.
        duration_seconds: of the whole video; None where the source has no clock.
    """

    features: FrameFeatures
    indices: list[int]
    timestamps: list[float] | None
    duration_seconds: float | None


@torch.inference_mode()
def encode_videos(model: VideoRecognizer, videos: Sequence[SampledVideo | EncodedVideo]) -> list[EncodedVideo]:
    """Run the vision tower once over all videos that did not go through it yet."""
    fresh = [video for video in videos if isinstance(video, SampledVideo)]
    if not fresh:
        return [video for video in videos if isinstance(video, EncodedVideo)]
    pixels = torch.cat([video.pixel_values for video in fresh]).to(model.device, model.dtype)
    rows = encode_on_cores(model, pixels)
    views, encoded = len(pixels) // len(fresh), []
    for number, video in enumerate(fresh):
        mine = slice(number * views, (number + 1) * views)
        features = FrameFeatures(**{name: tensor[mine] for name, tensor in rows.items()})
        encoded.append(EncodedVideo(features, list(video.indices), video.timestamps, video.duration_seconds))
    done = iter(encoded)
    return [video if isinstance(video, EncodedVideo) else next(done) for video in videos]


def join_features(model: VideoRecognizer, videos: Sequence[EncodedVideo]) -> FrameFeatures:
    """Give the features of all views of all videos, (B * V, T, D), where the model is."""
    names = videos[0].features.keys()
    return FrameFeatures(
        **{name: torch.cat([video.features[name].to(model.device) for video in videos]) for name in names}
    )
