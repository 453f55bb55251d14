"""Random models and procedural videos of four classes, so that every step of a row runs in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer, BertTokenizer, ChineseCLIPConfig, ChineseCLIPModel, CLIPConfig, CLIPModel

from kinoclip.data.catalog import catalog
from kinoclip.kinoshapes import encode_video, kinoshapes_clips
from kinoclip.kinoshapes.benchmark import action_classes
from kinoclip.methods.auto import EMBEDDED, mini_clip_path
from kinoclip.text.attributes import write_attributes
from kinoclip.text.entities import CATEGORIES, Entity, save_corpus
from kinoclip.training.chinese_clip import WIDTH
from kinoclip.training.recipe import Recipe

if TYPE_CHECKING:
    import datasets

_CLASSES = ("red circle", "blue square", "green star", "white ring")
_COUNTS = {"train": 12, "validation": 4, "test": 8}
_LAYERS = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 1}
# a narrow ResNet instead of ResNet-50
_NARROW = {"model.depth": 18, "model.stage_widths": [8, 8, 16, 32], "model.stem_width": 8, "model.image_size": 32}


@contextmanager
def single_thread() -> Iterator[None]:
    """Compute on one thread, which is faster for tiny models."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@cache
def _encode_clips(seed: int, count: int) -> list[bytes]:
    clips = kinoshapes_clips(count, seed, labels=_CLASSES)
    return [encode_video(clip.frames[:16], clip.spec.fps) for clip in clips]


class Smoke:
    """Replacements of a recipe's models, videos and text files, in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def shrink(self, recipe: Recipe) -> Recipe:
        """Return a recipe with tiny sizes; its method, objective, selection, protocol and runs are unchanged."""
        data, training = recipe.data_settings, recipe.training
        settings: dict[str, Any] = {
            "model.num_frames": 8 if recipe.model.get("rate", 2) > 2 else 4,
            "data.repeat": 1,
            "data.shots": min(data.shots, 2),
            "data.test_split": "test",
            "data.held_out": 0.34,
            "training.epochs": min(training.epochs, 1),
            "training.batch_size": 4,
            "training.accumulation": 1,
            "training.warmup_epochs": 0,
            "training.refresh_every": 1,
            "training.precision": "no",
            "evaluation.batch_size": 4,
            "evaluation.explained": min(recipe.evaluation["explained"], 1),
            "runs.seeds": min(recipe.runs.seeds, 2),
            "runs.rates": recipe.runs.rates[:2],
        }
        if "tam" in (recipe.method, recipe.model.get("recognizer")):
            settings |= _NARROW
        if "reparam_width" in recipe.model:
            settings["model.reparam_width"] = 8
        files = {"corpus": self.corpus, "descriptions": self.descriptions, "attributes": self.attributes}
        settings |= {f"data.{name}": str(file) for name, file in files.items() if getattr(data, name) is not None}
        if data.attribute_clip is not None:
            settings["data.attribute_clip"] = str(self.clip)
        if data.chinese_clip is not None:
            settings["data.chinese_clip"] = str(self.chinese_clip(WIDTH if recipe.start == EMBEDDED else 32))
        if recipe.evaluation["class_lists"]:
            settings["evaluation.class_lists"] = ["base", "novel"]
        return recipe.with_settings(settings)

    def start(self, source: str) -> str:
        """Return the random CLIP in place of a published one."""
        return str(self.clip) if source and source != EMBEDDED else source

    def videos(self, recipe: Recipe) -> datasets.DatasetDict:
        """Return training, validation and test videos of four classes of the recipe's data set."""
        from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, Video

        names, facts = self.labels(recipe), catalog().get(recipe.dataset)
        parts = {}
        for split, seed in zip(_COUNTS, (1, 2, 3), strict=True):
            # trained on intervals, tested on whole videos
            multi_label = facts is not None and facts.several_labels and split != "train"
            label = List(ClassLabel(names=names)) if multi_label else ClassLabel(names=names)
            features = Features({"video": Video(decode=False), "label": label, "name": Value("string")})
            rows = [
                {
                    "video": {"bytes": video, "path": None},
                    "label": [number % 4, (number + 1) % 4] if multi_label else number % 4,
                    "name": f"{split}-{number}.mp4",
                }
                for number, video in enumerate(_encode_clips(seed, _COUNTS[split]))
            ]
            parts[split] = Dataset.from_list(rows, features=features, split=split)
        return DatasetDict(parts)

    @staticmethod
    def labels(recipe: Recipe) -> list[str]:
        """Return four class names of the recipe's data set."""
        facts = catalog().get(recipe.dataset)
        if facts is not None and facts.class_names is not None:
            return facts.class_names[:4]
        return [known.label for known in action_classes()[:4]]

    @cached_property
    def clip(self) -> Path:
        """A CLIP of two layers of width 32 with random weights, for images of 32 pixels."""
        folder, tokenizer = self.folder / "clip", AutoTokenizer.from_pretrained(mini_clip_path())
        ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
        text = {**_LAYERS, **ids, "vocab_size": len(tokenizer), "pad_token_id": 0}
        vision = {**_LAYERS, "image_size": 32, "patch_size": 8}
        torch.manual_seed(0)
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=32, logit_scale_init_value=4.6052)
        CLIPModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    def chinese_clip(self, width: int) -> Path:
        """A Chinese-CLIP with random weights whose shared space has `width` dimensions."""
        folder = self.folder / f"chinese_clip_{width}"
        if not folder.is_dir():
            words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(words)})
            torch.manual_seed(0)
            config = ChineseCLIPConfig(
                text_config={**_LAYERS, "vocab_size": len(words)},
                vision_config={**_LAYERS, "image_size": 8, "patch_size": 8},
                projection_dim=width,
            )
            ChineseCLIPModel(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return folder

    @cached_property
    def corpus(self) -> Path:
        """A corpus of two entities of each category."""
        entities = [
            Entity(f"{kind} {n}", f"a {kind} of kind {n}", kind, "smoke") for kind in CATEGORIES for n in (1, 2)
        ]
        save_corpus(self.folder / "corpus.jsonl", entities)
        return self.folder / "corpus.jsonl"

    @cached_property
    def descriptions(self) -> Path:
        """A description of every label that `videos` can have."""
        labels = [label for facts in catalog().values() for label in (facts.class_names or [])[:4]]
        labels += [known.label for known in action_classes()[:4]]
        path = self.folder / "descriptions.json"
        path.write_text(json.dumps(dict.fromkeys(labels, "a person moves"), ensure_ascii=False), encoding="utf-8")
        return path

    @cached_property
    def attributes(self) -> Path:
        """Attributes of every video: seven phrases."""
        names = [f"{split}-{number}.mp4" for split, count in _COUNTS.items() for number in range(count)]
        phrases = ["red", "blue", "circle", "square", "moving", "growing", "spinning"]
        write_attributes(self.folder / "attributes.json", dict.fromkeys(names, phrases))
        return self.folder / "attributes.json"
