import json

import pytest

from kinoclip.text.units import SLOTS, read_units, write_units

BOWS = {"labels": {"archery": {"object": ["bow"]}}, "descriptions": {"bow": "a bent stick with a string"}}


def answer_about_archery(prompt):
    if prompt.startswith("Concisely explain"):
        return f"It is {prompt.split()[2]}. It is nothing else."
    if prompt.startswith("Concisely list"):
        return "Explanations:\n1. a curved stick\n2. a knot. Of ribbon.\n3. It is bow"
    if prompt.startswith("Concisely describe"):
        return "Someone\nbends."
    if "objects" in prompt:
        return "Here are the identifying objects of it:\n1. Bow\n2. Arrow.\n- bow"
    return "target range, forest" if "scenes" in prompt else "hands"


def test_units_are_read_from_a_file(tmp_path):
    path = tmp_path / "units.json"
    path.write_text(json.dumps(BOWS))
    units = read_units(path)
    assert units.labels == {"archery": {"object": ["bow"]}}
    assert units.descriptions["bow"] == "a bent stick with a string"
    assert units.senses is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, 'must hold {"labels"'),
        ({"labels": {"archery": ["bow"]}}, r"'archery' needs lists of units by object, body, scene, .*got \['bow'\]"),
        ({"labels": {"archery": {"tool": ["bow"]}}}, "'archery' needs lists"),
        (
            {"labels": {"archery": {"object": "bow"}}},
            "the object units of 'archery' must be a list of names, got 'bow'",
        ),
        (
            {"labels": {"archery": {"object": [""]}}},
            r"the object units of 'archery' must be a list of names, got \[''\]",
        ),
        ({"labels": {}, "descriptions": ["bow"]}, "'descriptions' must map units to texts, got a list"),
        ({"labels": {}, "descriptions": {"bow": " "}}, "'bow' must be a text or a list of candidates, got ' '"),
        ({"labels": {}, "descriptions": {"bow": []}}, r"'bow' must be a text or a list of candidates, got \[\]"),
        ({"labels": {}, "senses": ["bow.n.04"]}, "'senses' must hold"),
        ({"labels": {}, "excluded": {"archery": "bow.n.04"}}, "'excluded' must hold"),
    ],
)
def test_bad_units_are_refused_with_the_reason(content, message):
    with pytest.raises(ValueError, match=message):
        read_units(content)


def test_the_answers_of_a_model_become_short_names_with_descriptions(tmp_path):
    units = write_units(["archery"], answer_about_archery, tmp_path / "units.json")
    assert units.labels["archery"] == {
        "object": ["bow", "arrow"],
        "body": ["hands"],
        "scene": ["target range", "forest"],
        "role": ["hands"],
        "motion": ["hands"],
    }
    assert units.descriptions["bow"] == ["It is bow", "Someone bends", "a curved stick", "a knot"]
    assert read_units(tmp_path / "units.json") == units


def test_labels_that_a_file_holds_are_not_asked_for_again(tmp_path):
    path = tmp_path / "units.json"
    write_units(["archery"], answer_about_archery, path)
    asked = []
    units = write_units(["Archery", "golf"], lambda prompt: asked.append(prompt) or "club", path)
    assert list(units.labels) == ["archery", "golf"]
    # one question per slot, and three for the only new unit
    assert len(asked) == len(SLOTS) + 3
    assert not any("rchery" in prompt for prompt in asked)


def test_a_model_is_not_asked_what_wordnet_describes_nor_for_what_a_label_or_an_answer_negates(tmp_path):
    asked = []

    def ask(prompt):
        asked.append(prompt)
        return "bow, no hands, rope without knot" if "objects" in prompt else "long bow"

    units = write_units(["tying bow (not a tie)"], ask, tmp_path / "u.json", is_described=lambda unit: unit == "bow")
    assert asked[0] == "What are identifying objects of an action tying bow? List them concisely."
    assert units.labels["tying bow (not a tie)"]["object"] == ["bow", "rope"]
    assert set(units.descriptions) == {"rope", "long bow"}


def test_a_model_that_lists_nothing_is_named_with_the_label(tmp_path):
    with pytest.raises(RuntimeError, match="'golf': ValueError: none of the answers is a list of short names"):
        write_units(["golf"], lambda prompt: "I would rather talk about the weather of today:", tmp_path / "u.json")
