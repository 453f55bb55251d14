"""Files to the pixels of a recognizer: which frames, which size, which views."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import VideosKwargs
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.video_processing_utils import BaseVideoProcessor

from kinoclip.shim import auto_map, write_shim
from kinoclip.video import VideoDecodeError, VideoReader, VideoSource
from kinoclip.video.motion import measure_motion
from kinoclip.video.sampling import sample_indices, split_kept_frames
from kinoclip.video.transforms import (
    Interpolation,
    normalize_frames,
    resize_frames,
    resize_to,
    short_side_size,
    view_crops,
)

Segment = tuple[float | None, float | None]
"""From and to which second of a video; None is its beginning or end."""

_INTERPOLATION: dict[PILImageResampling, Interpolation] = {
    PILImageResampling.BICUBIC: "bicubic",
    PILImageResampling.BILINEAR: "bilinear",
}


@dataclass(frozen=True)
class SampledVideo:
    """The frames of one video that a model looks at.

    Args:
        pixel_values: (V, T, 3, H, W), normalized; views are crops outermost, then clips.
        frames: (T', 3, h, w) uint8, the first crop of each frame before normalization, T' counting every clip.
        indices: which frames of the video they are.
        timestamps: when each is shown, in seconds after the first frame; None where the source has no clock.
        num_frames: how many frames the video has.
        duration_seconds: of the whole video; None where the source has no clock.
    """

    pixel_values: Tensor
    frames: Tensor
    indices: list[int]
    timestamps: list[float] | None
    num_frames: int
    duration_seconds: float | None


class RecognizerVideoKwargs(VideosKwargs, total=False):
    """The options of `RecognizerVideoProcessor` beyond those of every video processor."""

    sampling: str
    num_clips: int
    num_crops: int


class RecognizerVideoProcessor(BaseVideoProcessor):
    """Decode exactly the sampled frames of a video, resize, crop and normalize them; as CLIP was trained, unless told.

    Args:
        num_frames: T, frames per clip.
        sampling: rule of `kinoclip.video.sampling.sample_indices`. "motion" decodes the whole video once more, to see where it
            moves.
        num_clips: clips per video, spread over it by the rule.
        keep_every: decode every n-th frame of each clip only, for SLLM.
        num_crops: crops per frame: 1 center; 3 left, right, center; 5 or 10 corners, center and their mirrors.
        crops_along_long_side: spread 3 crops along the long side, see `view_crops`.
        size: `shortest_edge` that frames are resized to.
        crop_size: `height` and `width` of a crop.
        resample: how frames are resized, bicubic or bilinear.
        image_mean: of each channel, for values from 0 to 1.
        image_std: of each channel, likewise.
    """

    valid_kwargs = RecognizerVideoKwargs
    model_input_names = ["pixel_values_videos"]
    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"shortest_edge": 256}
    default_to_square = False
    crop_size = {"height": 224, "width": 224}
    do_resize = do_center_crop = do_rescale = do_normalize = do_convert_rgb = do_sample_frames = True
    num_frames = 8
    sampling = "segment_start"
    num_clips = 1
    num_crops = 1
    keep_every = 1
    crops_along_long_side = False

    shim_classes: ClassVar[dict[str, str]] = {"AutoVideoProcessor": "RecognizerVideoProcessor"}

    @property
    def num_views(self) -> int:
        """V, how many views of each video come out."""
        return self.num_clips * self.num_crops

    def sample(
        self,
        video: VideoSource,
        *,
        num_frames: int | None = None,
        sampling: str | None = None,
        num_clips: int | None = None,
        num_crops: int | None = None,
        discarded: bool = False,
        segment: Segment = (None, None),
        fps: float | None = None,
    ) -> SampledVideo:
        """Read one video as the model wants it.

        Args:
            video: see `preprocess`.
            num_frames: this and the next three override what is saved.
            sampling: see above.
            num_clips: see above.
            num_crops: see above.
            discarded: read the frames between the kept ones instead (`keep_every`).
            segment: look at this part alone.
            fps: of sources without a clock.

        Raises:
            FileNotFoundError, VideoDecodeError: the video or the segment of it cannot be read; the message says why.
        """
        num_frames = num_frames or self.num_frames
        num_clips, num_crops = num_clips or self.num_clips, num_crops or self.num_crops
        kept, between, _ = split_kept_frames(num_frames, self.keep_every)
        with VideoReader(video, fps=fps) as reader:
            crops, indices = _read_sampled(
                reader,
                sampling or self.sampling,
                segment,
                transform=partial(self._crop_frame, num_crops=num_crops),
                places=between if discarded else kept,
                num_samples=num_frames,
                num_clips=num_clips,
            )
            timestamps = reader.timestamps(indices) if reader.duration_seconds is not None else None
            whole = {"num_frames": reader.num_frames, "duration_seconds": reader.duration_seconds}
        crops = crops.transpose(0, 1)
        pixels = normalize_frames(crops.flatten(0, 1), self.image_mean, self.image_std)
        pixels = pixels.unflatten(0, (num_crops * num_clips, -1))
        return SampledVideo(pixels, crops[0], indices, timestamps, **whole)

    def sample_uncropped(
        self,
        video: VideoSource,
        *,
        rng: np.random.Generator | None = None,
        sampling: str | None = None,
        discarded: bool = False,
        segment: Segment = (None, None),
        fps: float | None = None,
    ) -> Tensor:
        """Read the frames of one clip for training, resized but neither cropped nor normalized: (T', 3, h, w) uint8.

        Args:
            video: see `preprocess`.
            rng: where the rule draws its frames from; None takes those of evaluation.
            sampling: overrides what is saved.
            discarded: read the frames between the kept ones too (`keep_every`), in order.
            segment: look at this part alone.
            fps: of sources without a clock.

        Raises:
            see `sample`.
        """
        kept, between, _ = split_kept_frames(self.num_frames, self.keep_every)
        interpolation = _INTERPOLATION[PILImageResampling(self.resample)]
        with VideoReader(video, fps=fps) as reader:
            height, width = short_side_size(reader.height, reader.width, self.size["shortest_edge"])
            frames, _ = _read_sampled(
                reader,
                sampling or self.sampling,
                segment,
                transform=lambda frame: resize_to(frame[None], height, width, interpolation)[0],
                places=sorted([*kept, *between]) if discarded else kept,
                num_samples=self.num_frames,
                rng=rng,
                training=rng is not None,
            )
        return frames

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Resize, center-crop and normalize frames that are decoded already: (N, 3, H, W) uint8 -> (N, 3, h, w)."""
        return normalize_frames(self._crop(frames, 1), self.image_mean, self.image_std)

    def _crop_frame(self, frame: Tensor, num_crops: int) -> Tensor:
        """Resize and crop one frame; within a video its size may change. (3, H, W) -> (crops, 3, h, w)."""
        return self._crop(frame[None], num_crops)

    def _crop(self, frames: Tensor, num_crops: int) -> Tensor:
        """Resize and crop frames, all at once on several cores: (N, 3, H, W) -> (crops * N, 3, h, w)."""
        interpolation = _INTERPOLATION[PILImageResampling(self.resample)]
        resized = resize_frames(frames, self.size["shortest_edge"], interpolation)
        crops = view_crops(
            resized, (self.crop_size["height"], self.crop_size["width"]), num_crops, self.crops_along_long_side
        )
        # one is not copied: torch would wait for its other threads, whose cores decode
        return crops[0] if len(crops) == 1 else torch.cat(crops)

    def preprocess(self, videos: VideoSource | Sequence[VideoSource], **kwargs: Any) -> BatchFeature:
        """Read videos: pixel_values_videos (B * V, T, 3, H, W), the V views of a video one behind another.

        Args:
            videos: one video or a list: path, URL, bytes, file, array, list of images or folder of frames.
            kwargs: `num_frames`, `sampling`, `num_clips`, `num_crops` override what is saved; `return_metadata=True`
                adds `video_metadata`, a list of what was looked at; `return_discarded=True` adds the frames that
                `keep_every` leaves out, for SLLM's training.
        """
        known = {name: kwargs.get(name) for name in ("num_frames", "sampling", "num_clips", "num_crops")}
        other = {"return_tensors", "return_discarded"}
        unknown = sorted(set(kwargs) - set(self.valid_kwargs.__annotations__) - {*known, *other})
        if unknown:
            raise TypeError(f"The video processor does not know {', '.join(unknown)}. Known: {', '.join(known)}.")
        one = is_one_video(videos)
        samples = [self.sample(video, **known) for video in ([videos] if one else videos)]
        if not samples:
            raise ValueError("The list of videos is empty. Give at least one.")
        data: dict[str, Any] = {"pixel_values_videos": torch.cat([sample.pixel_values for sample in samples])}
        if kwargs.get("return_discarded"):
            others = [self.sample(video, **known, discarded=True) for video in ([videos] if one else videos)]
            data["discarded_pixel_values"] = torch.cat([sample.pixel_values for sample in others])
        if kwargs.get("return_metadata"):
            hidden = ("pixel_values", "frames")
            data["video_metadata"] = [{k: v for k, v in vars(s).items() if k not in hidden} for s in samples]
        return BatchFeature(data, tensor_type=kwargs.get("return_tensors"), skip_tensor_conversion=["video_metadata"])

    def to_dict(self) -> dict[str, Any]:
        """Give what is saved, with the map that leads to the shim."""
        return {**super().to_dict(), "auto_map": auto_map(**self.shim_classes)}

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> list[str]:
        """Save the settings, and the shim beside them."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        write_shim(save_directory, set(self.shim_classes.values()))
        return super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoVideoProcessor") -> None:
        """Do nothing: a published folder carries the shim, never copies of this package's files."""


def is_one_video(videos: VideoSource | Sequence[VideoSource]) -> bool:
    """Tell one video from a list of videos: a list of images, or of arrays with three axes, is one video."""
    if not isinstance(videos, list | tuple):
        return True
    return bool(videos) and (hasattr(videos[0], "getexif") or getattr(videos[0], "ndim", 0) == 3)


def _read_sampled(
    reader: VideoReader,
    rule: str,
    segment: Segment,
    *,
    transform: Callable[[Tensor], Tensor],
    places: Sequence[int],
    num_samples: int,
    **options: Any,
) -> tuple[Tensor, list[int]]:
    """Read the frames at these places of each sampled clip, and tell which they are: what is left out is never decoded."""
    known_frames = None
    while known_frames != reader.num_frames:  # damage that is met while reading makes the video shorter
        motion = measure_motion(reader) if rule == "motion" else None
        known_frames = reader.num_frames
        first, stop = _frames_of_segment(reader, segment)
        options["motion"] = None if motion is None else motion[first : stop - 1]
        indices = [first + index for index in sample_indices(rule, stop - first, num_samples, **options)]
        clips = [indices[start : start + num_samples] for start in range(0, len(indices), num_samples)]
        indices = [clip[place] for clip in clips for place in places]
        frames = reader.frames(indices, transform=transform)
    return frames, indices


def _frames_of_segment(reader: VideoReader, segment: Segment) -> tuple[int, int]:
    """Give the first frame that is on the screen in a segment, and the one after its last."""
    start, end = segment
    try:
        first = 0 if start is None else reader.indices_at([start])[0]
        if end is None:
            return first, reader.num_frames
        appearing = reader.indices_between(start or 0.0, end)
    except ValueError as error:  # no clock, an empty segment, or one beyond the video's end
        raise VideoDecodeError(str(error)) from error
    return first, appearing[-1] + 1 if appearing else first + 1
