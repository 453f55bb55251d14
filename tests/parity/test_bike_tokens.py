"""Token ids of prompts against those of the official tokenizer."""

import json
from pathlib import Path

import pytest

from kinoclip.text.attributes import attribute_sentence
from kinoclip.text.labels import label_set
from kinoclip.text.templates import TEMPLATES, fill_template
from kinoclip.text.tokens import CONTEXT_LENGTH, tokenize_texts

RECORDINGS = Path(__file__).parent / "recordings"
DATASETS = ["kinetics400", "hmdb51", "ucf101"]


@pytest.fixture
def tokenizer(clip_tokenizer):
    return clip_tokenizer


@pytest.fixture(scope="module")
def recorded() -> dict:
    return json.loads((RECORDINGS / "bike_tokens.json").read_text())


def pad(ids: list[int]) -> list[int]:
    return ids + [0] * (CONTEXT_LENGTH - len(ids))


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("method", ["bike", "text4vis"])
def test_prompts_of_a_label_set_have_the_official_token_ids(tokenizer, method, dataset):
    recorded = json.loads((RECORDINGS / f"{method}_tokens.json").read_text())
    labels = label_set(dataset)
    texts = [fill_template(TEMPLATES[method], label) for label in labels]
    input_ids, attention_mask = tokenize_texts(tokenizer, texts, labels=labels)
    assert labels == list(recorded[dataset])
    assert input_ids.tolist() == [pad(ids) for ids in recorded[dataset].values()]
    assert attention_mask.sum(dim=1).tolist() == [len(ids) for ids in recorded[dataset].values()]


@pytest.mark.parametrize("method", ["bike", "text4vis"])
def test_the_templates_are_the_official_ones(method):
    assert TEMPLATES[method] == json.loads((RECORDINGS / f"{method}_tokens.json").read_text())["template"]


@pytest.mark.parametrize("index", range(5))
def test_an_attribute_sentence_has_the_official_text_and_token_ids(tokenizer, recorded, index):
    entry = recorded["attribute_sentences"][index]
    sentence = attribute_sentence(entry["classname_topk"][: entry["select_topk"]])
    input_ids, attention_mask = tokenize_texts(tokenizer, [sentence], too_long="truncate")
    assert sentence == entry["sentence"]
    assert input_ids.tolist() == [pad(entry["token_ids"])]
    assert attention_mask.sum().item() == len(entry["token_ids"])


def test_an_exclamation_mark_is_no_padding(tokenizer):
    input_ids, attention_mask = tokenize_texts(tokenizer, ["wow!"])
    # start, wow, !</w>, end; the recorded official ids, where "!</w>" is 256 and padding is 0.
    assert input_ids[0, :5].tolist() == [49406, 2781, 256, 49407, 0]
    assert attention_mask[0].sum().item() == 4
