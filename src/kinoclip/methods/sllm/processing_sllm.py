"""The processor of SLLM: that of the recognizer it wraps, decoding only the frames that are kept."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from kinoclip.processing import RecognizerProcessor


class SllmProcessor(RecognizerProcessor):
    """Labels, attributes and files to the inputs of SLLM around any recognizer."""

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "SllmProcessor"}

    @classmethod
    def for_config(cls, config: Any, tokenizer: Any | None, **options: Any) -> Any:
        """Build the processor of the wrapped recognizer and let it leave out frames; see `RecognizerProcessor.for_config`."""
        wrapped: Any = PROCESSOR_MAPPING[type(config.recognizer_config)]
        base = wrapped.for_config(config.recognizer_config, tokenizer, **options)
        videos = getattr(base, "video_processor", base)
        videos.num_frames = config.num_frames
        # the frozen encoder wants the others too
        videos.keep_every = 1 if config.restoration == "frozen_encoder" else config.rate
        if tokenizer is None:
            return base
        saved = ("templates", "context_length", "return_word_mask", "attribute_template", "num_attributes")
        return cls(videos, tokenizer, **{name: getattr(base, name) for name in saved})
