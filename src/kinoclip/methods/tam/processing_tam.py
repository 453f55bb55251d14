"""The processor of TAM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from transformers import ProcessorMixin
from transformers.image_utils import PILImageResampling
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from kinoclip.processing import RecognizerProcessor
from kinoclip.video_processing import RecognizerVideoProcessor


class TamProcessor(RecognizerProcessor):
    """Files to the inputs of TAM; it has no tokenizer, since TAM reads no text.

    Args:
        video_processor: reads the videos.
    """

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "TamProcessor"}
    default_sampling: ClassVar[str] = "segment_shared_offset"

    def __init__(self, video_processor: RecognizerVideoProcessor):
        ProcessorMixin.__init__(self, video_processor)  # without the tokenizer and templates of the others

    @classmethod
    def for_config(cls, config: Any, tokenizer: None = None, **options: Any) -> TamProcessor:
        """Build the processor of a TAM.

        Args:
            config: the recognizer's.
            tokenizer: none.
            options: `sampling`, `num_clips`, `num_crops` of its video processor.

        Raises:
            ValueError: a tokenizer was given.

        Source of mean, deviation, size and interpolation: official validation transforms, as ImageNet's.
        """
        if tokenizer is not None:
            raise ValueError("TAM reads no text, so its processor has no tokenizer. Leave it out.")
        imagenet = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}
        return cls(cls.build_videos(config, resample=PILImageResampling.BILINEAR, **imagenet, **options))

    def encode_labels(self, labels: Sequence[str]) -> dict[str, Tensor]:
        """Refuse labels.

        Raises:
            ValueError: always.
        """
        raise ValueError("TAM reads no text: it knows only its own labels. Leave labels out.")

    def encode_attributes(self, attributes: Sequence[Sequence[str]]) -> Tensor:
        """Refuse attributes.

        Raises:
            ValueError: always.
        """
        raise ValueError("TAM reads no text, so it has no attributes branch. Leave attributes out.")
