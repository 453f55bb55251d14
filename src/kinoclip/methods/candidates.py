"""Set the texts of a model: candidate labels, with descriptions or second names, and a corpus of entities."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kinoclip.modeling.layers.text_branches import find_second_tower
from kinoclip.modeling.outputs import TextFeatures
from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.text.chinese import CHINESE, labels_without_chinese
from kinoclip.text.descriptions import describe_labels
from kinoclip.text.entities import Entity, load_corpus
from kinoclip.text.labels import check_labels

Corpus = str | Path | Sequence[str | Path]
ChineseNames = str | Path | Mapping[str, Any]


@torch.inference_mode()
def encode_candidates(
    model: VideoRecognizer,
    processor: RecognizerProcessor,
    labels: Sequence[str],
    *,
    name: str = "",
    descriptions: Mapping[str, str] | None = None,
    chinese: Mapping[str, Sequence[str]] | None = None,
    encode: Callable[..., TextFeatures] | None = None,
) -> TextFeatures:
    """Encode K labels as the candidates of a model, whose `name` is for errors.

    `descriptions` map a label to a sentence that is read together with it, `chinese` are the second names of
    `set_chinese_names`; if they are passed, every label needs one. `encode` is called in place of `model.encode_text`.

    Raises:
        ValueError: labels are empty, too long or duplicated, lack a description or a Chinese name, or cannot be read.
    """
    check_labels(labels)
    if not processor.reads_text:
        raise ValueError(f"The model {name} has no tokenizer, so it knows only its own labels. Leave labels out.")
    language = processor.second_language
    missing = [] if chinese is None else labels_without_chinese(labels, chinese, language)
    if missing:
        advice = ", or write the label in Chinese" if language == CHINESE else ""
        raise ValueError(f"The label {missing[0]!r} has no {language} name. Add it to the {language} names{advice}.")
    inputs = processor(text=labels if descriptions is None else describe_labels(labels, descriptions))
    return (encode or model.encode_text)(**{key: tensor.to(model.device) for key, tensor in inputs.items()})


def set_corpus(
    model: VideoRecognizer, processor: RecognizerProcessor, corpus: Corpus | Sequence[Entity], name: str = ""
) -> None:
    """Set the entities that a model aligns frames with: a corpus of `load_corpus`, or entities; `name` is for errors.

    Raises:
        FileNotFoundError, ValueError: the entities cannot be read, or this model or its processor cannot use them.
    """
    inner: Any = model.unwrap()
    if not hasattr(inner, "set_corpus"):
        raise ValueError(f"The model {name} has no corpus of entities; only ALT models have. Leave the corpus out.")
    if processor.tokenizer is None:
        raise ValueError(f"The model {name} has no tokenizer, so it cannot read another corpus. Leave the corpus out.")
    is_loaded = not isinstance(corpus, str | Path) and all(isinstance(entity, Entity) for entity in corpus)
    inner.set_corpus(corpus if is_loaded else load_corpus(corpus), processor=processor)


def set_chinese_names(
    model: VideoRecognizer, processor: RecognizerProcessor, names: ChineseNames, name: str = ""
) -> dict[str, list[str]]:
    """Set the second names of labels in a processor, for a model with a branch that reads them, and return them.

    `names` is a packaged label set such as "kinetics400", a file, or label to name; `name` that of the model, for
    errors. The processor is changed; its templates and context length for second names stay, and whether all names of a
    label are averaged.

    Raises:
        FileNotFoundError, ValueError: the names cannot be read, or this model or its processor cannot use them.
    """
    if "chinese_input_ids" not in model.used_inputs():
        raise ValueError(
            f"The model {name} has no Chinese branch, so it cannot read Chinese names, nor those of another language. Leave them "
            "out, or add a branch with `model.load_chinese` or `model.load_second_text`."
        )
    config = model.config
    tower = getattr(getattr(config, "recognizer_config", None) or config, "second_tower", "chinese_clip")
    if processor.chinese_tokenizer is None and find_second_tower(tower).tokenizer_class is not None:
        raise ValueError(
            f"The model {name} has a Chinese branch, but no tokenizer for it. Call `set_chinese` of its processor "
            "with the tokenizer of its Chinese-CLIP, and save the processor beside the model."
        )
    stored = processor.chinese or {}
    options = {key: stored[key] for key in ("templates", "context_length") if key in stored}
    averages = any(len(variants) > 1 for variants in stored.get("labels", {}).values())
    processor.set_chinese(processor.chinese_tokenizer, names, tower=tower, all_variants=averages, **options)
    chinese: dict[str, list[str]] = (processor.chinese or {})["labels"]
    return chinese
