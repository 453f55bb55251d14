import json

import pytest

from kinoclip.text.units import SLOTS, read_units, write_units

BOWS = {"labels": {"archery": {"object": ["bow"]}}, "descriptions": {"bow": "a bent stick with a string"}}


def answer_about_archery(prompt):
    if prompt.startswith("Concisely explain"):
        return f"It is {prompt.split()[2]}. It is nothing else."
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
        ({}, 'give {"labels"'),
        ({"labels": {"archery": ["bow"]}}, r"'archery' holds \['bow'\]\. Give lists of units by object, body, scene"),
        ({"labels": {"archery": {"tool": ["bow"]}}}, "'archery' holds"),
        ({"labels": {"archery": {"object": "bow"}}}, "the object units of 'archery' are 'bow'"),
        ({"labels": {"archery": {"object": [""]}}}, r"the object units of 'archery' are \[''\]"),
        ({"labels": {}, "descriptions": ["bow"]}, "'descriptions' is a list"),
        ({"labels": {}, "descriptions": {"bow": " "}}, "'bow' is described by ' '"),
        ({"labels": {}, "senses": ["bow.n.04"]}, "'senses' holds"),
        ({"labels": {}, "excluded": {"archery": "bow.n.04"}}, "'excluded' holds"),
    ],
)
def test_bad_units_are_an_error_that_says_what_is_wrong(content, message):
    with pytest.raises(ValueError, match=message):
        read_units(content)


def test_a_file_that_is_no_json_is_an_error_that_says_where(tmp_path):
    path = tmp_path / "units.json"
    path.write_text("{\n1")

    with pytest.raises(ValueError, match=r"units\.json, line 2: not valid JSON"):
        read_units(path)


def test_a_missing_file_of_units_is_an_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: there is no such file of units"):
        read_units(tmp_path / "none.json")


def test_the_answers_of_a_model_become_short_names_with_descriptions(tmp_path):
    units = write_units(["archery"], answer_about_archery, tmp_path / "units.json")

    assert units.labels["archery"] == {
        "object": ["bow", "arrow"],
        "body": ["hands"],
        "scene": ["target range", "forest"],
        "role": ["hands"],
        "motion": ["hands"],
    }
    assert units.descriptions["bow"] == "It is bow"
    assert read_units(tmp_path / "units.json") == units


def test_labels_that_a_file_holds_are_not_asked_for_again(tmp_path):
    path = tmp_path / "units.json"
    write_units(["archery"], answer_about_archery, path)
    asked = []

    units = write_units(["Archery", "golf"], lambda prompt: asked.append(prompt) or "club", path)

    assert list(units.labels) == ["archery", "golf"]
    # one question per slot, and one for the only new unit
    assert len(asked) == len(SLOTS) + 1
    assert not any("rchery" in prompt for prompt in asked)


def test_a_model_that_fails_is_an_error_that_names_the_label_and_keeps_earlier_answers(tmp_path):
    path = tmp_path / "units.json"

    def ask(prompt):
        if "golf" in prompt:
            raise TimeoutError("no answer")
        return "club"

    with pytest.raises(
        RuntimeError, match=r"no units of 'golf': TimeoutError: no answer\. 1 labels before it are kept"
    ):
        write_units(["archery", "golf"], ask, path)
    assert list(read_units(path).labels) == ["archery"]


def test_a_model_that_lists_nothing_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match="none of the answers is a list of short names"):
        write_units(["archery"], lambda prompt: "I would rather talk about the weather of today:", tmp_path / "u.json")
