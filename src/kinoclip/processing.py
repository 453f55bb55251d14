"""Files and label names to tensors. What is saved here travels with the weights: the sampling contract of a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from transformers import BatchFeature, CLIPTokenizer, ProcessorMixin
from transformers.image_utils import PILImageResampling
from transformers.processing_utils import VideosKwargs
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.video_processing_utils import BaseVideoProcessor

from kinoclip.shim import auto_map, write_shim
from kinoclip.text.templates import check_template, fill_template
from kinoclip.text.tokens import clean_text, tokenize_texts
from kinoclip.video import VideoReader, VideoSource
from kinoclip.video.sampling import sample_indices
from kinoclip.video.transforms import normalize_frames, resize_frame, view_crops


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
    """Decode exactly the sampled frames of a video, resize, crop and normalize them as CLIP was trained.

    Args:
        num_frames: T, frames per clip.
        sampling: rule of `kinoclip.video.sampling.sample_indices`.
        num_clips: clips per video, spread over it by the rule.
        num_crops: crops per frame: 1 center; 3 left, right, center; 5 or 10 corners, center and their mirrors.
        size: `shortest_edge` that frames are resized to, bicubic.
        crop_size: `height` and `width` of a crop.
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
    ) -> SampledVideo:
        """Read one video as the model wants it.

        Raises:
            FileNotFoundError, VideoDecodeError: the video cannot be read; the message says why.
        """
        num_frames = num_frames or self.num_frames
        num_clips, num_crops = num_clips or self.num_clips, num_crops or self.num_crops
        with VideoReader(video) as reader:
            known_frames = None
            while known_frames != reader.num_frames:  # damage that is met while reading makes the video shorter
                known_frames = reader.num_frames
                indices = sample_indices(sampling or self.sampling, known_frames, num_frames, num_clips=num_clips)
                crops = reader.frames(indices, transform=partial(self._crop, num_crops=num_crops)).transpose(0, 1)
            timestamps = reader.timestamps(indices) if reader.duration_seconds is not None else None
            whole = {"num_frames": reader.num_frames, "duration_seconds": reader.duration_seconds}
        pixels = normalize_frames(crops.flatten(0, 1), self.image_mean, self.image_std)
        pixels = pixels.unflatten(0, (num_crops * num_clips, num_frames))
        return SampledVideo(pixels, crops[0], indices, timestamps, **whole)

    def _crop(self, frame: Tensor, num_crops: int) -> Tensor:
        """Resize and crop one frame; within a video its size may change. (3, H, W) -> (crops, 3, h, w)."""
        resized = resize_frame(frame, self.size["shortest_edge"])
        crops = view_crops(resized[None], (self.crop_size["height"], self.crop_size["width"]), num_crops)
        return torch.cat(crops)

    def preprocess(self, videos: VideoSource | Sequence[VideoSource], **kwargs: Any) -> BatchFeature:
        """Read videos: pixel_values_videos (B * V, T, 3, H, W), the V views of a video one behind another.

        Args:
            videos: one video or a list: path, URL, bytes, file, array, list of images or folder of frames.
            kwargs: `num_frames`, `sampling`, `num_clips`, `num_crops` override what is saved; `return_metadata=True`
                adds `video_metadata`, a list of what was looked at.
        """
        known = {name: kwargs.get(name) for name in ("num_frames", "sampling", "num_clips", "num_crops")}
        unknown = sorted(set(kwargs) - set(self.valid_kwargs.__annotations__) - {*known, "return_tensors"})
        if unknown:
            raise TypeError(f"The video processor does not know {', '.join(unknown)}. Known: {', '.join(known)}.")
        one = is_one_video(videos)
        samples = [self.sample(video, **known) for video in ([videos] if one else videos)]
        if not samples:
            raise ValueError("The list of videos is empty. Give at least one.")
        data: dict[str, Any] = {"pixel_values_videos": torch.cat([sample.pixel_values for sample in samples])}
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


class RecognizerProcessor(ProcessorMixin):
    """Labels and files to the inputs of a recognizer.

    Args:
        video_processor: reads the videos.
        tokenizer: CLIP's.
        templates: the sentences around a label, one `{}` each; P of them.
        context_length: L, that every text is padded to, with id 0 as CLIP's authors pad.
        return_word_mask: say which tokens are the label's own (for methods that read its words).
    """

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "RecognizerProcessor"}
    default_templates: ClassVar[tuple[str, ...]] = ("a video of {}.",)
    default_sampling: ClassVar[str] = "segment_start"

    def __init__(
        self,
        video_processor: RecognizerVideoProcessor,
        tokenizer: Any,
        templates: Sequence[str] | None = None,
        context_length: int = 77,
        return_word_mask: bool = False,
    ):
        super().__init__(video_processor, tokenizer)
        self.templates = list(templates or self.default_templates)
        self.context_length = context_length
        self.return_word_mask = return_word_mask
        for template in self.templates:
            check_template(template)

    @classmethod
    def from_clip(cls, clip: str | Path, config: Any, **options: Any) -> Self:
        """Build the processor for a recognizer on a CLIP, with the tokenizer of that CLIP.

        Args:
            clip: a folder or hub id in the Transformers layout.
            config: the recognizer's.
            options: of the processor.

        Raises:
            ValueError: there is no tokenizer under that name, or it belongs to another model.
        """
        processor: Self = cls.for_config(config, load_tokenizer(clip, config.text_config.vocab_size), **options)
        return processor

    @classmethod
    def for_config(cls, config: Any, tokenizer: Any | None, **options: Any) -> Any:
        """Build the processor of a recognizer on CLIP; without a tokenizer, its video processor alone.

        Args:
            config: the recognizer's.
            tokenizer: CLIP's.
            options: of the processor, or `sampling`, `num_clips`, `num_crops` of its video processor.

        Source of the sizes: official BIKE and Text4Vis: short side 256 for images of 224, otherwise the image size.
        """
        size = config.vision_config.image_size
        sampling = {name: options.pop(name) for name in ("sampling", "num_clips", "num_crops") if name in options}
        videos = RecognizerVideoProcessor(
            num_frames=config.num_frames,
            size={"shortest_edge": 256 if size == 224 else size},
            crop_size={"height": size, "width": size},
            **{"sampling": cls.default_sampling, **sampling},
        )
        return videos if tokenizer is None else cls(videos, tokenizer, **{**cls.options_for(config), **options})

    @classmethod
    def options_for(cls, config: Any) -> dict[str, Any]:
        """Give the options of the processor that a recognizer's config decides."""
        return {"context_length": config.text_config.max_position_embeddings}

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        videos: VideoSource | Sequence[VideoSource] | None = None,
        *,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Make inputs: input_ids (P, K, L) from labels, pixel_values_videos (B * V, T, 3, H, W) from videos.

        Args:
            text: K labels, without a template.
            videos: see `RecognizerVideoProcessor.preprocess`.
            return_tensors: "pt"; nothing else is made.
            kwargs: options of `RecognizerVideoProcessor.preprocess`.

        Raises:
            ValueError: no labels, an empty one, one too long for the text tower.
        """
        if return_tensors not in ("pt", None):
            raise ValueError(f"return_tensors is {return_tensors!r}. This processor makes torch tensors: use 'pt'.")
        if text is None and videos is None:
            raise ValueError("There is nothing to process. Give `text` (labels), `videos`, or both.")
        data: dict[str, Any] = {}
        if text is not None:
            data |= self.encode_labels([text] if isinstance(text, str) else text)
        if videos is not None:
            data |= self.video_processor(videos, **kwargs)
        return BatchFeature(data, skip_tensor_conversion=["video_metadata"])

    def encode_labels(self, labels: Sequence[str]) -> dict[str, Tensor]:
        """Put labels into every template: input_ids (P, K, L), and word_mask (P, K, L) where the method wants it.

        Raises:
            ValueError: no labels, an empty one, one too long for the text tower.
        """
        check_labels(labels)
        rows = []
        for template in self.templates:
            texts = [fill_template(template, label) for label in labels]
            ids, _ = tokenize_texts(self.tokenizer, texts, labels=labels, context_length=self.context_length)
            rows.append(ids)
        encoded = {"input_ids": torch.stack(rows)}
        if self.return_word_mask:
            encoded["word_mask"] = torch.stack([self._mark_words(template, labels) for template in self.templates])
        return encoded

    def _mark_words(self, template: str, labels: Sequence[str]) -> Tensor:
        """Mark the tokens of each label inside a template: (K, L)."""
        mask = torch.zeros(len(labels), self.context_length, dtype=torch.bool)
        before = len(clean_text(template.partition("{}")[0] + "x")) - 1
        for row, label in enumerate(labels):
            label = clean_text(label)
            encoded = self.tokenizer(clean_text(fill_template(template, label)), return_offsets_mapping=True)
            for position, (start, end) in enumerate(encoded["offset_mapping"]):
                mask[row, position] = start < end and start < before + len(label) and end > before
        return mask

    def to_dict(self) -> dict[str, Any]:
        """Give what is saved, with the map that leads to the shim."""
        return {**super().to_dict(), "auto_map": auto_map(**self.shim_classes)}

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> list[str]:
        """Save settings and tokenizer, and the shim beside them."""
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        write_shim(save_directory, {*self.shim_classes.values(), *self.video_processor.shim_classes.values()})
        return super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoProcessor") -> None:
        """Do nothing: a published folder carries the shim, never copies of this package's files."""


def load_tokenizer(clip: str | Path, vocab_size: int) -> CLIPTokenizer:
    """Load the tokenizer of a CLIP folder or hub id, and make sure that it speaks the model's language.

    Raises:
        ValueError: there is none under that name, or its vocabulary is of another size.
    """
    message = f"No tokenizer could be read from {clip}. Give a CLIP folder or hub id that has one."
    files = ("tokenizer.json", "vocab.json")
    # from a folder without these, Transformers makes a tokenizer of two tokens and says nothing
    if Path(clip).exists() and not any((Path(clip) / name).is_file() for name in files):
        raise ValueError(message)
    try:
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(clip)
    except (OSError, ValueError) as error:
        raise ValueError(message) from error
    if len(tokenizer) != vocab_size:
        raise ValueError(f"The tokenizer of {clip} has {len(tokenizer)} tokens, but the model knows {vocab_size}.")
    return tokenizer


def check_labels(labels: Sequence[str]) -> None:
    """Make sure that labels can be told apart.

    Raises:
        ValueError: there are none, one is empty or no text, or one comes twice.
    """
    if not labels:
        raise ValueError("There are no labels. Give at least one, such as labels=['diving', 'archery'].")
    seen: set[str] = set()
    for number, label in enumerate(labels, 1):
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"Label {number} of {len(labels)} is {label!r}. A label is a text that is not empty.")
        if label in seen:
            raise ValueError(f"The label {label!r} is given twice. Leave one of them out.")
        seen.add(label)


def is_one_video(videos: VideoSource | Sequence[VideoSource]) -> bool:
    """Tell one video from a list of videos: a list of images, or of arrays with three axes, is one video."""
    if not isinstance(videos, list | tuple):
        return True
    return bool(videos) and (hasattr(videos[0], "getexif") or getattr(videos[0], "ndim", 0) == 3)
