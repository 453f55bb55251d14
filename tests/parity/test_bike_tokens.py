"""Token ids of prompts against those of the official tokenizer."""

import gzip
import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from kinoclip.text.attributes import attribute_sentence
from kinoclip.text.labels import label_set
from kinoclip.text.templates import TEMPLATES, fill_template
from kinoclip.text.tokens import CONTEXT_LENGTH, tokenize_texts

RECORDINGS = Path(__file__).parent / "recordings"
DATASETS = ["kinetics400", "hmdb51", "ucf101"]


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        pytest.skip("open_clip_torch is not installed; its file bpe_simple_vocab_16e6.txt.gz makes CLIP's tokenizer")
    merges_file = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    # 49152 entries less 2 * 256 letters and 2 specials are merges; the first line is a version.
    lines = gzip.decompress(merges_file.read_bytes()).decode().split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    letters = list(bytes_to_unicode().values())
    entries = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    entries += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {entry: index for index, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=CONTEXT_LENGTH)


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


def test_a_truncated_sentence_keeps_the_end_token_at_the_last_position(tokenizer):
    input_ids, attention_mask = tokenize_texts(tokenizer, ["drinking, " * 60], too_long="truncate")

    assert input_ids.shape == (1, 77)
    assert input_ids[0, 76].item() == 49407
    assert torch.equal(attention_mask, torch.ones(1, 77, dtype=torch.long))


def test_an_exclamation_mark_is_no_padding(tokenizer):
    input_ids, attention_mask = tokenize_texts(tokenizer, ["wow!"])

    # start, wow, !</w>, end; the recorded official ids, where "!</w>" is 256 and padding is 0.
    assert input_ids[0, :5].tolist() == [49406, 2781, 256, 49407, 0]
    assert attention_mask[0].sum().item() == 4


@pytest.mark.parametrize(
    ("text", "plain"),
    [("salt &amp;amp; vinegar", "salt & vinegar"), ("rock \n  climbing", "rock climbing"), ("it\u2019s", "it's")],
)
def test_a_text_is_repaired_before_it_is_tokenized(tokenizer, text, plain):
    pytest.importorskip("ftfy", reason="curly quotes are repaired by ftfy")

    assert torch.equal(tokenize_texts(tokenizer, [text])[0], tokenize_texts(tokenizer, [plain])[0])


def test_a_label_longer_than_the_context_is_an_error_that_names_it(tokenizer):
    label = "drinking " * 80
    texts = [fill_template(TEMPLATES["bike"], "archery"), fill_template(TEMPLATES["bike"], label)]

    # start, "this is a video about", 80 words, end: 1 + 5 + 80 + 1 = 87
    with pytest.raises(ValueError, match=r"'drinking drinking .* takes 87 tokens .* reads 77\. Shorten the label"):
        tokenize_texts(tokenizer, texts, labels=["archery", label])


def test_a_label_that_just_fits_the_context_is_accepted(tokenizer):
    # start, 75 words, end
    input_ids, _ = tokenize_texts(tokenizer, ["drinking " * 75])

    assert input_ids[0, 76].item() == 49407
