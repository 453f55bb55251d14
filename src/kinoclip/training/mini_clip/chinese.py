"""A mini Chinese-CLIP: a text tower that says in Chinese what the mini CLIP says in English.

`python -m kinoclip.training.mini_clip.chinese --output DIR [--steps N]` teaches it translations of KinoShapes' words, so that the
embedding of "红色圆形" comes to lie where that of "red circle" does. It has no image tower of its own worth using.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AutoTokenizer, BertTokenizer, ChineseCLIPConfig, ChineseCLIPModel, CLIPModel

from kinoclip.data.kinoshapes.benchmark import ZH_COLORS, ZH_SHAPES, ZH_VERBS
from kinoclip.embedded import mini_clip_path

from .settings import PROMPT

# texts are trained at their length, and padded to 52 where they are used, as those of Chinese-CLIP are
_WIDTH, _LENGTH, _POSITIONS, _BATCH = 64, 16, 52, 64


def translations() -> list[tuple[str, str]]:
    """Pair English and Chinese words of KinoShapes: objects, motions, both together, and orders of two."""
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
    return [*ZH_COLORS.items(), *ZH_SHAPES.items(), *verbs, *objects, *orders, *both]


def train_chinese(output: str | Path, steps: int = 400, seed: int = 0) -> float:
    """Train the tower and write it as a folder that `ChineseCLIPModel` and `BertTokenizer` load.

    Args:
        output: a new or empty folder.
        steps: updates on batches of pairs.
        seed: of the weights and batches.

    Returns:
        The mean cosine of Chinese and English embeddings of all pairs at the end.

    Raises:
        FileExistsError: `output` holds something already.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} is not empty. Name a new folder, or remove this one first.")
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
    sizes: dict[str, Any] = {"hidden_size": _WIDTH, "intermediate_size": 4 * _WIDTH, "num_attention_heads": 1}
    text = {**sizes, "vocab_size": vocab_size, "num_hidden_layers": 2, "max_position_embeddings": _POSITIONS}
    text |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 0}
    vision = {**sizes, "image_size": 8, "patch_size": 8, "num_hidden_layers": 1}
    return ChineseCLIPConfig(text_config=text, vision_config=vision, projection_dim=_WIDTH)


def main() -> int:
    """Train as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m kinoclip.training.mini_clip.chinese", description=__doc__)
    parser.add_argument("--output", required=True, help="new folder")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        cosine = train_chinese(options.output, options.steps, options.seed)
    except FileExistsError as error:
        parser.error(str(error))
    sys.stderr.write(f"mean cosine of Chinese and English: {cosine:.4f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
