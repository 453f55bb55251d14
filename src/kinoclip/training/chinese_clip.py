"""Train a mini Chinese-CLIP on the words of KinoShapes and KinoFigures.

Its text tower learns to embed "红色圆形" where the mini CLIP embeds "red circle". Its image tower is not trained.
"""

from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoTokenizer, BertTokenizer, ChineseCLIPConfig, ChineseCLIPModel, CLIPModel

from kinoclip.kinoshapes.benchmark import ZH_COLORS, ZH_SHAPES, ZH_VERBS
from kinoclip.kinoshapes.figures.benchmark import chinese_dictionary
from kinoclip.methods.auto import mini_clip_path

# texts are trained at 16 tokens, and padded to 52 by users, as in Chinese-CLIP
PROMPT = "This is a video about {}"
WIDTH = 128  # of the shared space of the mini CLIP
_LENGTH, _POSITIONS, _BATCH = 16, 52, 64


def translations() -> list[tuple[str, str]]:
    """Return pairs of English and Chinese words: objects, motions, both together and orders of two, and those of figures."""
    objects = [
        (f"{color} {shape}", zh_color + zh_shape)
        for (color, zh_color), (shape, zh_shape) in product(ZH_COLORS.items(), ZH_SHAPES.items())
    ]
    verbs = list(ZH_VERBS.items())
    both = [(f"{thing} {verb}", zh_thing + zh_verb) for (thing, zh_thing), (verb, zh_verb) in product(objects, verbs)]
    orders = [
        (f"{first} then {second}", f"先{words[first]}后{words[second]}")
        for words in (ZH_COLORS, ZH_SHAPES)
        for first, second in permutations(words, 2)
    ]
    figures = [(english, chinese) for english, names in chinese_dictionary().items() for chinese in names]
    return [*figures, *ZH_COLORS.items(), *ZH_SHAPES.items(), *verbs, *objects, *orders, *both]


def train_chinese(output: str | Path, steps: int = 400, seed: int = 0) -> float:
    """Train the tower and write it into an empty folder, which `ChineseCLIPModel` and `BertTokenizer` load.

    Returns the mean cosine of Chinese and English embeddings of all pairs at the end.
    """
    pairs = translations()
    targets = _english([english for english, _ in pairs])
    letters = sorted({letter for _, chinese in pairs for letter in chinese})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters]
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}, model_max_length=_POSITIONS)
    torch.manual_seed(seed)
    model = ChineseCLIPModel(_config(len(vocabulary))).train()
    ids = torch.tensor(
        [tokenizer(chinese, padding="max_length", max_length=_LENGTH)["input_ids"] for _, chinese in pairs]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    draws = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        rows = torch.randint(len(pairs), (_BATCH,), generator=draws)
        loss = 1 - (_chinese(model, ids[rows]) * targets[rows]).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()
    with torch.inference_mode():
        cosine = (_chinese(model, ids) * targets).sum(-1).mean().item()
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)
    return cosine


@torch.inference_mode()
def _english(captions: Sequence[str]) -> Tensor:
    """Embed captions with the mini CLIP: (N, D), unit length."""
    model, tokenizer = CLIPModel.from_pretrained(mini_clip_path()), AutoTokenizer.from_pretrained(mini_clip_path())
    inputs = tokenizer([PROMPT.format(caption) for caption in captions], padding=True, return_tensors="pt")
    embeds = model.text_projection(model.text_model(**inputs).pooler_output)
    return normalize(embeds, dim=-1).clone()


def _chinese(model: ChineseCLIPModel, ids: Tensor) -> Tensor:
    hidden = model.text_model(ids, attention_mask=(ids != 0).long()).last_hidden_state[:, 0]
    return normalize(model.text_projection(hidden), dim=-1)


def _config(vocab_size: int) -> ChineseCLIPConfig:
    sizes: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": WIDTH // 64}
    text = {**sizes, "vocab_size": vocab_size, "num_hidden_layers": 2, "max_position_embeddings": _POSITIONS}
    text |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 0}
    vision = {**sizes, "image_size": 8, "patch_size": 8, "num_hidden_layers": 1}
    return ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH)
