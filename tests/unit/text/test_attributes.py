import json

import pytest
import torch

from kinoclip.text.attributes import attribute_sentence, rank_attributes, read_attributes, write_attributes


def test_attributes_are_joined_by_a_comma_without_a_space():
    assert attribute_sentence(["running", "shooting goal"]) == "This is a video about running,shooting goal"
    with pytest.raises(ValueError, match="At least one attribute"):
        attribute_sentence([])


def test_the_nearest_phrases_come_first_with_their_cosines():
    # Mean of the frames: (3, 4, 0), length 5. Cosines with the axes, whose lengths do not matter: 0.6, 0.8, 0.
    frames = torch.tensor([[[6.0, 0.0, 0.0], [0.0, 8.0, 0.0]]])
    indices, cosines = rank_attributes(frames, torch.diag(torch.tensor([100.0, 1.0, 1.0])), top_k=2)
    assert indices.tolist() == [[1, 0]]
    assert cosines.flatten().tolist() == pytest.approx([0.8, 0.6])


@pytest.mark.parametrize("top_k", [0, 4])
def test_more_phrases_than_the_lexicon_has_are_refused(top_k):
    with pytest.raises(ValueError, match=f"top_k must be 1 to 3, the size of the lexicon, got {top_k}"):
        rank_attributes(torch.ones(1, 2, 3), torch.eye(3), top_k=top_k)


def test_attributes_are_written_in_the_published_format_and_read_back_best_first(tmp_path):
    path = tmp_path / "attributes.json"
    attributes = {"train/a.mp4": ["kicking", "running", "resting"], "b.mp4": ["café"]}
    write_attributes(path, attributes)
    assert json.loads(path.read_text()) == {name: {"classname_topk": words} for name, words in attributes.items()}
    assert read_attributes(path) == attributes
    assert read_attributes(path, top_k=2) == {"train/a.mp4": ["kicking", "running"], "b.mp4": ["café"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must hold an object from video to attributes, got a list"),
        ('{"a": ["kicking"]}', "'a' needs"),
        ('{"a": {"classname_topk": []}}', "'a' needs"),
        ('{"a": {"classname_topk": [1]}}', "'a' needs"),
        ('{\n"a": }', "line 2: not valid JSON"),
    ],
)
def test_attributes_of_another_format_are_refused(tmp_path, content, message):
    path = tmp_path / "attributes.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_attributes(path)


def test_attributes_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        read_attributes(tmp_path / "attributes.json", top_k=0)
    with pytest.raises(FileNotFoundError, match=r"The file of attributes .*none\.json does not exist"):
        read_attributes(tmp_path / "none.json")
