import sys

import pytest
from transformers import CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

from kinoclip.text import tokens
from kinoclip.text.tokens import clean_text, tokenize_texts

START, END = 512, 513


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer without merges: one token per letter; the last letter of a word has an id from 256 on."""
    letters = list(bytes_to_unicode().values())
    entries = letters + [letter + "</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={entry: index for index, entry in enumerate(entries)}, merges=[], model_max_length=77)


@pytest.fixture
def without_ftfy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ftfy", None)
    tokens._import_ftfy.cache_clear()
    yield
    tokens._import_ftfy.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  rock \t climbing\n", "rock climbing"),
        ("salt &amp; vinegar", "salt & vinegar"),
        ("salt &amp;amp; vinegar", "salt & vinegar"),
        ("a < b", "a < b"),
        ("", ""),
    ],
)
def test_entities_are_undone_twice_and_white_space_collapses(text, expected):
    assert clean_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("it\u2019s", "it's"), ("caf\u00c3\u00a9", "caf\u00e9"), ("\uff21", "A"), ("\ufb01re", "fire"), ("a\x08b", "ab")],
)
def test_damaged_text_is_repaired_by_ftfy(text, expected):
    pytest.importorskip("ftfy", reason="repairs are ftfy's")
    assert clean_text(text) == expected


def test_without_ftfy_a_text_outside_ascii_is_kept_with_a_warning(without_ftfy, caplog):
    assert clean_text("it's") == "it's"
    assert caplog.text == ""
    assert clean_text("it\u2019s &amp; more") == "it\u2019s & more"
    assert "pip install ftfy" in caplog.text


def test_a_text_is_padded_with_zero_to_the_whole_context(tokenizer):
    input_ids, attention_mask = tokenize_texts(tokenizer, ["a", "aa"], context_length=6)
    letter = tokenizer.convert_tokens_to_ids("a")
    assert input_ids.tolist() == [
        [START, letter + 256, END, 0, 0, 0],
        [START, letter, letter + 256, END, 0, 0],
    ]
    assert attention_mask.tolist() == [[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 0, 0]]


def test_a_truncated_text_ends_with_the_end_token(tokenizer):
    input_ids, attention_mask = tokenize_texts(tokenizer, ["a" * 90], too_long="truncate")
    assert input_ids.shape == (1, 77)
    assert input_ids[0, 76].item() == END
    assert attention_mask.sum().item() == 77


def test_a_text_that_just_fits_is_accepted_and_one_more_token_is_not(tokenizer):
    # start, 75 letters, end
    assert tokenize_texts(tokenizer, ["a" * 75])[0][0, 76].item() == END
    with pytest.raises(ValueError, match="takes 78 tokens"):
        tokenize_texts(tokenizer, ["a" * 76])


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        # start, "video" and 76 letters, end: 1 + 5 + 76 + 1 = 83
        (["b", "video " + "a" * 76], {"labels": ["b", "LABEL"]}, "label 'LABEL' takes 83 tokens.*reads 77. Shorten"),
        ([], {}, "At least one text"),
        (["a"], {"too_long": "cut"}, "must be 'error' or 'truncate', got 'cut'"),
    ],
)
def test_texts_that_cannot_be_tokenized_are_refused(tokenizer, texts, options, message):
    with pytest.raises(ValueError, match=message):
        tokenize_texts(tokenizer, texts, **options)
