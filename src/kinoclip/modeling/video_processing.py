"""Video files to the pixels of a recognizer: frame sampling, resizing, crops, normalization."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import VideosKwargs
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.video_processing_utils import BaseVideoProcessor

from kinoclip.modeling.shim import ShimMixin, auto_map, write_shim
from kinoclip.video import VideoDecodeError, VideoReader, VideoSource
from kinoclip.video.motion import CURVES, load_curve
from kinoclip.video.sampling import cumulative_motion, sample_indices, split_kept_frames
from kinoclip.video.transforms import (
    Interpolation,
    normalize_frames,
    resize_to,
    short_side_size,
    view_crops,
)

Segment = tuple[float | None, float | None]
"""Start and end in seconds; None is the start or end of the video."""

# Largest settings of a processor that is loaded, and values of all views of a video: 2 GB in float32.
_MAX_SIZE, _MAX_FRAMES, _MAX_VALUES = 4096, 10_000, 500_000_000

_INTERPOLATION: dict[PILImageResampling, Interpolation] = {
    PILImageResampling.BICUBIC: "bicubic",
    PILImageResampling.BILINEAR: "bilinear",
}


@dataclass(frozen=True)
class SampledVideo:
    """The sampled frames of one video.

    Args:
        pixel_values: (V, T, 3, H, W), normalized; views are ordered by crop, then by clip.
        frames: (T', 3, h, w) uint8, the first crop of each frame before normalization, T' counting every clip.
        indices: of the frames in the video.
        timestamps: of the frames, in seconds after the first frame; None where the source has no clock.
        num_frames: of the video.
        duration_seconds: of the video; None where the source has no clock.
        frame_times: (V, T), of all sampled frames of each view, also those that `keep_every` leaves out: in seconds, or their
            numbers where the source has no clock. None unless `return_frame_times`.
    """

    pixel_values: Tensor
    frames: Tensor
    indices: list[int]
    timestamps: list[float] | None
    num_frames: int
    duration_seconds: float | None
    frame_times: Tensor | None = field(default=None, kw_only=True)


# options of a call that are not settings
_OF_A_CALL = ("return_tensors", "return_metadata", "return_discarded", "video_metadata", "device", "input_data_format")
_OVERRIDES = ("num_frames", "sampling", "num_clips", "num_crops")


def frame_inputs(batch: Mapping[str, Any], device: torch.device) -> dict[str, Tensor]:
    """Return what `encode_frames` takes of a batch or sample, on a device."""
    return {name: batch[name].to(device) for name in ("pixel_values_videos", "frame_times") if name in batch}


class RecognizerVideoProcessorKwargs(VideosKwargs, total=False):
    """Options of `RecognizerVideoProcessor` beyond those of every video processor."""

    sampling: str | None
    num_clips: int | None
    num_crops: int | None
    return_discarded: bool | None


class RecognizerVideoProcessor(ShimMixin, BaseVideoProcessor):
    """Decode the sampled frames of a video, resize, crop and normalize them; the defaults are CLIP's.

    Args:
        num_frames: T, frames per clip.
        sampling: rule of `kinoclip.video.sampling.sample_indices`; "cheapest" decodes the least.
        motion: what the rule "motion" follows (`kinoclip.video.motion.CURVES`): the differences of "pixels", of structure
            ("ssim") or of "features", for which the whole video is decoded once and the curve is kept; the motion "vectors" in
            the file, for which it is decoded without pixels; or the sizes of its "packets", which need no decoding.
        motion_exponent: 0 samples evenly, 1 follows the motion; MGSampler's is 0.5.
        motion_filter: (D, 3, h, w) with odd sides, the convolution of "features", such as PAN's.
        num_clips: clips per video, placed by the rule.
        keep_every: decode every n-th frame of each clip only, for SLLM.
        return_frame_times: also return the times of the sampled frames, for SLLM with `time_aware`.
        num_crops: crops per frame: 1 center; 3 left, right, center; 5 or 10 corners, center and their mirrors.
        crops_along_long_side: place 3 crops along the long side, see `view_crops`.
        size: `shortest_edge` that frames are resized to, or their `height` and `width`; with `do_resize=False` they keep their own.
        crop_size: `height` and `width` of a crop; with `do_center_crop=False` frames are not cropped.
        resample: bicubic or bilinear.
        rescale_factor: of pixels from 0 to 255, by default to values from 0 to 1; with `do_rescale=False` it is 1.
        image_mean: per channel, for rescaled values; with `do_normalize=False` it is 0 and the deviation 1.
        image_std: per channel, for rescaled values.
        fps: sample so many frames per second instead of `num_frames`.
        do_sample_frames: False takes all frames.
    """

    valid_kwargs = RecognizerVideoProcessorKwargs
    model_input_names = ["pixel_values_videos"]
    resample = PILImageResampling.BICUBIC
    image_mean = OPENAI_CLIP_MEAN
    image_std = OPENAI_CLIP_STD
    size = {"shortest_edge": 256}
    default_to_square = False
    crop_size = {"height": 224, "width": 224}
    do_resize = do_center_crop = do_rescale = do_normalize = do_convert_rgb = do_sample_frames = True
    num_frames = 8
    fps: float | None = None
    sampling = "segment_start"
    motion = "pixels"
    motion_exponent = 0.5
    motion_filter: Sequence[Any] | None = None
    num_clips = 1
    num_crops = 1
    keep_every = 1
    return_frame_times = False
    crops_along_long_side = False

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        for name in ("image_mean", "image_std"):
            values = getattr(self, name)
            if isinstance(values, int | float):
                setattr(self, name, values := [values] * 3)
            lowest = 0.0 if name == "image_std" else -math.inf
            if len(values) != 3 or not all(lowest < value < math.inf for value in values):
                allowed = "positive finite" if name == "image_std" else "finite"
                raise ValueError(f"{name} must be three {allowed} numbers, got {str(values)[:100]}.")
        self.check_motion()
        if self.resample not in _INTERPOLATION:
            raise ValueError(f"resample must be 2 (bilinear) or 3 (bicubic), got {self.resample!r}.")
        for name, only in {"do_convert_rgb": True, "do_pad": None, "data_format": "channels_first"}.items():
            if getattr(self, name, None) not in (None, only, only is True):
                raise ValueError(f"{name} must be left out: frames become RGB, channels first, without padding.")
        edges = ("shortest_edge",) if self.size.get("shortest_edge") is not None else ("height", "width")
        sizes = (self.crop_size["height"], self.crop_size["width"], *(self.size.get(name) for name in edges))
        counts = (self.num_frames, self.num_clips, self.num_crops, self.keep_every)
        for most, numbers in ((_MAX_SIZE, sizes), (_MAX_FRAMES, counts)):
            wrong = next((number for number in numbers if type(number) is not int or not 1 <= number <= most), None)
            if wrong is not None:
                raise ValueError(f"Sizes and counts of a video processor must be from 1 to {most}, got {wrong!r}.")
        num_values = 3 * self.crop_size["height"] * self.crop_size["width"] * math.prod(counts[:3])
        if num_values > _MAX_VALUES:
            raise ValueError(
                f"num_frames * num_clips * num_crops frames must have at most {_MAX_VALUES} values, got {num_values}."
            )

    def check_motion(self) -> None:
        """Raise a `ValueError` if the settings of motion sampling are invalid."""
        known = (*CURVES, "features")
        if self.motion not in known:
            raise ValueError(f"motion must be one of {', '.join(known)}, got {self.motion!r}.")
        cumulative_motion((), self.motion_exponent)
        shape = None if self.motion_filter is None else np.shape(self.motion_filter)
        is_filter = shape is not None and len(shape) == 4 and shape[1] == 3 and shape[2] % 2 == shape[3] % 2 == 1
        if is_filter != (self.motion == "features") or (shape is not None and not is_filter):
            raise ValueError(
                f'motion="features" needs motion_filter (D, 3, h, w) with odd h and w, and others need none; got '
                f"motion={self.motion!r} and a filter of shape {shape}."
            )

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
        """Sample, resize, crop and normalize the frames of one video.

        Args:
            video: see `preprocess`.
            num_frames: overrides the saved setting, as do the next three.
            sampling: see the class.
            num_clips: see the class.
            num_crops: see the class.
            discarded: read the frames between the kept ones instead (`keep_every`).
            segment: read this part only.
            fps: of sources without a clock.

        Raises:
            FileNotFoundError, VideoDecodeError: the video or the segment cannot be read.
        """
        num_clips, num_crops = num_clips or self.num_clips, num_crops or self.num_crops
        with VideoReader(video, fps=fps) as reader:
            if not self.do_sample_frames:
                num_frames, num_clips, sampling = reader.num_frames, 1, "segment_start"
            num_frames = num_frames or self._count_frames(reader)
            kept, between, _ = split_kept_frames(num_frames, self.keep_every)
            crops, indices, sampled = self._read_sampled(
                reader,
                sampling or self.sampling,
                segment,
                transform=lambda frame: self._crop(frame[None], num_crops),
                positions=between if discarded else kept,
                source=video,
                num_samples=num_frames,
                num_clips=num_clips,
            )
            timestamps = reader.timestamps(indices) if reader.duration_seconds is not None else None
            times = self._frame_times(reader, sampled)
            length = {"num_frames": reader.num_frames, "duration_seconds": reader.duration_seconds}
        crops = crops.transpose(0, 1)
        pixels = self.normalize(crops.flatten(0, 1))
        pixels = pixels.unflatten(0, (num_crops * num_clips, -1))
        times = None if times is None else times.unflatten(0, (num_clips, -1)).repeat(num_crops, 1)
        return SampledVideo(pixels, crops[0], indices, timestamps, frame_times=times, **length)

    def _count_frames(self, reader: VideoReader) -> int:
        """Return the number of frames of a clip, which depends on the video if `fps` is set."""
        if self.fps is None:
            return int(self.num_frames)
        if reader.duration_seconds is None:
            raise ValueError(
                f"{reader.name}: fps={self.fps} needs the duration of the video, which has no time stamps. Pass its frame rate as "
                'video_metadata=[{"fps": ...}], or num_frames.'
            )
        return max(1, int(reader.duration_seconds * self.fps))

    def _read_sampled(
        self,
        reader: VideoReader,
        rule: str,
        segment: Segment,
        *,
        transform: Callable[[Tensor], Tensor],
        positions: Sequence[int],
        source: VideoSource,
        num_samples: int,
        **options: Any,
    ) -> tuple[Tensor, list[int], list[int]]:
        """Read the frames at these positions of each sampled clip; return them, their indices and those of all sampled frames."""
        known_frames = None
        while known_frames != reader.num_frames:  # damaged frames found while reading make the video shorter
            motion = load_curve(source, reader, self.motion, self.motion_filter) if rule == "motion" else None
            known_frames = reader.num_frames
            first, stop = _frames_of_segment(reader, segment)
            options["motion"] = None if motion is None else motion[first : stop - 1]
            options["costs"] = reader.decoding_costs()[first:stop] if rule == "cheapest" else None
            indices = sample_indices(rule, stop - first, num_samples, exponent=self.motion_exponent, **options)
            sampled = [first + index for index in indices]
            clips = [sampled[start : start + num_samples] for start in range(0, len(sampled), num_samples)]
            indices = [clip[position] for clip in clips for position in positions]
            frames = reader.frames(indices, transform=transform)
        return frames, indices, sampled

    def _frame_times(self, reader: VideoReader, indices: Sequence[int]) -> Tensor | None:
        if not self.return_frame_times:
            return None
        return torch.tensor(indices if reader.duration_seconds is None else reader.timestamps(indices)).float()

    def sample_uncropped(
        self,
        video: VideoSource,
        *,
        rng: np.random.Generator | None = None,
        sampling: str | None = None,
        discarded: bool = False,
        segment: Segment = (None, None),
        fps: float | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Read the frames of one clip for training, resized but neither cropped nor normalized.

        Returns (T', 3, h, w) uint8, and the `frame_times` (T,) of `SampledVideo`. With `rng` frames are sampled as in training, otherwise as in evaluation; with `discarded` the frames between the kept
        ones (`keep_every`) are read too. The other arguments and errors are those of `sample`.
        """
        kept, between, _ = split_kept_frames(self.num_frames, self.keep_every)
        interpolation = _INTERPOLATION[PILImageResampling(self.resample)]
        with VideoReader(video, fps=fps) as reader:
            height, width = self._resized(reader.height, reader.width)
            frames, _, sampled = self._read_sampled(
                reader,
                sampling or self.sampling,
                segment,
                transform=lambda frame: resize_to(frame[None], height, width, interpolation)[0],
                positions=sorted([*kept, *between]) if discarded else kept,
                source=video,
                num_samples=self.num_frames,
                rng=rng,
                training=rng is not None,
            )
            return frames, self._frame_times(reader, sampled)

    def prepare_frames(self, frames: Tensor) -> Tensor:
        """Resize, center-crop and normalize decoded frames: (N, 3, H, W) uint8 -> (N, 3, h, w)."""
        return self.normalize(self._crop(frames, 1))

    def normalize(self, frames: Tensor) -> Tensor:
        """Rescale and normalize frames (N, 3, H, W) uint8 to float32, as far as the settings say."""
        mean, std = (self.image_mean, self.image_std) if self.do_normalize else ([0.0] * 3, [1.0] * 3)
        factor = 255 * (self.rescale_factor if self.do_rescale else 1)  # of values from 0 to 1
        if factor == 0:
            raise ValueError("rescale_factor must not be 0.")
        return normalize_frames(frames, [value / factor for value in mean], [value / factor for value in std])

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of frames of a size after resizing."""
        if not self.do_resize:
            return height, width
        if self.size.get("shortest_edge") is not None:
            return short_side_size(height, width, self.size["shortest_edge"])
        return self.size["height"], self.size["width"]

    def _crop(self, frames: Tensor, num_crops: int) -> Tensor:
        """Resize and crop frames: (N, 3, H, W) -> (crops * N, 3, h, w)."""
        interpolation = _INTERPOLATION[PILImageResampling(self.resample)]
        resized = resize_to(frames, *self._resized(*frames.shape[-2:]), interpolation)
        if not self.do_center_crop:
            if num_crops > 1:
                raise ValueError(f"num_crops must be 1 with do_center_crop=False, got {num_crops}.")
            return resized
        crops = view_crops(
            resized, (self.crop_size["height"], self.crop_size["width"]), num_crops, self.crops_along_long_side
        )
        # `cat` of one crop would copy it and wait for torch's threads, whose cores decode
        return crops[0] if len(crops) == 1 else torch.cat(crops)

    def preprocess(self, videos: VideoSource | Sequence[VideoSource], **kwargs: Any) -> BatchFeature:
        """Read videos: pixel_values_videos (B * V, T, 3, H, W), the V views of a video in succession.

        Args:
            videos: one video or several: see `VideoReader`.
            kwargs: settings that override the saved ones, such as `num_frames` or `size`; `video_metadata`, one dict per video, with
                the "fps" of sources without a clock; `return_metadata=True` adds such dicts; `return_discarded=True` adds the
                frames that `keep_every` leaves out, for SLLM's training; `device` of the result. The layout of arrays is detected.
        """
        unknown = sorted(set(kwargs) - set(self.valid_kwargs.__annotations__))
        if unknown:
            known = ", ".join(sorted(self.valid_kwargs.__annotations__))
            raise TypeError(f"Unknown options of the video processor: {', '.join(unknown)}. Known: {known}.")
        if kwargs.get("num_frames") is not None and kwargs.get("fps") is not None:
            raise ValueError("num_frames and fps both set the number of frames. Leave one of them out.")
        overrides = {name: kwargs.pop(name, None) for name in _OVERRIDES}
        settings = {k: v for k, v in kwargs.items() if k not in _OF_A_CALL and (v is not None or k.startswith("do_"))}
        changed = self.from_dict(self.to_dict(), **settings) if settings else self
        videos = [videos] if is_one_video(videos) else list(videos)
        clocks = _frame_rates(kwargs.get("video_metadata"), len(videos))
        read = [
            partial(changed.sample, video, fps=fps, **overrides) for video, fps in zip(videos, clocks, strict=True)
        ]
        samples = [sample() for sample in read]
        if not samples:
            raise ValueError("The list of videos is empty. Pass at least one.")
        shapes = {tuple(sample.pixel_values.shape[1:]) for sample in samples}
        if len(shapes) > 1:
            raise ValueError(
                f"The videos of one call must have one number and size of frames, got {sorted(shapes)}. Resize, crop and sample them, "
                "or pass them one by one."
            )
        data: dict[str, Any] = {"pixel_values_videos": torch.cat([sample.pixel_values for sample in samples])}
        if changed.return_frame_times:
            data["frame_times"] = torch.cat([sample.frame_times for sample in samples])
        if kwargs.get("return_discarded"):
            others = [sample(discarded=True) for sample in read]
            data["discarded_pixel_values"] = torch.cat([sample.pixel_values for sample in others])
        if kwargs.get("device") is not None:
            data = {name: tensor.to(kwargs["device"]) for name, tensor in data.items()}
        if kwargs.get("return_metadata", self.return_metadata):
            hidden = ("pixel_values", "frames", "frame_times")
            data["video_metadata"] = [{k: v for k, v in vars(s).items() if k not in hidden} for s in samples]
        return BatchFeature(data, tensor_type=kwargs.get("return_tensors"), skip_tensor_conversion=["video_metadata"])

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved, with an `auto_map` to the shim."""
        return {**super().to_dict(), "auto_map": auto_map(AutoVideoProcessor=type(self).__name__)}

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> list[str]:
        """Save the settings, and the shim beside them."""
        write_shim(save_directory, {type(self).__name__})
        return super().save_pretrained(save_directory, **kwargs)


def is_one_video(videos: VideoSource | Sequence[VideoSource]) -> bool:
    """Check whether the argument is one video: a list of images, or of arrays with three axes, is one.

    A generator, or a column of `datasets`, is many.
    """
    if not isinstance(videos, list | tuple):
        is_column = type(videos).__module__.partition(".")[0] == "datasets"
        return not is_column and (hasattr(videos, "read") or not hasattr(videos, "__next__"))
    return bool(videos) and (hasattr(videos[0], "getexif") or getattr(videos[0], "ndim", 0) == 3)


def _frame_rates(metadata: Any, count: int) -> list[float | None]:
    """Return the frame rate of each of `count` videos by their metadata; None where it is not given."""
    rows = [None] * count if metadata is None else metadata if isinstance(metadata, list | tuple) else [metadata]
    rows = [row[0] if isinstance(row, list | tuple) else row for row in rows]
    if len(rows) != count:
        raise ValueError(f"video_metadata must have one entry per video, got {len(rows)} for {count} videos.")
    return [row.get("fps") if isinstance(row, Mapping) else getattr(row, "fps", None) for row in rows]


def _frames_of_segment(reader: VideoReader, segment: Segment) -> tuple[int, int]:
    """Return the first frame that is visible in a segment, and the one after its last."""
    start, end = segment
    try:
        first = 0 if start is None else reader.indices_at([start])[0]
        if end is None:
            return first, reader.num_frames
        appearing = reader.indices_between(start or 0.0, end)
    except ValueError as error:  # no clock, an empty segment, or one beyond the video's end
        raise VideoDecodeError(str(error)) from error
    return first, appearing[-1] + 1 if appearing else first + 1
