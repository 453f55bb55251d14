import shutil
import sys

import nltk
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from kinoclip.text import wordnet
from kinoclip.text.wordnet import (
    ask_sense_model,
    category_of,
    lesk,
    noun_phrases,
    open_wordnet,
    sense_question,
    split_words,
)

BAT = ["a nocturnal mammal that flies", "a club used for hitting a ball"]


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """Neither Debian's package nor NLTK's data."""
    monkeypatch.delenv("WNHOME", raising=False)
    monkeypatch.setattr(wordnet, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setattr(nltk.data, "path", [])


def test_words_are_split_without_stop_words_and_punctuation():
    assert split_words("Putting something, something and ice-cream on the TABLE.") == ["putting", "ice-cream", "table"]


@pytest.mark.parametrize(
    ("context", "descriptions", "chosen"),
    [
        ("hitting a ball with a bat", BAT, 1),
        ("a bat", BAT, 0),  # the first of equals
        ("a thing that is for a while", ["club", "a mammal that is for a while"], 0),  # stop words do not count
    ],
)
def test_lesk_chooses_the_description_that_shares_most_words_with_the_context(context, descriptions, chosen):
    assert lesk("bat", context, descriptions) == chosen


def test_the_synsets_of_a_folder_are_read_with_their_kind(wordnet_folder):
    reader = open_wordnet(wordnet_folder)
    synsets = reader.synsets("brush", "n")
    assert [synset.definition() for synset in synsets] == [
        "an implement that has hairs or bristles",
        "the act of brushing your teeth",
    ]
    assert [synset.lexname() for synset in synsets] == ["noun.artifact", "noun.act"]
    assert reader.synsets("swing", "v")[0].lexname() == "verb.motion"
    assert reader.synsets("brushing", "v")[0].name() == "brush.v.01"


def test_the_nouns_of_lexicographer_files_are_phrases(wordnet_folder):
    assert noun_phrases("noun.act, noun.artifact", wordnet_folder) == ["brush", "ice hockey", "hockey", "ice"]
    assert noun_phrases("noun.act", wordnet_folder) == ["brush", "ice hockey", "hockey"]
    assert noun_phrases(folder=wordnet_folder)[-1] == "idea"


def test_lesk_agrees_with_nltk_on_the_meanings_of_a_word(wordnet_folder):
    from nltk.wsd import lesk as lesk_of_nltk

    synsets = open_wordnet(wordnet_folder).synsets("brush", "n")
    chosen = lesk("brush", "brushing teeth", [synset.definition() for synset in synsets])
    assert synsets[chosen] == lesk_of_nltk(["brushing", "teeth"], "brush", synsets=synsets)
    assert chosen == 1


def test_the_folders_of_wnhome_and_debian_are_found(bare_machine, monkeypatch, wordnet_folder):
    with pytest.raises(FileNotFoundError, match=r"not installed.*wordnet-base.*nltk\.downloader wordnet"):
        open_wordnet()
    monkeypatch.setenv("WNHOME", str(wordnet_folder.parent))
    assert open_wordnet().synsets("idea", "n")[0].definition() == "the content of thinking"
    monkeypatch.delenv("WNHOME")
    monkeypatch.setattr(wordnet, "DEBIAN_FOLDER", wordnet_folder)
    assert open_wordnet().synsets("ice", "n")[0].definition() == "a frozen dessert"


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_the_data_of_nltk_is_found_unpacked_or_not(bare_machine, monkeypatch, tmp_path, wordnet_folder, packed):
    corpora = tmp_path / "nltk_data" / "corpora"
    shutil.copytree(wordnet_folder, corpora / "wordnet")
    if packed:
        shutil.make_archive(str(corpora / "wordnet"), "zip", corpora, "wordnet")
        shutil.rmtree(corpora / "wordnet")
    monkeypatch.setattr(nltk.data, "path", [str(corpora.parent)])
    assert open_wordnet().synsets("swing", "v")[0].definition() == "move in a curve"


def test_a_folder_without_wordnet_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"empty does not contain WordNet: data\.noun is missing"):
        open_wordnet(tmp_path / "empty")


def test_without_nltk_the_error_says_what_to_install(monkeypatch, wordnet_folder):
    monkeypatch.setitem(sys.modules, "nltk", None)
    with pytest.raises(ImportError, match=r"pip install 'kinoclip\[entities\]'"):
        open_wordnet(wordnet_folder)


@pytest.mark.parametrize(
    ("lexname", "category"),
    [
        ("noun.body", "body"),
        ("noun.artifact", "object"),
        ("noun.person", "object"),
        ("noun.location", "scene"),
        ("noun.act", "motion"),
        ("verb.contact", "motion"),
        ("noun.cognition", None),
        ("adj.all", None),
    ],
)
def test_the_kind_of_a_synset_decides_its_category(lexname, category):
    assert category_of(lexname) == category


def test_the_question_to_a_sense_model_marks_the_word_and_lists_the_descriptions():
    assert sense_question("bat", "hitting a ball with a bat", BAT) == (
        'question: which description describes the word " bat " best in the following context? '
        'descriptions:[ " a nocturnal mammal that flies ", or " a club used for hitting a ball " ] '
        'context: hitting a ball with a " bat "'
    )
    # another form of the word in the context
    assert sense_question("brush", "brushing teeth", BAT).endswith('context: brushing teeth " brush "')


def test_a_sense_model_chooses_the_description_nearest_to_its_answer(tmp_path, monkeypatch):
    words = ["<pad>", "</s>", "<unk>", *BAT[1].split()]
    tokenizer = Tokenizer(models.WordLevel({word: id_ for id_, word in enumerate(dict.fromkeys(words))}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    config = T5Config(vocab_size=16, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0)
    T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    fast.save_pretrained(tmp_path)
    answer = fast("club used hitting ball", return_tensors="pt").input_ids
    monkeypatch.setattr(T5ForConditionalGeneration, "generate", lambda model, **_: answer)
    choose = ask_sense_model(tmp_path)
    assert choose("bat", "hitting a ball with a bat", BAT) == 1
    assert choose("bat", "hitting a ball with a bat", BAT[::-1]) == 0
