"""The model and processor that a recipe starts from: a CLIP, or a recognizer that is trained further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HOME
from transformers import AutoModel, AutoTokenizer
from transformers.utils.constants import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    OPENAI_CLIP_MEAN,
    OPENAI_CLIP_STD,
)

from kinoclip.conversion import naming
from kinoclip.data.kinoshapes.benchmark import benchmark_entities, chinese_names
from kinoclip.embedded import EMBEDDED, mini_clip_path
from kinoclip.inference.loading import check_finite, has_tokenizer, read_config
from kinoclip.methods import METHODS, Method
from kinoclip.processing import RecognizerProcessor
from kinoclip.recognizer import VideoRecognizer
from kinoclip.recognizer_config import RecognizerConfig
from kinoclip.text.descriptions import describe_labels, label_descriptions, read_descriptions
from kinoclip.text.labels import LABEL_SETS, spell_out
from kinoclip.text.templates import TEMPLATES, check_template
from kinoclip.whole_files import whole_folder

from .mini_clip.chinese import train_chinese
from .recipe import Recipe, recipe_names
from .run import say

# corpus and Chinese names that come from the procedural benchmark
KINOSHAPES = "kinoshapes"
_NORMALIZATION = {
    "clip": (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD),
    "imagenet": (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD),
}


def start_model(
    recipe: Recipe, labels: Sequence[str], start: str | Path | None = None
) -> tuple[VideoRecognizer, RecognizerProcessor]:
    """Build the model and the processor of a recipe; new weights depend on the recipe's seed alone.

    Args:
        recipe: says the method and its settings.
        labels: of the classes; a model that reads no text gets as many rows.
        start: a CLIP or a recognizer of this package (folder or hub id), or "mini"; the recipe's own when left out.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it is nothing that this recipe can start from, or damaged.
    """
    source = str(recipe.start if start is None else start)
    if source in recipe_names():
        raise ValueError(
            f"{recipe.name} trains the result of {source} further. Train that one, and give its folder as start."
        )
    source = str(mini_clip_path()) if source == EMBEDDED else source
    torch.manual_seed(recipe.training.seed)
    found = read_config(source) if source else None
    if found is not None:
        build = _from_clip if found.model_type == "clip" else _continue
        model = build(recipe, source, found, labels)
        check_finite(model, source)
    else:
        model = METHODS[recipe.method].model(_config(recipe, {}, labels))
    build_processor = METHODS[recipe.method].processor.for_config
    reads = model.config.reads_text or recipe.data["corpus"] is not None
    tokenizer = _load_tokenizer(source) if reads else None
    # the processor that reads the corpus of a classifier is not the classifier's own
    _give_texts(model, build_processor(model.config, tokenizer), recipe)
    clip = recipe.data["attribute_clip"]
    if clip is not None and getattr(found, "attributes", "none") == "none":  # else the branch is there, and trained
        tower: Any = getattr(model, "recognizer", model)
        tower.load_attribute_clip(mini_clip_path() if clip == EMBEDDED else clip)
    processor = build_processor(model.config, tokenizer if model.config.reads_text else None)
    _set_prompts(model, processor, recipe)
    return model, processor


def _load_tokenizer(source: str) -> Any:
    # from a folder without one, Transformers makes a tokenizer of two tokens and says nothing
    if Path(source).is_dir() and not has_tokenizer(source):
        raise ValueError(
            f"{source} lacks its tokenizer. Save the processor of the model there, or start from another folder."
        )
    with naming(f"The tokenizer in {source}"):
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)


def label_texts(recipe: Recipe, labels: Sequence[str]) -> list[str]:
    """Give what a model reads for each label: spelled out, or described, as the recipe has it."""
    data = recipe.data_settings
    if data.descriptions is not None:
        packaged = data.descriptions in LABEL_SETS
        sentences = label_descriptions(data.descriptions) if packaged else read_descriptions(data.descriptions)
        return describe_labels(labels, sentences)
    return [spell_out(label) for label in labels] if data.label_style == "words" else list(labels)


def _config(recipe: Recipe, towers: dict[str, Any], labels: Sequence[str]) -> RecognizerConfig:
    """Give the config of the recipe's method on some towers."""
    config = METHODS[recipe.method].config.from_clip_fields(towers, **recipe.model)
    return config if config.reads_text else _name_rows(config, labels)


def _name_rows(config: RecognizerConfig, labels: Sequence[str]) -> RecognizerConfig:
    """Give a classifier one row for each label."""
    rows = {"id2label": dict(enumerate(labels)), "label2id": {label: row for row, label in enumerate(labels)}}
    inner = _wrapped(config)
    if inner is None:
        return type(config)(**{**config.to_dict(), **rows})
    renamed = type(inner)(**{**inner.to_dict(), **rows})
    return type(config)(**{**config.to_dict(), **rows, "recognizer_config": renamed})


def _wrapped(config: RecognizerConfig) -> RecognizerConfig | None:
    inner: RecognizerConfig | None = getattr(config, "recognizer_config", None)
    return inner


def _from_clip(recipe: Recipe, source: str, clip: Any, labels: Sequence[str]) -> VideoRecognizer:
    """Build the method on the towers of a CLIP."""
    towers = {"text_config": clip.text_config.to_dict(), "vision_config": clip.vision_config.to_dict()}
    shared = {"projection_dim": clip.projection_dim, "logit_scale_init_value": clip.logit_scale_init_value}
    config = _config(recipe, {**towers, **shared}, labels)
    inner = _wrapped(config)
    model_class: Any = _method_of(inner or config).model
    if not hasattr(model_class, "from_clip"):
        raise ValueError(f"{recipe.method} is not built on a CLIP. Start from a folder of its own, or from nothing.")
    model: VideoRecognizer = model_class.from_clip(source, **_fields(inner or config))
    return model if inner is None else _wrap(recipe, model, config)


def _fields(config: RecognizerConfig) -> dict[str, Any]:
    """Give the settings of a config, and the names of its rows."""
    names = {} if config.reads_text else {"id2label": config.id2label, "label2id": config.label2id}
    return {**{name: getattr(config, name) for name in type(config).settings() if name != "num_labels"}, **names}


def _wrap(recipe: Recipe, inner: VideoRecognizer, config: RecognizerConfig) -> VideoRecognizer:
    method: Any = METHODS[recipe.method]
    outer = {name: getattr(config, name) for name in method.config.settings()}
    model: VideoRecognizer = method.model.from_recognizer(inner, **outer)
    return model


def _continue(recipe: Recipe, source: str, found: Any, labels: Sequence[str]) -> VideoRecognizer:
    """Load a recognizer of this package with the recipe's settings; only what it lacks starts anew."""
    wanted = METHODS[recipe.method].config
    # the kind of recognizer that the recipe's method wraps, if it does
    inner = _wrapped(wanted.from_clip_fields({}, **recipe.model))
    if isinstance(found, wanted):
        return _load(recipe, source, found, _with_fields(found, recipe.model, labels))
    if inner is None or not isinstance(found, type(inner)):
        raise ValueError(
            f"{source} is a {found.model_type!r} model, and {recipe.name} trains {wanted.model_type!r}. Start from a CLIP, or "
            "from a model of that method."
        )
    own = set(wanted.settings())
    inside = {name: value for name, value in recipe.model.items() if name not in own and name != "recognizer"}
    model = _load(recipe, source, found, _with_fields(found, inside, labels))
    outside = {name: value for name, value in recipe.model.items() if name in own}
    build: Any = wanted
    return _wrap(recipe, model, build(recognizer_config=model.config, **outside))


def _with_fields(config: Any, fields: dict[str, Any], labels: Sequence[str]) -> RecognizerConfig:
    """Change fields of a saved config, those of what it wraps too, and leave its candidates out."""
    saved = {**config.to_dict(), "candidate_shapes": None}
    for name in ("id2label", "label2id", "num_labels"):
        saved.pop(name, None)
    inner = _wrapped(config)
    if inner is not None:
        own = set(type(config).settings())
        inside = {name: value for name, value in fields.items() if name not in own and name != "recognizer"}
        saved["recognizer_config"] = _with_fields(inner, inside, labels)
        fields = {name: value for name, value in fields.items() if name in own}
    changed = type(config)(**{**saved, **fields})
    return changed if changed.reads_text else _name_rows(changed, labels)


def _load(recipe: Recipe, source: str, found: Any, config: RecognizerConfig) -> VideoRecognizer:
    model_class: Any = _method_of(config).model
    options: dict[str, Any] = {} if config.reads_text else {"ignore_mismatched_sizes": True}
    with naming(f"The weights in {source}"):
        model, report = model_class.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **options
        )
    if len(report["mismatched_keys"]) > 2:  # the weight and the bias of a classifier with other rows
        raise ValueError(
            f"{source} has weights of other sizes: {sorted(report['mismatched_keys'])[0]}. Change the model settings."
        )
    unknown = [name for name in sorted(report["unexpected_keys"]) if not name.startswith("candidate_")]
    if unknown:
        raise ValueError(
            f"{source} holds {len(unknown)} weights that {recipe.name} has no place for, first {unknown[0]}. Change the model "
            "settings of the recipe to those that it was trained with."
        )
    with torch.device("meta"):
        promised = AutoModel.from_config(found).state_dict()
    lost = [name for name in sorted(report["missing_keys"]) if name in promised]
    if lost:
        raise ValueError(
            f"{source} lacks {len(lost)} weights that its config.json names, first {lost[0]}. Is it whole?"
        )
    loaded: VideoRecognizer = model
    return loaded


def _method_of(config: RecognizerConfig) -> Method:
    return next(method for method in METHODS.values() if isinstance(config, method.config))


def _give_texts(model: VideoRecognizer, reader: RecognizerProcessor, recipe: Recipe) -> None:
    """Give the model the texts that it keeps: a corpus of entities, and a tower for Chinese."""
    data = recipe.data_settings
    inner: Any = getattr(model, "recognizer", model)
    if data.chinese_clip is not None:
        inner.load_chinese(_chinese_clip(data.chinese_clip))
    if data.corpus is not None:
        if not hasattr(inner, "set_corpus"):
            raise ValueError(f"{recipe.method} aligns with no corpus. Leave data.corpus out.")
        inner.set_corpus(benchmark_entities() if data.corpus == KINOSHAPES else data.corpus, processor=reader)


def _set_prompts(model: VideoRecognizer, processor: RecognizerProcessor, recipe: Recipe) -> None:
    """Set what the processor reads: frames, pixel normalization, templates, attributes and Chinese names."""
    data = recipe.data_settings
    videos: Any = getattr(processor, "video_processor", processor)
    if data.normalization is not None:
        videos.image_mean, videos.image_std = [list(values) for values in _NORMALIZATION[data.normalization]]
    if recipe.model.get("attributes", "none") != "none":
        processor.num_attributes = data.num_attributes
        if data.attribute_template is not None:
            processor.attribute_template = TEMPLATES.get(data.attribute_template, data.attribute_template)
    if data.sampling is not None:
        videos.sampling = data.sampling
    if data.templates is not None:
        named = TEMPLATES.get(data.templates, data.templates) if isinstance(data.templates, str) else None
        processor.templates = list(data.templates) if named is None else [named]
        for template in processor.templates:
            check_template(template)
    inner: Any = getattr(model, "recognizer", model)
    if getattr(inner.config, "chinese_branch", False):
        if data.chinese_clip is None or data.chinese_labels is None:
            raise ValueError(f"{recipe.name} has a Chinese branch. Give data.chinese_clip and data.chinese_labels.")
        names = data.chinese_labels
        known = {**chinese_names(), **chinese_names("unseen")} if names == KINOSHAPES else names
        processor.set_chinese(_chinese_clip(data.chinese_clip), known)


def _chinese_clip(source: str) -> str:
    """Return a Chinese-CLIP; "mini", which reads the words of KinoShapes, is trained once, for one to three minutes."""
    if source != EMBEDDED:
        return source
    folder = Path(HF_HOME) / "kinoclip" / "mini_chinese_clip"
    if not folder.is_dir():
        say(f"training the Chinese-CLIP of KinoShapes into {folder}, once.")
        with whole_folder(folder) as partial:
            train_chinese(partial)
    return str(folder)
