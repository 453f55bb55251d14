"""Second names: proposed by dictionaries and a model, reviewed in a table."""

import json

import pytest

from kinoclip.storage import readable_by
from kinoclip.text.chinese import load_chinese_labels, load_second_names
from kinoclip.text.translation import NamesTable, is_names_file, propose_names, review_names, write_names

LABELS = ["surfing", "diving water", "archery"]
KNOWN = {"words.json": {"Archery": ["Bogenschießen", "Pfeil und Bogen"]}}


class Model:
    """Answers by the label in the question, and remembers the questions."""

    def __init__(self, **answers):
        self.answers, self.questions = answers, []

    def __call__(self, prompt):
        self.questions.append(prompt)
        return next(answer for name, answer in self.answers.items() if name in prompt)


@pytest.fixture
def german():
    return Model(
        surfing="1. Wellenreiten\n2. Surfen\n3. Brettsport", diving="Names:\n- „Springen“.", Wellen="wave riding"
    )


@pytest.fixture
def propose(tmp_path, german):
    def propose(labels=LABELS, ask=german, **options):
        options = {"model": "m", "language": "German", "dictionaries": KNOWN, "path": tmp_path / "a.json", **options}
        return propose_names(labels, ask=ask, **options)

    return propose


def test_a_dictionary_goes_before_the_model_which_names_the_rest(propose, german):
    rows = propose(variants=2)
    assert [(row["names"], row["source"]) for row in rows] == [
        ("Wellenreiten; Surfen", "m"),
        ("Springen", "m"),
        ("Bogenschießen; Pfeil und Bogen", "words.json"),
    ]
    assert len(german.questions) == 2
    assert "into German" in german.questions[0]
    assert "2 short names" in german.questions[0]


def test_answers_are_kept_and_only_new_labels_are_asked_for(propose, german):
    propose(["surfing"])
    propose(LABELS)
    assert [question.count("surfing") for question in german.questions] == [1, 0]
    assert [row["source"] for row in propose(LABELS, ask=None)] == ["m", "m", "words.json"]


def test_without_a_model_other_labels_have_no_name(propose):
    assert [row["names"] for row in propose(ask=None)] == ["", "", "Bogenschießen"]


def test_the_models_names_can_be_translated_back(propose):
    rows = propose(["surfing", "archery"], translate_back=True)
    assert [row["back_translation"] for row in rows] == ["wave riding", ""]


def test_english_names_are_paraphrases(propose):
    model = Model(surfing="riding a wave")
    propose(["surfing"], ask=model, language="English", dictionaries={})
    assert "other English words" in model.questions[0]


@pytest.mark.parametrize(
    "content", ['{"language": "French", "answers": {}, "back": {}}', "[]", '{"language": "German"}']
)
def test_answers_in_another_language_are_not_continued(propose, tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match="does not hold answers in German"):
        propose()


def test_an_answer_without_a_name_stops_with_the_label(propose):
    with pytest.raises(RuntimeError, match="did not answer for 'surfing': ValueError: the answer has no name"):
        propose(ask=Model(surfing="<think>hm"))


def _review(rows, *edits, language="German"):
    """Review twice, with edits by label in between."""
    table = review_names(rows, NamesTable([]), language)[1]
    for row in table.rows:
        row |= dict(edits).get(row["label"], {})
    return review_names(rows, table, language)


def test_edited_cells_win_and_have_the_source_reviewed(propose):
    names, table = _review(propose(), ("surfing", {"names": "Surfen"}), ("archery", {"keep": "no"}))
    assert names == {"surfing": ["Surfen"], "diving water": ["Springen"]}
    assert [row["source"] for row in table.rows] == ["reviewed", "m", "words.json"]
    again = review_names(propose(), table, "German")
    assert again == (names, table)


def test_names_that_a_person_accepted_stay_when_others_are_proposed(propose):
    rows = propose()
    other = [row | {"names": "Neu", "proposed": "Neu"} if row["label"] == "surfing" else row for row in rows]
    for keep, name in (("yes", "Wellenreiten"), ("", "Neu")):
        table = review_names(rows, NamesTable([]), "German")[1]
        table.rows[0]["keep"] = keep
        assert review_names(other, table, "German")[0]["surfing"] == [name]


def test_labels_of_earlier_runs_stay(propose):
    table = review_names(propose(["surfing"]), NamesTable([]), "German")[1]
    assert list(review_names(propose(["archery"]), table, "German")[0]) == ["archery", "surfing"]


@pytest.mark.parametrize(
    ("language", "names", "note"),
    [
        ("Chinese", "surf; 冲浪", "left out: 'surf' contains no Chinese character"),
        ("English", "Surfing; riding a wave", "left out: 'Surfing' is the label itself"),
        ("German", "Pfeil; Wellen", "left out: 'Pfeil' is a name of 'archery' too"),
    ],
)
def test_a_name_that_cannot_be_used_is_left_out_and_noted(language, names, note):
    first = "射箭" if language == "Chinese" else "Pfeil"
    rows = [{"label": "archery", "names": first}, {"label": "surfing", "names": names}]
    found, table = review_names(rows, NamesTable([]), language)
    assert table.rows[1]["note"] == note
    assert found["surfing"] == [names.split("; ")[1]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": "surfing", "keep": "maybe"}, "row 1: keep must be yes, no or empty, got 'maybe'"),
        ({"label": "", "keep": ""}, "row 1: the label '' must be there once"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(row, message):
    table = NamesTable([dict.fromkeys(NamesTable.columns, "") | row])
    with pytest.raises(ValueError, match=message):
        review_names([], table, "German")


def test_the_file_is_a_dictionary_with_its_language_and_sources(propose, tmp_path):
    path = tmp_path / "names.json"
    names, table = review_names(propose(), NamesTable([]), "German")
    write_names(path, "German", names, table)
    assert load_second_names(path) == ("German", names)
    assert json.loads(path.read_text())["sources"]["archery"] == "words.json"
    assert is_names_file(path)
    path.write_text('{"archery": "射箭"}')
    assert not readable_by(is_names_file)(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"names": {"a": "b"}, "language": "German"}, "'version': 1 and a 'language'"),
        ({"names": {"a": "b"}, "version": 1}, "'version': 1 and a 'language'"),
        ({"names": {"a": " "}, "version": 1, "language": "German"}, "'a' is translated by '', which is empty"),
        ({"names": {"a": "b"}, "version": 1, "language": "Chinese"}, "contains no Chinese character"),
    ],
)
def test_a_dictionary_of_another_language_is_checked(content, message):
    with pytest.raises(ValueError, match=message):
        load_chinese_labels(content)
