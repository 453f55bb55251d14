"""Lexicons, and the finder of attributes; its answers in `Classifier` are tested in `test_classifier.py`."""

import pytest
import torch
from torchvision.models import ResNet50_Weights

from kinoclip.inference import attributes
from kinoclip.inference.attributes import LEXICONS, AttributeFinder, load_lexicon


@pytest.mark.parametrize(
    ("name", "count", "phrase"),
    [("kinetics400", 400, "abseiling"), ("imagenet1k", 1000, "iPod"), ("kinoshapes", 52, "moving left")],
)
def test_a_lexicon_is_found_by_name(name, count, phrase):
    phrases = load_lexicon(name)
    assert len(set(phrases)) == count
    assert phrase in phrases


def test_the_names_of_imagenet_are_those_of_torchvision():
    assert load_lexicon("imagenet1k") == list(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])


def test_a_lexicon_may_be_a_file_or_phrases(tmp_path):
    (tmp_path / "mine.txt").write_text("red\nblue\n")
    assert load_lexicon(tmp_path / "mine.txt") == load_lexicon(["red", "blue"]) == ["red", "blue"]


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        (
            "nothing",
            FileNotFoundError,
            "must be a file, or one of .*, imagenet1k, kinoshapes, kinofigures, wordnet; got 'nothing'",
        ),
        ("nothing.txt", FileNotFoundError, "nothing.txt"),
        ("kinetics400:noun.act", ValueError, "'kinetics400' has no parts, got 'kinetics400:noun.act'"),
        ("wordnet:verb.motion", ValueError, "files of WordNet's nouns are .*noun.animal.*; got 'verb.motion'"),
    ],
)
def test_an_unknown_lexicon_is_an_error(source, error, said):
    with pytest.raises(error, match=said):
        load_lexicon(source)


def test_a_reader_adds_a_lexicon_as_a_row_of_the_table(monkeypatch, clip_folder, video_path):
    monkeypatch.setitem(LEXICONS, "colored", lambda shape="shape": [f"{c} {shape}" for c in ("red", "green", "blue")])
    finder = AttributeFinder.load(clip_folder, "colored:circle", top_k=2)
    assert finder.lexicon == ["red circle", "green circle", "blue circle"]
    assert set(finder.find(video_path)) < set(finder.lexicon)


def test_a_large_lexicon_is_encoded_in_parts(monkeypatch, classifier):
    model, processor = classifier.model, classifier.processor
    whole, encode, sizes = AttributeFinder(model, processor, load_lexicon("kinoshapes")), model.encode_text, []
    monkeypatch.setattr(attributes, "_CHUNK", 20)
    monkeypatch.setattr(model, "encode_text", lambda **ids: sizes.append(ids["input_ids"].shape[1]) or encode(**ids))
    parts = AttributeFinder(model, processor, whole.lexicon)
    assert sizes == [20, 20, 12]
    torch.testing.assert_close(parts._embeds, whole._embeds)


def test_a_phrase_that_is_given_twice_is_refused(classifier):
    with pytest.raises(ValueError, match="'red' is given twice"):
        AttributeFinder(classifier.model, classifier.processor, ["red", "blue", "red"])
