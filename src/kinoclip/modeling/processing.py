"""Labels and videos to the inputs of a recognizer; saved beside the weights."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor
from transformers import BatchFeature, CLIPTokenizer, ProcessorMixin
from transformers.processing_utils import ProcessingKwargs
from transformers.utils.hub import cached_file

from kinoclip.modeling.checkpoints import naming
from kinoclip.modeling.configuration import ClipRecognizerConfig, RecognizerConfig
from kinoclip.modeling.layers.text_branches import ChineseBranch, find_second_tower
from kinoclip.modeling.shim import ShimMixin, auto_map, write_shim
from kinoclip.modeling.video_processing import RecognizerVideoProcessor
from kinoclip.text.attributes import attribute_sentence
from kinoclip.text.chinese import CHINESE, chinese_texts, labels_without_chinese, load_second_names
from kinoclip.text.labels import check_labels
from kinoclip.text.templates import TEMPLATES, check_template, fill_template
from kinoclip.text.tokens import clean_text, tokenize_texts
from kinoclip.video import VideoSource

_CHINESE_FOLDER = "chinese_tokenizer"
# of a processor that is loaded; published ones have at most 16 templates of a sentence each, and 77 positions
_MAX_TEMPLATES, _MAX_TEMPLATE_LENGTH, _MAX_POSITIONS = 1000, 10_000, 10_000
# options of a call
_TEXT_OPTIONS = ("padding", "max_length", "truncation", "return_tensors")
_GROUPS = ("text_kwargs", "videos_kwargs", "common_kwargs")
# options of `from_pretrained` that say where a file is fetched from
_FETCHING = ("cache_dir", "force_download", "local_files_only", "token", "revision")


class RecognizerProcessor(ShimMixin, ProcessorMixin):
    """Labels and files to the inputs of a recognizer. Methods differ in the defaults below.

    Args:
        video_processor: reads the videos.
        tokenizer: CLIP's; None for a model that only knows its own labels.
        templates: P sentences around a label, one `{}` each.
        context_length: L, to which every text is padded with id 0, as CLIP's authors pad.
        return_word_mask: also return which tokens are the label's own, for methods that read its words.
        attribute_template: the sentence around a video's attributes; "{}" leaves the prompt out (BIKE Table 6c).
        num_attributes: how many attributes the sentence takes, best first (BIKE Table 6d).
        chinese: second names of labels, as stored by `set_chinese`.
    """

    default_templates: ClassVar[tuple[str, ...]] = ("a video of {}.",)
    default_sampling: ClassVar[str] = "segment_start"
    tokenizer: Any
    chinese: dict[str, Any] | None
    chinese_tokenizer: Any = None

    def __init__(
        self,
        video_processor: RecognizerVideoProcessor,
        tokenizer: Any | None = None,
        templates: Sequence[str] | None = None,
        context_length: int = 77,
        return_word_mask: bool = False,
        attribute_template: str = TEMPLATES["bike"],
        num_attributes: int = 5,
        chinese: Mapping[str, Any] | None = None,
    ):
        super().__init__(video_processor, tokenizer)
        # no tokenizer, no texts: nothing is put into templates
        self.templates = [] if tokenizer is None else list(templates or self.default_templates)
        self.context_length = context_length
        self.return_word_mask = return_word_mask
        self.attribute_template = attribute_template
        self.num_attributes = num_attributes
        self.chinese = None if chinese is None else dict(chinese)
        _check_texts((*self.templates, attribute_template), context_length)
        if self.chinese is not None:
            _check_texts(self.chinese["templates"], self.chinese["context_length"])

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """Check the class of a part; the tokenizer may be None."""
        return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    @property
    def reads_text(self) -> bool:
        """Whether labels can be encoded: there is a tokenizer."""
        return self.tokenizer is not None

    @classmethod
    def from_clip(cls, clip: str | Path, config: ClipRecognizerConfig, **options: Any) -> Self:
        """Build the processor of a recognizer on a CLIP folder or hub id, with its tokenizer; see `for_config`."""
        return cls.for_config(config, load_tokenizer(clip, config.text_config.vocab_size), **options)

    @classmethod
    def for_config(cls, config: Any, tokenizer: Any | None, **options: Any) -> Self:
        """Build the processor of a recognizer; `options` are its own, or `sampling`, `num_clips`, `num_crops` of its videos."""
        choices = {name: options.pop(name) for name in ("sampling", "num_clips", "num_crops") if name in options}
        implied = {
            "context_length": config.text_config.max_position_embeddings,
            "return_word_mask": config.reads_label_words,
        }
        return cls(cls.build_videos(config, **choices), tokenizer, **{**implied, **options})

    @classmethod
    def build_videos(cls, config: RecognizerConfig, **options: Any) -> RecognizerVideoProcessor:
        """Build the video processor of a recognizer.

        Source of the sizes: official BIKE, Text4Vis and TAM: short side 256 for images of 224, otherwise the image size.
        """
        size = config.frame_size
        sizes = {"size": {"shortest_edge": 256 if size == 224 else size}, "crop_size": {"height": size, "width": size}}
        return RecognizerVideoProcessor(
            num_frames=config.num_frames, **sizes, **{"sampling": cls.default_sampling, **options}
        )

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        videos: VideoSource | Sequence[VideoSource] | None = None,
        *,
        attributes: Sequence[Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Make input_ids (P, K, L) from labels, and pixel_values_videos (B * V, T, 3, H, W) from videos.

        Args:
            text: K labels, without a template.
            videos: as `RecognizerVideoProcessor.preprocess` takes them, with its options as `kwargs`.
            attributes: phrases that describe each video, best first; they become attribute_input_ids (B, L).
            kwargs: options of `videos`; `max_length` and `truncation` of texts, which are always padded; both also as `videos_kwargs`
                and `text_kwargs`; `return_tensors` is "pt".
        """
        text_options, video_options = self._split_options(kwargs)
        if text is None and videos is None and attributes is None:
            raise ValueError("There is nothing to process. Pass `text` (labels), `videos`, or both.")
        data: dict[str, Any] = {}
        if text is not None:
            data |= self.encode_labels([text] if isinstance(text, str) else text, **text_options)
        if videos is not None:
            data |= self.video_processor(videos, **video_options)
        if attributes is not None:
            data["attribute_input_ids"] = self.encode_attributes(attributes)
        return BatchFeature(data, skip_tensor_conversion=["video_metadata"])

    def _split_options(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Check the options of a call, and return those of `encode_labels` and of the video processor."""
        known = {*_TEXT_OPTIONS, *self.video_processor.valid_kwargs.__annotations__}
        groups = [options, *(options.get(name) or {} for name in _GROUPS)]
        unknown = sorted({name for group in groups for name in group} - known - set(_GROUPS))
        if unknown:
            raise TypeError(
                f"Unknown options of the processor: {', '.join(unknown)}. Known: {', '.join(sorted(known))}."
            )
        merged = self._merge_kwargs(
            ProcessingKwargs, **{name: value for name, value in options.items() if value is not None}
        )
        text, videos = merged["text_kwargs"], merged["videos_kwargs"]
        for group in (text, videos):
            if group.pop("return_tensors", "pt") not in ("pt", None):
                raise ValueError(f"return_tensors must be 'pt' (torch tensors), got {options}.")
        if text.pop("padding", True) in (False, "do_not_pad"):
            raise ValueError(
                "padding must be True: texts are padded to the length that the text tower was trained with."
            )
        return text, videos

    @property
    def model_input_names(self) -> list[str]:
        """The names of the inputs that are made."""
        return [*(["input_ids"] if self.reads_text else []), *self.video_processor.model_input_names]

    def encode_attributes(self, attributes: Sequence[Sequence[str]]) -> Tensor:
        """Encode one sentence of each video's best attributes: ids (B, L), truncated if too long.

        Source: official BIKE `datasets/video_attributes.py`: phrases joined by a comma, 77 tokens with the end token kept.
        """
        template = self.attribute_template
        sentences = [attribute_sentence(list(phrases)[: self.num_attributes], template) for phrases in attributes]
        ids, _ = tokenize_texts(self.tokenizer, sentences, context_length=self.context_length, too_long="truncate")
        return ids

    def encode_labels(
        self, labels: Sequence[str], *, max_length: int | None = None, truncation: bool = False
    ) -> dict[str, Tensor]:
        """Encode labels in every template: input_ids (P, K, L), and word_mask (P, K, L) if `return_word_mask`.

        `max_length` is L instead of `context_length`; with `truncation` longer texts are cut.

        Raises:
            ValueError: the tokenizer is missing, or labels are empty, duplicated or too long for the text tower.
        """
        if not self.reads_text:
            raise ValueError("This processor has no tokenizer: the model knows only its own labels. Leave labels out.")
        check_labels(labels)
        length = self.context_length if max_length is None else max_length
        too_long: Literal["truncate", "error"] = "truncate" if truncation else "error"
        rows = []
        for template in self.templates:
            texts = [fill_template(template, label) for label in labels]
            ids, _ = tokenize_texts(self.tokenizer, texts, labels=labels, context_length=length, too_long=too_long)
            rows.append(ids)
        encoded = {"input_ids": torch.stack(rows), **self._encode_chinese(labels)}
        if self.return_word_mask:
            encoded["word_mask"] = torch.stack([self._mark_words(one, labels, length) for one in self.templates])
        return encoded

    def _mark_words(self, template: str, labels: Sequence[str], length: int) -> Tensor:
        """Return which tokens of a filled template belong to the label: (K, L)."""
        mask = torch.zeros(len(labels), length, dtype=torch.bool)
        before = len(clean_text(template.partition("{}")[0] + "x")) - 1
        for row, label in enumerate(labels):
            label = clean_text(label)
            encoded = self.tokenizer(clean_text(fill_template(template, label)), return_offsets_mapping=True)
            for position, (start, end) in enumerate(encoded["offset_mapping"][:length]):
                mask[row, position] = start < end and start < before + len(label) and end > before
        return mask

    @property
    def second_tower(self) -> type[ChineseBranch]:
        """The kind of the text tower that reads the second names."""
        return find_second_tower((self.chinese or {}).get("tower", "chinese_clip"))

    @property
    def second_language(self) -> str:
        """The language of the second names; "second" if it is not known."""
        return str((self.chinese or {}).get("language", CHINESE))

    @property
    def second_tokenizer(self) -> Any:
        """The tokenizer of the second names, or None."""
        return self.tokenizer if self.second_tower.tokenizer_class is None else self.chinese_tokenizer

    def set_chinese(
        self,
        tokenizer: Any,
        labels: str | Path | Mapping[str, Any],
        *,
        templates: Sequence[str] = ("{}",),
        context_length: int | None = None,
        all_variants: bool = False,
        tower: str = "chinese_clip",
    ) -> Self:
        """Store second names of labels, in Chinese or another language, for recognizers with a branch that reads them.

        Args:
            tokenizer: of the text tower, or the folder or hub id that has it; None for the tower "shared".
            labels: a label set such as "kinetics400", a file, or label -> name (or several, best first); see
                `kinoclip.text.chinese.load_chinese_labels`.
            templates: the sentences around a name, one `{}` each.
            context_length: every text is padded to it; None is 52 for a Chinese-CLIP, as its authors pad, and otherwise that
                of the other texts.
            all_variants: average over all names of a label instead of taking the first.
            tower: the recognizer's `second_tower`.
        """
        for template in templates:
            check_template(template)
        branch = find_second_tower(tower)
        if isinstance(tokenizer, str | Path) and branch.tokenizer_class is not None:
            tokenizer = branch.tokenizer_class.from_pretrained(tokenizer)
        self.chinese_tokenizer = None if branch.tokenizer_class is None else tokenizer
        default = CHINESE if tower == "chinese_clip" else "second"
        language, names = load_second_names(labels, (self.chinese or {}).get("language", default))
        self.chinese = {
            "labels": names if all_variants else {label: variants[:1] for label, variants in names.items()},
            "templates": list(templates),
            "context_length": context_length or (52 if tower == "chinese_clip" else self.context_length),
            **({} if tower == "chinese_clip" else {"tower": tower}),
            **({} if language == CHINESE else {"language": language}),
        }
        return self

    def _encode_chinese(self, labels: Sequence[str]) -> dict[str, Tensor]:
        """Encode the second names of labels: chinese_input_ids (P, K, L), or nothing if no label has a name.

        A label without a name becomes a row of padding, and the model scores it by its English name alone.
        """
        if self.chinese is None or self.second_tokenizer is None:
            return {}
        known, language = self.chinese["labels"], self.second_language
        missing = labels_without_chinese(labels, known, language)
        if missing:
            listed = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
            warnings.warn(
                f"{len(missing)} of {len(labels)} labels have no {language} name and are scored by their English name alone: "
                f"{listed}. Pass names with `processor.set_chinese`"
                + (", or write the labels in Chinese." if language == CHINESE else "."),
                stacklevel=3,
            )
        if len(missing) == len(labels):
            return {}
        named = [number for number, label in enumerate(labels) if label not in missing]
        texts = [labels[number] for number in named]
        rows = chinese_texts(texts, known, self.chinese["templates"], language)
        length, tokenize = self.chinese["context_length"], self.second_tower.tokenize
        encoded = [tokenize(self.second_tokenizer, row, texts, length) for row in rows]
        ids = torch.full((len(rows), len(labels), length), encoded[0][1])
        ids[:, named] = torch.stack([row for row, _ in encoded])
        return {"chinese_input_ids": ids}

    def check_vocabulary(self, config: Any) -> None:
        """Raise a `ValueError` if a tokenizer makes ids or texts that the text towers of a model's config cannot read."""
        inner = getattr(config, "recognizer_config", None) or config
        chinese_length = None if self.chinese is None else self.chinese["context_length"]
        pairs = [
            (self.tokenizer, getattr(inner, "text_config", None), getattr(self, "context_length", 0)),
            (self.second_tokenizer, getattr(inner, "second_tower_config", None), chinese_length),
        ]
        for tokenizer, tower, length in pairs:
            if tokenizer is None or tower is None or length is None:
                continue
            largest = max(tokenizer.get_vocab().values(), default=0)
            if largest >= tower.vocab_size:
                raise ValueError(
                    f"The tokenizer has an id {largest}, but the text tower has {tower.vocab_size} tokens. Save them together."
                )
            if length > tower.max_position_embeddings:
                raise ValueError(
                    f"context_length must be at most {tower.max_position_embeddings}, the positions of the text tower, got {length}."
                )

    def to_dict(self) -> dict[str, Any]:
        """Return what is saved, with an `auto_map` to the shim."""
        return {**super().to_dict(), "auto_map": auto_map(AutoProcessor=type(self).__name__)}

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> list[str]:
        """Save settings and tokenizers, and the shim beside them; without a tokenizer, the video processor only."""
        if "tokenizer" in self.get_attributes() and not self.reads_text:
            return self.video_processor.save_pretrained(save_directory, **kwargs)
        write_shim(save_directory, {type(self).__name__, type(self.video_processor).__name__})
        if self.chinese_tokenizer is not None:
            self.chinese_tokenizer.save_pretrained(Path(save_directory) / _CHINESE_FOLDER)
        return super().save_pretrained(save_directory, **kwargs)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *args: Any, **kwargs: Any) -> Self:
        """Load settings and tokenizers; `tokenizer` is None where the source has none."""
        processor: Self = super().from_pretrained(name, *args, **kwargs)
        tokenizer_class = None if processor.chinese is None else processor.second_tower.tokenizer_class
        if tokenizer_class is not None:
            options = {option: kwargs[option] for option in _FETCHING if option in kwargs}
            processor.chinese_tokenizer = tokenizer_class.from_pretrained(name, subfolder=_CHINESE_FOLDER, **options)
        return processor

    @classmethod
    def _load_tokenizer_from_pretrained(cls, sub_processor_type: str, source: str, **kwargs: Any) -> Any | None:
        # from a source without a tokenizer, Transformers makes one of two tokens without an error
        if not has_tokenizer(source, **kwargs):
            return None
        return super()._load_tokenizer_from_pretrained(sub_processor_type, source, **kwargs)


def _check_texts(templates: Sequence[str], context_length: int) -> None:
    """Raise a `ValueError` if templates are malformed, or these or the positions are more than models need."""
    if len(templates) > _MAX_TEMPLATES:
        raise ValueError(f"There must be at most {_MAX_TEMPLATES} templates, got {len(templates)}.")
    for template in templates:
        check_template(template)
        if len(template) > _MAX_TEMPLATE_LENGTH:
            raise ValueError(f"A template must have at most {_MAX_TEMPLATE_LENGTH} characters, got {len(template)}.")
    if not 1 <= context_length <= _MAX_POSITIONS:
        raise ValueError(f"context_length must be from 1 to {_MAX_POSITIONS}, got {context_length}.")


def has_tokenizer(source: str | Path, **options: Any) -> bool:
    """Check whether a folder or hub id holds the file of a tokenizer; `options` are those of `from_pretrained`."""
    options = {name: options[name] for name in _FETCHING if name in options}
    for kind in ("missing_entries", "connection_errors", "gated_repo"):
        options[f"_raise_exceptions_for_{kind}"] = False
    return any(cached_file(source, name, **options) is not None for name in ("tokenizer.json", "vocab.json"))


def check_tokenizer(source: str | Path) -> None:
    """Raise a `ValueError` if a folder or hub id has no tokenizer."""
    with naming(f"The tokenizer in {source}"):
        found = has_tokenizer(source)
    if not found:
        raise ValueError(
            f"{source} lacks its tokenizer (tokenizer.json). Save the model's processor there, or name a folder or hub id "
            "that has one."
        )


def load_tokenizer(clip: str | Path, vocab_size: int | None = None) -> CLIPTokenizer:
    """Load the tokenizer of a folder or hub id in the Transformers layout; `vocab_size` is that of the model, if known.

    Raises:
        ValueError: it is missing or damaged, or its vocabulary has another size.
    """
    check_tokenizer(clip)
    with naming(f"The tokenizer in {clip}"):
        tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(clip)
    if vocab_size not in (None, len(tokenizer)):
        raise ValueError(f"The tokenizer of {clip} has {len(tokenizer)} tokens, but the model has {vocab_size}.")
    return tokenizer
