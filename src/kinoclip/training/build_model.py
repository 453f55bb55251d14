"""Build the model and the processor that a recipe trains, and choose the parameters that are trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import HF_HOME
from torch import nn
from transformers import AutoModel
from transformers.utils import constants

from kinoclip.kinoshapes.benchmarks import find_corpus, find_names
from kinoclip.methods import METHODS, find_method
from kinoclip.methods.auto import EMBEDDED, check_finite, find_model, mini_clip_path, read_config
from kinoclip.methods.candidates import set_corpus
from kinoclip.modeling.checkpoints import check_keys, naming
from kinoclip.modeling.configuration import RecognizerConfig
from kinoclip.modeling.layers.text_branches import find_second_tower
from kinoclip.modeling.processing import RecognizerProcessor, load_tokenizer
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.storage import atomic_folder, hash_file, hash_json
from kinoclip.text.descriptions import describe_labels, label_descriptions, read_descriptions
from kinoclip.text.entities import Entity, expand, load_corpus
from kinoclip.text.labels import LABEL_SETS, spell_out
from kinoclip.text.templates import TEMPLATES, check_template
from kinoclip.training.chinese_clip import train_chinese, translations
from kinoclip.training.optimization import is_clip_parameter
from kinoclip.training.recipe import Recipe, recipe_names
from kinoclip.training.run_folder import log
from kinoclip.training.settings import LoraSettings, TrainingSettings

_NORMALIZATION = {
    "clip": (constants.OPENAI_CLIP_MEAN, constants.OPENAI_CLIP_STD),
    "imagenet": (constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD),
}


def build_model(
    recipe: Recipe, labels: Sequence[str], start: str | Path | None = None
) -> tuple[VideoRecognizer, RecognizerProcessor]:
    """Build the model and the processor of a recipe. New weights depend on the recipe's seed only.

    Args:
        recipe: the method and its settings.
        labels: of the classes; a model without text input gets one row for each.
        start: a CLIP or a recognizer of this package (folder or hub id), or "mini"; the recipe's own by default.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the recipe cannot start from it, or it is damaged.
    """
    source = str(recipe.start if start is None else start)
    if source in recipe_names():
        raise ValueError(
            f"{recipe.name} starts from the result of {source}. Train it first, and pass its folder as start."
        )
    source = find_model(source)
    torch.manual_seed(recipe.training.seed)
    saved = read_config(source) if source else None
    if saved is not None:
        build = _from_clip if saved.model_type == "clip" else _from_recognizer
        model = build(recipe, source, saved, labels)
        check_finite(model, source)
    else:
        model = METHODS[recipe.method].model(_build_config(recipe, {}, labels))
    build_processor = METHODS[recipe.method].processor.for_config
    reads = model.config.reads_text or recipe.data["corpus"] is not None
    tokenizer = load_tokenizer(source) if reads else None
    # a classifier needs a processor with a tokenizer to read its corpus, but is saved with one without
    _load_texts(model, build_processor(model.config, tokenizer), recipe)
    clip = recipe.data["attribute_clip"]
    if clip is not None and getattr(saved, "attributes", "none") == "none":  # otherwise the branch is trained already
        tower: Any = model.unwrap()
        tower.load_attribute_clip(find_model(clip))
    processor = build_processor(model.config, tokenizer if model.config.reads_text else None)
    _configure_processor(model, processor, recipe)
    return model, processor


def label_texts(recipe: Recipe, labels: Sequence[str]) -> list[str]:
    """Return the text for each label: as it is, spelled out, or with a description, by the recipe."""
    data = recipe.data_settings
    if data.descriptions is not None:
        packaged = data.descriptions in LABEL_SETS
        sentences = label_descriptions(data.descriptions) if packaged else read_descriptions(data.descriptions)
        return describe_labels(labels, sentences)
    return [spell_out(label) for label in labels] if data.label_style == "words" else list(labels)


def _build_config(recipe: Recipe, towers: dict[str, Any], labels: Sequence[str]) -> RecognizerConfig:
    config = METHODS[recipe.method].config.from_clip_fields(towers, **recipe.model)
    return config if config.reads_text else _with_labels(config, labels)


def _with_labels(config: RecognizerConfig, labels: Sequence[str]) -> RecognizerConfig:
    """Return the config of a classifier with one row for each label."""
    rows: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: row for row, label in enumerate(labels)},
    }
    inner = getattr(config, "recognizer_config", None)
    if inner is not None:
        rows["recognizer_config"] = type(inner)(**{**inner.to_dict(), **rows})
    return type(config)(**{**config.to_dict(), **rows})


def _from_clip(recipe: Recipe, source: str, clip: Any, labels: Sequence[str]) -> VideoRecognizer:
    names = ("projection_dim", "logit_scale_init_value")
    towers = {"text_config": clip.text_config.to_dict(), "vision_config": clip.vision_config.to_dict()}
    config = _build_config(recipe, {**towers, **{name: getattr(clip, name) for name in names}}, labels)
    inner = getattr(config, "recognizer_config", None)
    own = inner or config
    model_class: Any = find_method(own).model
    if not hasattr(model_class, "from_clip"):
        raise ValueError(
            f"{recipe.method} is not built on a CLIP. Start from a model of this method, or from nothing."
        )
    fields = {name: getattr(own, name) for name in type(own).settings() if name != "num_labels"}
    rows = {} if own.reads_text else {"id2label": own.id2label, "label2id": own.label2id}
    model: VideoRecognizer = model_class.from_clip(source, **fields, **rows)
    return model if inner is None else _wrap(recipe, model, config)


def _wrap(recipe: Recipe, inner: VideoRecognizer, config: RecognizerConfig) -> VideoRecognizer:
    method: Any = METHODS[recipe.method]
    outer = {name: getattr(config, name) for name in method.config.settings()}
    return method.model.from_recognizer(inner, **outer)  # type: ignore[no-any-return]


def _from_recognizer(recipe: Recipe, source: str, saved: Any, labels: Sequence[str]) -> VideoRecognizer:
    """Load a recognizer of this package with the recipe's settings; only weights that it lacks are new."""
    kind: Any = METHODS[recipe.method].config
    if isinstance(saved, kind):
        return _load(recipe, source, saved, _with_fields(saved, recipe.model, labels))
    inner = getattr(kind.from_clip_fields({}, **recipe.model), "recognizer_config", None)
    if inner is None or not isinstance(saved, type(inner)):
        raise ValueError(
            f"{source} is a {saved.model_type!r} model, and {recipe.name} trains {kind.model_type!r}. Start from a CLIP, or "
            "from a model of that method."
        )
    outer_fields, inner_fields = _split_fields(kind, recipe.model)
    model = _load(recipe, source, saved, _with_fields(saved, inner_fields, labels))
    return _wrap(recipe, model, kind(recognizer_config=model.config, **outer_fields))


def _split_fields(config: Any, fields: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split fields into those of a wrapper and those of the recognizer that it wraps."""
    own = {name: value for name, value in fields.items() if name in config.settings()}
    return own, {name: value for name, value in fields.items() if name not in own and name != "recognizer"}


def _with_fields(config: RecognizerConfig, fields: dict[str, Any], labels: Sequence[str]) -> RecognizerConfig:
    """Return a saved config with other settings, and without its candidates."""
    changed = config.with_settings(**{name: value for name, value in fields.items() if name != "recognizer"})
    changed = _without_candidates(changed)
    return changed if changed.reads_text else _with_labels(changed, labels)


def _without_candidates(config: RecognizerConfig) -> RecognizerConfig:
    saved = {**config.to_dict(), "candidate_shapes": None}
    for name in ("id2label", "label2id", "num_labels"):
        saved.pop(name, None)
    inner = getattr(config, "recognizer_config", None)
    if inner is not None:
        saved["recognizer_config"] = _without_candidates(inner)
    return type(config)(**saved)


def _load(recipe: Recipe, source: str, saved: Any, config: RecognizerConfig) -> VideoRecognizer:
    model_class: Any = find_method(config).model
    options: dict[str, Any] = {} if config.reads_text else {"ignore_mismatched_sizes": True}
    with naming(f"The weights in {source}"):
        model, report = model_class.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **options
        )
    with torch.device("meta"):
        names = AutoModel.from_config(saved).state_dict()
    mismatched = report["mismatched_keys"]
    check_keys(
        [name for name in report["missing_keys"] if name in names],
        [name for name in report["unexpected_keys"] if not name.startswith("candidate_")],
        mismatched if len(mismatched) > 2 else (),  # weight and bias of a classifier with other rows are allowed
        source,
        f"the model settings of {recipe.name}",
        "Use the settings that it was trained with.",
    )
    return model  # type: ignore[no-any-return]


def _load_texts(model: VideoRecognizer, reader: RecognizerProcessor, recipe: Recipe) -> None:
    """Load what a model stores of texts: a corpus of entities, and a tower for second names."""
    data = recipe.data_settings
    inner: Any = model.unwrap()
    if data.chinese_clip is not None:
        inner.load_second_text(inner.config.second_tower, _find_chinese_clip(data.chinese_clip))
    if data.corpus is not None:
        set_corpus(model, reader, _load_entities(data.corpus), recipe.method)


def _load_entities(corpus: str | Sequence[str]) -> list[Entity]:
    """Return the entities of one corpus or several, and of the procedural benchmarks."""
    names = [corpus] if isinstance(corpus, str) else corpus
    parts = [find_corpus(name) or load_corpus(name) for name in names]
    return expand([], [entity for part in parts for entity in part])


def _configure_processor(model: VideoRecognizer, processor: RecognizerProcessor, recipe: Recipe) -> None:
    data = recipe.data_settings
    videos: Any = processor.video_processor
    if data.normalization is not None:
        videos.image_mean, videos.image_std = map(list, _NORMALIZATION[data.normalization])
    if recipe.model.get("attributes", "none") != "none":
        processor.num_attributes = data.num_attributes
        if data.attribute_template is not None:
            processor.attribute_template = TEMPLATES.get(data.attribute_template, data.attribute_template)
    if data.sampling is not None:
        videos.sampling = data.sampling
    if data.sampling == "motion":
        videos.motion, videos.motion_exponent = data.motion or "pixels", data.motion_exponent
        videos.check_motion()
    elif data.motion is not None:
        raise ValueError('data.motion belongs to data.sampling = "motion". Set both, or neither.')
    if data.templates is not None:
        if isinstance(data.templates, str):
            processor.templates = [TEMPLATES.get(data.templates, data.templates)]
        else:
            processor.templates = list(data.templates)
        for template in processor.templates:
            check_template(template)
    inner: Any = model.unwrap()
    if getattr(inner.config, "chinese_branch", False):
        tower, source = inner.config.second_tower, data.chinese_clip
        reads = find_second_tower(tower).tokenizer_class is None or source is not None
        if not reads or data.chinese_labels is None:
            raise ValueError(f"{recipe.name} has a Chinese branch. Set data.chinese_clip and data.chinese_labels.")
        names = find_names(data.chinese_labels) or data.chinese_labels
        tokenizer = None if source is None else _find_chinese_clip(source)
        templates = data.second_templates or ("{}",)
        processor.set_chinese(tokenizer, names, templates=templates, tower=tower, all_variants=data.all_names)


def _find_chinese_clip(source: str) -> str:
    """Return a Chinese-CLIP; "mini" is trained on the words of the benchmarks on first use, which takes one to three minutes."""
    if source != EMBEDDED:
        return source
    state = hash_json([hash_file(mini_clip_path() / "model.safetensors"), translations()])[:12]
    folder = Path(HF_HOME) / "kinoclip" / f"mini_chinese_clip_{state}"
    if not folder.is_dir():
        log(f"training the Chinese-CLIP of KinoShapes and KinoFigures into {folder}, once.")
        with atomic_folder(folder) as partial:
            train_chinese(partial)
    return str(folder)


def freeze_parameters(model: VideoRecognizer, settings: TrainingSettings) -> Any | None:
    """Freeze the parameters that are not trained, and add adapters.

    Returns:
        A `peft.PeftModel` around the same model, whose `merge_and_unload` merges the adapters; None without adapters.

    Raises:
        ValueError: no layer matches the targets of the adapters.
    """
    model.freeze()
    if settings.freeze == "nothing":
        model.requires_grad_(True)
    layers = _find_adapted_layers(model, settings.lora) if settings.lora.rank else []
    if settings.freeze == "towers" or layers:
        for name, parameter in model.named_parameters():
            if is_clip_parameter(name):
                parameter.requires_grad_(False)
    return _add_adapters(model, settings.lora, layers) if layers else None


def _find_adapted_layers(model: nn.Module, settings: LoraSettings) -> list[str]:
    """Return the names of the linear layers of CLIP that are trained without adapters and match the targets."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    trained = [name for name, module in linear.items() if is_clip_parameter(name) and module.weight.requires_grad]
    layers = [name for name in trained if name.endswith(tuple(settings.targets))]
    if not layers:
        ends = sorted({name.rpartition(".")[2] for name in trained})
        raise ValueError(
            f"training.lora.targets must match names of trained linear layers of CLIP, got {settings.targets}. Such names end "
            f"in {', '.join(ends) or 'nothing, since the towers are frozen'}."
        )
    return layers


def _add_adapters(model: VideoRecognizer, settings: LoraSettings, layers: list[str]) -> Any:
    from peft import LoraConfig, get_peft_model

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # any number works
        lora_dropout=settings.dropout,
        target_modules=layers,
    )
    adapters = get_peft_model(model, config)  # freezes everything else
    for parameter in trained:
        parameter.requires_grad_(True)
    return adapters
