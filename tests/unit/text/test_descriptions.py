import json

import pytest

from kinoclip.text.descriptions import (
    DESCRIPTION_PROMPT,
    describe_labels,
    label_descriptions,
    read_descriptions,
    write_descriptions,
)
from kinoclip.text.labels import LABEL_SETS, label_set, load_names
from kinoclip.text.tokens import tokenize_texts

DIVING = "A person leaps into water."
ARCHERY = "A person draws a bow."


@pytest.mark.parametrize("name", LABEL_SETS)
def test_packaged_descriptions_are_one_plain_sentence_per_class(name):
    descriptions = label_descriptions(name)
    assert list(descriptions) == label_set(name)
    assert len({text.casefold() for text in descriptions.values()}) == len(descriptions)
    for text in descriptions.values():
        # a capital at the start, one full stop, at the end, and letters that need no repair
        assert text[0].isupper(), text
        assert text.find(".") == len(text) - 1, text
        assert text.isascii(), text
        assert 8 <= len(text.split()) <= 22, text
    words = load_names(name)
    texts = describe_labels(words, descriptions)
    assert texts == [f"{label},{text}" for label, text in zip(words, descriptions.values(), strict=True)]


@pytest.mark.parametrize("name", LABEL_SETS)
def test_a_packaged_description_with_its_label_fits_the_context_of_clip(clip_tokenizer, name):
    labels = label_set(name)
    texts = describe_labels(labels, label_descriptions(name))
    _, attention_mask = tokenize_texts(clip_tokenizer, texts, labels=labels)
    assert attention_mask.sum(dim=1).max().item() <= 50  # room for a template of some words


def test_labels_and_descriptions_are_joined_in_the_order_of_the_labels_in_any_spelling():
    descriptions = {"Apply_Eye_Makeup": "Powder.", "archery": ARCHERY}
    texts = describe_labels(["archery", "ApplyEyeMakeup"], descriptions)
    assert texts == [f"archery,{ARCHERY}", "ApplyEyeMakeup,Powder."]


def test_labels_that_cannot_be_described_are_refused():
    with pytest.raises(ValueError, match=r"1 of 2 labels have no description: 'archery'\. Describe them"):
        describe_labels(["diving", "archery"], {"diving": DIVING})
    with pytest.raises(ValueError, match="'YoYo' and 'yo yo' are one label but have two descriptions"):
        describe_labels(["YoYo"], {"YoYo": "A spool.", "yo yo": "A string."})
    with pytest.raises(ValueError, match=r"kinetics400.*not for 'imagenet'.*`write_descriptions`"):
        label_descriptions("imagenet")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", {"diving": DIVING, "archery": ARCHERY}),
        ("a.JSON", {"title": "Two", "version": "1", "descriptions": {"diving": DIVING, "archery": ARCHERY}}),
        ("a.csv", f"id;name;cap\n0;diving;{DIVING}\n1;archery;{ARCHERY}\n"),
        ("a.csv", f"\ufeffid;name;concept\r\n0;diving; {DIVING}\r\n\r\n1;archery;{ARCHERY}\r\n"),
        ("a.csv", f'id;name;cap\n0;"diving";"{DIVING}"\n1;archery;{ARCHERY}'),
    ],
)
def test_descriptions_are_read_from_every_format(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    assert read_descriptions(path) == {"diving": DIVING, "archery": ARCHERY}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "{\n'diving'", "line 2: not valid JSON"),
        ("a.json", "[]", "got a list"),
        ("a.json", "{}", "contains no description"),
        ("a.json", '{"diving": 3}', "needs a sentence, got 3 for 'diving'"),
        ("a.json", '{"diving": " "}', "needs a sentence, got ' '"),
        ("a.json", '{"diving": "A.", "diving": "B."}', "'diving' is given twice"),
        ("a.csv", "", "line 1: the header must be"),
        ("a.csv", "id,name,cap\n", r"line 1: the header must be .*, got \['id,name,cap'\]"),
        ("a.csv", "id;name\n0;diving\n", "line 1: the header must be"),
        ("a.csv", "id;name;cap\n", "contains no description"),
        ("a.csv", "id;name;cap\n0;diving\n", "line 2: 2 fields instead of 3"),
        ("a.csv", "id;name;cap\n0;diving;A jump; a splash.\n", "line 2: 4 fields instead of 3. Quote"),
        ("a.csv", "id;name;cap\n0;diving;A.\n1;;B.\n", "line 3: the name is ''"),
        ("a.csv", "id;name;cap\n0;diving;A.\n1;diving;B.\n", "line 3: 'diving' was already described"),
    ],
)
def test_a_bad_file_of_descriptions_is_refused_with_the_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_descriptions(path)


def test_a_missing_file_of_descriptions_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"The file of descriptions .*none\.json does not exist"):
        read_descriptions(tmp_path / "none.json")


def test_a_model_is_asked_once_per_label_and_the_answers_are_kept(tmp_path):
    prompts = []
    ask = lambda prompt: prompts.append(prompt) or (DIVING if "diving" in prompt else ARCHERY)  # noqa: E731
    written = write_descriptions(["diving", "archery"], ask, tmp_path / "a.json")
    assert prompts == [DESCRIPTION_PROMPT.replace("{}", label) for label in ("diving", "archery")]
    assert "What does this action mean?" in prompts[0]
    assert written == read_descriptions(tmp_path / "a.json") == {"diving": DIVING, "archery": ARCHERY}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("  A person\n leaps\tin. \n", "A person leaps in."),
        ('"A person leaps in."', "A person leaps in."),
        ("**A person** leaps in.", "A person leaps in."),
        ("<think>Water?\nYes.</think>A person leaps in.", "A person leaps in."),
        ("One two three four. Five six.", "One two three four."),
        ("One two. Three four. Five six.", "One two. Three four."),
        ("one two three four five six seven", "one two three four five"),
    ],
)
def test_an_answer_becomes_one_line_of_at_most_max_words(tmp_path, answer, expected):
    written = write_descriptions(["diving"], lambda _: answer, tmp_path / "a.json", max_words=5)
    assert written == {"diving": expected}


@pytest.mark.parametrize("answer", ["", ' "" \n', "<think>Water?", "<think>Water?</think>"])
def test_an_answer_without_words_is_refused(tmp_path, answer):
    with pytest.raises(RuntimeError, match=r"did not answer for 'diving': .* contains no words"):
        write_descriptions(["diving"], lambda _: answer, tmp_path / "a.json")


@pytest.mark.parametrize("error", [ConnectionError("gone"), KeyboardInterrupt()])
def test_an_interrupted_run_keeps_its_answers_and_continues(tmp_path, error):
    path = tmp_path / "a.json"

    def fail_at_archery(prompt):
        if "archery" in prompt:
            raise error
        return DIVING

    message = (
        r"'archery': ConnectionError: gone\. 1 answers before it are kept in" if isinstance(error, Exception) else "^$"
    )
    with pytest.raises((RuntimeError, KeyboardInterrupt), match=message):
        write_descriptions(["diving", "archery"], fail_at_archery, path)
    assert read_descriptions(path) == {"diving": DIVING}
    assert list(tmp_path.iterdir()) == [path]
    prompts = []
    written = write_descriptions(["archery", "Diving"], lambda prompt: prompts.append(prompt) or ARCHERY, path)
    assert prompts == [DESCRIPTION_PROMPT.replace("{}", "archery")]
    assert written == {"archery": ARCHERY, "Diving": DIVING}


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("a.json", {"prompt": "Explain."}, ValueError, "contains it 0 times"),
        ("a.json", {"max_words": 0}, ValueError, "max_words must be at least 1, got 0"),
        ("a.json", {}, ValueError, r"its answers are to the prompt 'Explain {}\.'"),
        ("a.csv", {}, ValueError, "written as JSON"),
        ("none/a.json", {}, FileNotFoundError, "folder .*none does not exist"),
    ],
)
def test_a_request_that_cannot_succeed_asks_nothing(tmp_path, name, options, error, message):
    write_descriptions(["archery"], lambda _: ARCHERY, tmp_path / "a.json", prompt="Explain {}.")
    prompts = []
    with pytest.raises(error, match=message):
        write_descriptions(["diving"], lambda prompt: prompts.append(prompt) or DIVING, tmp_path / name, **options)
    assert prompts == []
