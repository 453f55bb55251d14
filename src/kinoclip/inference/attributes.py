"""Find attributes in a video: the phrases of a lexicon that CLIP sees in its frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch

from kinoclip.outputs import FrameFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.text.attributes import rank_attributes
from kinoclip.text.labels import load_names
from kinoclip.video import VideoSource
from kinoclip.video_processing import SampledVideo

from .computing import encode_on_cores
from .loading import load_recognizer


class AttributeFinder:
    """Describe videos by phrases of a lexicon, without any training.

    Args:
        model: a recognizer on a CLIP as it was trained; the official attributes are those of ViT-L/14.
        processor: its processor.
        lexicon: the phrases to choose from; the official lexicon is the class names of Kinetics-400.
        top_k: how many phrases describe a video.

    Source: BIKE sec. 2.2 and Table 6g; the official code publishes the phrases that were found, not their search.
    """

    @torch.inference_mode()
    def __init__(self, model: VideoRecognizer, processor: Any, lexicon: Sequence[str], top_k: int = 5):
        self.model, self.processor = model, processor
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
        return cls(*load_recognizer(clip, **options), load_names(lexicon), top_k)

    def find(self, video: VideoSource) -> list[str]:
        """Give the phrases that describe a video, best first."""
        return self.find_in(self.processor.video_processor.sample(video))

    @torch.inference_mode()
    def find_in(self, sample: SampledVideo, frames: FrameFeatures | None = None) -> list[str]:
        """Give the phrases that describe a decoded video; its frames are encoded unless they are given."""
        if frames is None:
            frames = encode_on_cores(self.model, sample.pixel_values.to(self.model.device, self.model.dtype))
        every_frame = frames.embeds.flatten(0, 1)[None]
        indices, _ = rank_attributes(every_frame, self._embeds, min(self.top_k, len(self.lexicon)))
        return [self.lexicon[i] for i in indices[0].tolist()]
