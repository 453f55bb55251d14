"""Files and label names to tensors. What is saved here travels with the weights: the sampling contract of a model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from transformers import BatchFeature, BertTokenizer, CLIPTokenizer, ProcessorMixin

from kinoclip.shim import auto_map, write_shim
from kinoclip.text.attributes import attribute_sentence
from kinoclip.text.chinese import chinese_texts, labels_without_chinese, load_chinese_labels, parse_chinese_labels
from kinoclip.text.templates import TEMPLATES, check_template, fill_template
from kinoclip.text.tokens import clean_text, tokenize_texts
from kinoclip.video import VideoSource
from kinoclip.video_processing import RecognizerVideoProcessor

_CHINESE_FOLDER = "chinese_tokenizer"


class RecognizerProcessor(ProcessorMixin):
    """Labels and files to the inputs of a recognizer.

    Args:
        video_processor: reads the videos.
        tokenizer: CLIP's.
        templates: the sentences around a label, one `{}` each; P of them.
        context_length: L, that every text is padded to, with id 0 as CLIP's authors pad.
        return_word_mask: say which tokens are the label's own (for methods that read its words).
        attribute_template: the sentence around a video's attributes, for recognizers with a branch for them; "{}" alone
            leaves the prompt out (BIKE Table 6c).
        num_attributes: how many attributes the sentence takes, best first (BIKE Table 6d).
        chinese: what `set_chinese` stored: the Chinese names of labels, for recognizers with a branch for them.
    """

    shim_classes: ClassVar[dict[str, str]] = {"AutoProcessor": "RecognizerProcessor"}
    default_templates: ClassVar[tuple[str, ...]] = ("a video of {}.",)
    default_sampling: ClassVar[str] = "segment_start"
    chinese: dict[str, Any] | None = None
    chinese_tokenizer: Any = None

    def __init__(
        self,
        video_processor: RecognizerVideoProcessor,
        tokenizer: Any,
        templates: Sequence[str] | None = None,
        context_length: int = 77,
        return_word_mask: bool = False,
        attribute_template: str = TEMPLATES["bike"],
        num_attributes: int = 5,
        chinese: Mapping[str, Any] | None = None,
    ):
        super().__init__(video_processor, tokenizer)
        self.templates = list(templates or self.default_templates)
        self.context_length = context_length
        self.return_word_mask = return_word_mask
        self.attribute_template = attribute_template
        self.num_attributes = num_attributes
        self.chinese = None if chinese is None else dict(chinese)
        for template in (*self.templates, attribute_template):
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
        """
        choices = {name: options.pop(name) for name in ("sampling", "num_clips", "num_crops") if name in options}
        videos = cls.build_videos(config, **choices)
        return videos if tokenizer is None else cls(videos, tokenizer, **{**cls.options_for(config), **options})

    @classmethod
    def build_videos(cls, config: Any, **options: Any) -> RecognizerVideoProcessor:
        """Build the video processor of a recognizer.

        Source of the sizes: official BIKE, Text4Vis and TAM: short side 256 for images of 224, otherwise the image size.
        """
        size = config.frame_size
        sizes = {"size": {"shortest_edge": 256 if size == 224 else size}, "crop_size": {"height": size, "width": size}}
        return RecognizerVideoProcessor(
            num_frames=config.num_frames, **sizes, **{"sampling": cls.default_sampling, **options}
        )

    @classmethod
    def options_for(cls, config: Any) -> dict[str, Any]:
        """Give the options of the processor that a recognizer's config decides."""
        return {"context_length": config.text_config.max_position_embeddings}

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        videos: VideoSource | Sequence[VideoSource] | None = None,
        *,
        attributes: Sequence[Sequence[str]] | None = None,
        return_tensors: str | None = "pt",
        **kwargs: Any,
    ) -> BatchFeature:
        """Make inputs: input_ids (P, K, L) from labels, pixel_values_videos (B * V, T, 3, H, W) from videos.

        Args:
            text: K labels, without a template.
            videos: see `RecognizerVideoProcessor.preprocess`.
            attributes: phrases that describe each video, best first; they become attribute_input_ids (B, L).
            return_tensors: "pt"; nothing else is made.
            kwargs: options of `RecognizerVideoProcessor.preprocess`.

        Raises:
            ValueError: no labels, an empty one, one too long for the text tower.
        """
        if return_tensors not in ("pt", None):
            raise ValueError(f"return_tensors is {return_tensors!r}. This processor makes torch tensors: use 'pt'.")
        if text is None and videos is None and attributes is None:
            raise ValueError("There is nothing to process. Give `text` (labels), `videos`, or both.")
        data: dict[str, Any] = {}
        if text is not None:
            data |= self.encode_labels([text] if isinstance(text, str) else text)
        if videos is not None:
            data |= self.video_processor(videos, **kwargs)
        if attributes is not None:
            data["attribute_input_ids"] = self.encode_attributes(attributes)
        return BatchFeature(data, skip_tensor_conversion=["video_metadata"])

    def encode_attributes(self, attributes: Sequence[Sequence[str]]) -> Tensor:
        """Make one sentence of each video's best attributes: ids (B, L), cut at the end if too long.

        Source: official BIKE `datasets/video_attributes.py`: phrases joined by a comma, 77 tokens with the end token kept.
        """
        template = self.attribute_template
        sentences = [attribute_sentence(list(phrases)[: self.num_attributes], template) for phrases in attributes]
        ids, _ = tokenize_texts(self.tokenizer, sentences, context_length=self.context_length, too_long="truncate")
        return ids

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
        encoded = {"input_ids": torch.stack(rows), **self._encode_chinese(labels)}
        if self.return_word_mask:
            encoded["word_mask"] = torch.stack([self._mark_words(template, labels) for template in self.templates])
        return encoded

    def set_chinese(
        self,
        tokenizer: Any,
        labels: str | Path | Mapping[str, str | Sequence[str]],
        *,
        templates: Sequence[str] = ("{}",),
        context_length: int = 52,
        all_variants: bool = False,
    ) -> Self:
        """Give labels their Chinese names, for recognizers with a Chinese branch.

        Args:
            tokenizer: of a Chinese-CLIP, or the folder or hub id that has it.
            labels: a label set such as "kinetics400", a file, or label -> Chinese name (or several, best first).
            templates: the sentences around a name, one `{}` each.
            context_length: every text is padded to it; 52 as Chinese-CLIP's authors pad.
            all_variants: average over all names of a label, instead of taking its first.

        Raises:
            ValueError: the names or templates cannot be used.
        """
        for template in templates:
            check_template(template)
        if isinstance(tokenizer, str | Path):
            tokenizer = BertTokenizer.from_pretrained(tokenizer)
        self.chinese_tokenizer = tokenizer
        names = parse_chinese_labels(labels, "labels") if isinstance(labels, Mapping) else load_chinese_labels(labels)
        self.chinese = {
            "labels": names if all_variants else {label: variants[:1] for label, variants in names.items()},
            "templates": list(templates),
            "context_length": context_length,
        }
        return self

    def _encode_chinese(self, labels: Sequence[str]) -> dict[str, Tensor]:
        """Encode the Chinese names of labels: chinese_input_ids (P, K, L).

        A label without a name becomes a row of padding, and the model scores it by its English name alone. Where no label has
        a name, there are no ids.
        """
        if self.chinese is None or self.chinese_tokenizer is None:
            return {}
        missing = labels_without_chinese(labels, self.chinese["labels"])
        if missing:
            listed = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
            warnings.warn(
                f"{len(missing)} of {len(labels)} labels have no Chinese name and are scored by their English name alone: "
                f"{listed}. Give names with `processor.set_chinese`, or write the labels in Chinese.",
                stacklevel=3,
            )
        if len(missing) == len(labels):
            return {}
        named = [number for number, label in enumerate(labels) if label not in missing]
        rows = chinese_texts([labels[number] for number in named], self.chinese["labels"], self.chinese["templates"])
        length, tokenizer = self.chinese["context_length"], self.chinese_tokenizer
        options = {"padding": "max_length", "truncation": True, "max_length": length}
        ids = torch.full((len(rows), len(labels), length), tokenizer.pad_token_id)
        ids[:, named] = torch.tensor([tokenizer(row, **options)["input_ids"] for row in rows])
        return {"chinese_input_ids": ids}

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
        if self.chinese_tokenizer is not None:
            self.chinese_tokenizer.save_pretrained(Path(save_directory) / _CHINESE_FOLDER)
        return super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Self:
        """Load settings and tokenizers."""
        processor: Self = super().from_pretrained(name, *args, **kwargs)
        if processor.chinese is not None:
            where = ("cache_dir", "force_download", "local_files_only", "token", "revision")
            options = {option: kwargs[option] for option in where if option in kwargs}
            processor.chinese_tokenizer = BertTokenizer.from_pretrained(name, subfolder=_CHINESE_FOLDER, **options)
        return processor

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
    except Exception as error:  # the tokenizers library raises that and nothing finer
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
