"""A model with second names of labels in Chinese, for tests of what takes such names."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import BertTokenizer, PreTrainedTokenizerBase

from kinoclip import BikeConfig, BikeModel, BikeProcessor

TOWER = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}


def build_bilingual(
    fields: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase, names: Mapping[str, str], characters: str
) -> tuple[BikeModel, BikeProcessor]:
    """Build a BIKE of random weights with a Chinese branch, and a processor that has names and reads `characters`."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    bert = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    tower = {**TOWER, "vocab_size": len(bert), "pad_token_id": 0}
    torch.manual_seed(0)
    model = BikeModel(BikeConfig(**fields, chinese_branch=True, chinese_text_config=tower)).eval()
    return model, BikeProcessor.for_config(model.config, tokenizer).set_chinese(bert, names, context_length=8)
