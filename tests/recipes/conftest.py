"""The small things that a recipe is built from here."""

import json
from functools import cache

import pytest
import torch
from transformers import BertTokenizer, ChineseCLIPConfig, ChineseCLIPModel, CLIPConfig, CLIPModel

from kinoclip.text.entities import CATEGORIES, Entity, save_corpus

from .rows import RECIPES, labels_of

LAYERS = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 1}
# a ResNet of a few channels instead of ResNet-50
NARROW = {"model.stage_widths": [8, 8, 16, 32], "model.stem_width": 8, "model.image_size": 32}


@pytest.fixture(scope="session")
def tiny_files(tmp_path_factory, tokenizer) -> dict[str, str]:
    """A CLIP, a Chinese-CLIP, a corpus and sentences for labels: what recipes name, at tiny size."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    text = {**LAYERS, **ids, "vocab_size": len(tokenizer), "pad_token_id": 0}
    vision = {**LAYERS, "image_size": 32, "patch_size": 8}
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    clip.save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "clip")

    bert = BertTokenizer(vocab={word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])})
    text = {**LAYERS, "vocab_size": len(bert)}
    chinese = ChineseCLIPModel(ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=32))
    chinese.save_pretrained(folder / "chinese_clip")
    bert.save_pretrained(folder / "chinese_clip")

    save_corpus(folder / "corpus.jsonl", [Entity(f"a {kind}", "something", kind, "units") for kind in CATEGORIES])
    sentences = {label: "a person moves" for recipe in RECIPES.values() for label in labels_of(recipe)}
    (folder / "descriptions.json").write_text(json.dumps(sentences))
    names = {"clip": "clip", "attribute_clip": "clip", "chinese_clip": "chinese_clip"}
    names |= {"corpus": "corpus.jsonl", "descriptions": "descriptions.json"}
    return {name: str(folder / file) for name, file in names.items()}


@pytest.fixture(scope="session")
def shrink(tiny_files):
    """The function that gives a recipe with tiny sizes and files in the place of real ones."""

    @cache
    def shrink(name: str):
        recipe = RECIPES[name]
        files = {f"data.{key}": file for key, file in tiny_files.items() if key != "clip" and recipe.data[key]}
        few = 8 if recipe.model.get("rate", 2) > 2 else 4
        is_tam = "tam" in (recipe.method, recipe.model.get("recognizer"))
        return recipe.with_settings({"model.num_frames": few, **files, **(NARROW if is_tam else {})})

    return shrink
