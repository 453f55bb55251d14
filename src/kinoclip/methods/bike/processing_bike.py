"""The processor of BIKE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor
from transformers import BatchFeature

from kinoclip.processing import RecognizerProcessor, RecognizerVideoProcessor
from kinoclip.text.attributes import attribute_sentence
from kinoclip.text.templates import TEMPLATES, check_template
from kinoclip.text.tokens import tokenize_texts
from kinoclip.video import VideoSource


class BikeProcessor(RecognizerProcessor):
    """Labels, attributes and files to the inputs of BIKE.

    Args:
        attribute_template: the sentence around a video's attributes; "{}" alone leaves the prompt out (Table 6c).
        num_attributes: how many attributes the sentence takes, best first (Table 6d).
    """

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "BikeProcessor"}
    default_templates: ClassVar[tuple[str, ...]] = (TEMPLATES["bike"],)
    default_sampling: ClassVar[str] = "segment_start_closed"

    def __init__(
        self,
        video_processor: RecognizerVideoProcessor,
        tokenizer: Any,
        templates: Sequence[str] | None = None,
        context_length: int = 77,
        return_word_mask: bool = False,
        attribute_template: str = TEMPLATES["bike"],
        num_attributes: int = 5,
    ):
        super().__init__(video_processor, tokenizer, templates, context_length, return_word_mask)
        check_template(attribute_template)
        self.attribute_template = attribute_template
        self.num_attributes = num_attributes

    @classmethod
    def options_for(cls, config: Any) -> dict[str, Any]:
        """Give the options that the config decides: a word mask where saliency reads the label's words alone."""
        return {**super().options_for(config), "return_word_mask": config.saliency_words == "label"}

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        videos: VideoSource | Sequence[VideoSource] | None = None,
        *,
        attributes: Sequence[Sequence[str]] | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Make inputs; attributes, a list of phrases for each video, become attribute_input_ids (B, L)."""
        if text is None and videos is None and attributes is not None:
            data = BatchFeature()
        else:
            data = super().__call__(text, videos, return_tensors=return_tensors, **kwargs)
        if attributes is not None:
            data["attribute_input_ids"] = self.encode_attributes(attributes)
        return data

    def encode_attributes(self, attributes: Sequence[Sequence[str]]) -> Tensor:
        """Make one sentence of each video's best attributes: ids (B, L), cut at the end if too long.

        Source: official `datasets/video_attributes.py`: phrases joined by a comma, 77 tokens with the end token kept.
        """
        template = self.attribute_template
        sentences = [attribute_sentence(list(phrases)[: self.num_attributes], template) for phrases in attributes]
        ids, _ = tokenize_texts(self.tokenizer, sentences, context_length=self.context_length, too_long="truncate")
        return ids
