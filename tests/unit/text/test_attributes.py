import json

import pytest
import torch

from kinoclip.text.attributes import (
    attribute_sentence,
    rank_attributes,
    read_attributes,
    write_attributes,
)
from kinoclip.text.labels import load_names


def test_attributes_are_joined_by_a_comma_without_a_space():
    assert attribute_sentence(["running", "shooting goal"]) == "This is a video about running,shooting goal"


def test_a_sentence_of_no_attributes_is_an_error():
    with pytest.raises(ValueError, match="no attributes to list"):
        attribute_sentence([])


def test_the_nearest_phrases_come_first_with_their_cosines():
    # Mean of the frames: (3, 4, 0), length 5. Cosines with the unit axes: 0.6, 0.8, 0.
    frames = torch.tensor([[[6.0, 0.0, 0.0], [0.0, 8.0, 0.0]]])

    indices, cosines = rank_attributes(frames, torch.eye(3), top_k=2)

    assert indices.tolist() == [[1, 0]]
    assert cosines.flatten().tolist() == pytest.approx([0.8, 0.6])


def test_the_length_of_a_phrase_embedding_does_not_change_its_rank():
    frames = torch.tensor([[[3.0, 4.0]]])

    indices, _ = rank_attributes(frames, torch.tensor([[100.0, 0.0], [0.0, 1.0]]), top_k=2)

    assert indices.tolist() == [[1, 0]]


@pytest.mark.parametrize("top_k", [0, 4])
def test_more_phrases_than_the_lexicon_holds_are_an_error(top_k):
    with pytest.raises(ValueError, match=f"top_k is {top_k}, but the lexicon holds 3 phrases"):
        rank_attributes(torch.ones(1, 2, 3), torch.eye(3), top_k=top_k)


def test_written_attributes_are_read_back_best_first(tmp_path):
    path = tmp_path / "attributes.json"
    write_attributes(path, {"a.mp4": ["kicking", "running", "resting"], "b.mp4": ["café"]})

    assert read_attributes(path, top_k=2) == {"a.mp4": ["kicking", "running"], "b.mp4": ["café"]}


def test_all_attributes_are_read_unless_a_number_is_given(tmp_path):
    path = tmp_path / "attributes.json"
    write_attributes(path, {"a.mp4": list("abcdefg")})
    assert read_attributes(path) == {"a.mp4": list("abcdefg")}


def test_written_attributes_have_the_published_layout(tmp_path):
    path = tmp_path / "attributes.json"
    write_attributes(path, {"train/a": ["kicking"]})

    assert json.loads(path.read_text()) == {"train/a": {"classname_topk": ["kicking"]}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "holds a list"),
        ('{"a": ["kicking"]}', "'a' needs"),
        ('{"a": {"classname_topk": []}}', "'a' needs"),
        ('{"a": {"classname_topk": [1]}}', "'a' needs"),
        ('{\n"a": }', "line 2: not valid JSON"),
    ],
)
def test_attributes_of_another_format_are_an_error(tmp_path, content, message):
    path = tmp_path / "attributes.json"
    path.write_text(content)

    with pytest.raises(ValueError, match=message):
        read_attributes(path)


def test_no_phrases_per_video_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="top_k is 0"):
        read_attributes(tmp_path / "attributes.json", top_k=0)


def test_a_missing_file_of_attributes_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: there is no such file of attributes"):
        read_attributes(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("lexicon.txt", "running\nshooting goal\n"),
        ("lexicon.csv", "id,name\n0,running\n1,shooting goal\n"),
        ("lexicon.json", '["running", "shooting goal"]'),
    ],
)
def test_a_lexicon_is_read_from_every_format(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)

    assert load_names(path) == ["running", "shooting goal"]
