"""Find attributes in a video: the phrases of a lexicon that CLIP sees in its frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from kinoclip.recognizer import VideoRecognizer
from kinoclip.text.attributes import rank_attributes
from kinoclip.text.labels import load_names
from kinoclip.video import VideoSource
from kinoclip.video_processing import RecognizerVideoProcessor, SampledVideo

from .computing import encode_on_cores
from .loading import load_recognizer


@dataclass(frozen=True)
class DescribedVideo(SampledVideo):
    """A video for a recognizer, with the frames that its attributes are found in.

    Args:
        attribute_pixels: (V, T, 3, H, W), of the finder's own processor.
    """

    attribute_pixels: Tensor


class AttributeFinder:
    """Describe videos by phrases of a lexicon, without any training.

    Args:
        model: a recognizer on a CLIP as it was trained; the official attributes are those of ViT-L/14.
        processor: its processor.
        lexicon: the phrases to choose from; the official lexicon is the class names of Kinetics-400.
        top_k: how many phrases describe a video.
        name: what the CLIP is called in records.

    Source: BIKE sec. 2.2 and Table 6g; the official code publishes the phrases that were found, not their search.
    """

    @torch.inference_mode()
    def __init__(self, model: VideoRecognizer, processor: Any, lexicon: Sequence[str], top_k: int = 5, name: str = ""):
        self.model, self.processor, self.name = model, processor, name
        self.lexicon, self.top_k = list(lexicon), top_k
        inputs = {name: tensor.to(model.device) for name, tensor in processor(text=self.lexicon).items()}
        self._embeds = model.encode_text(**inputs).embeds[0]

    @classmethod
    def load(cls, clip: str | Path, lexicon: str | Path | Sequence[str], top_k: int = 5, **options: Any) -> Self:
        """Load a CLIP by name; the lexicon is a file, a label set such as "kinetics400", or phrases.

        Raises:
            FileNotFoundError: no such lexicon or model.
            ValueError: the lexicon is empty or not readable.
        """
        return cls(*load_recognizer(clip, **options), load_names(lexicon), top_k, str(clip))

    def find(self, video: VideoSource) -> list[str]:
        """Give the phrases that describe a video, best first."""
        return self.find_in(self.processor.video_processor.sample(video))

    def read(self, video: VideoSource, videos: RecognizerVideoProcessor) -> SampledVideo:
        """Decode a video for a recognizer, and once more for this finder where the two do not see the same.

        Args:
            video: the source.
            videos: the recognizer's video processor.
        """
        sample, own = videos.sample(video), self.processor.video_processor
        if own.to_dict() == videos.to_dict():
            return sample
        return DescribedVideo(**vars(sample), attribute_pixels=own.sample(video).pixel_values)

    @torch.inference_mode()
    def find_in(self, sample: SampledVideo) -> list[str]:
        """Return the phrases that describe a video, which `read` or this finder's processor decoded."""
        pixels = sample.attribute_pixels if isinstance(sample, DescribedVideo) else sample.pixel_values
        frames = encode_on_cores(self.model, pixels.to(self.model.device, self.model.dtype))
        every_frame = frames.embeds.flatten(0, 1)[None]
        indices, _ = rank_attributes(every_frame, self._embeds, min(self.top_k, len(self.lexicon)))
        return [self.lexicon[i] for i in indices[0].tolist()]
