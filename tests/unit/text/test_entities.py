import json
from collections import Counter
from importlib import resources

import pytest

from kinoclip.text.entities import (
    BODY_PARTS,
    CATEGORIES,
    CORPORA,
    Entity,
    build_corpus,
    expand,
    load_corpus,
    save_corpus,
    select,
)
from kinoclip.text.entities.__main__ import main
from kinoclip.text.labels import label_set, match_key
from kinoclip.text.wordnet import open_wordnet

BOW = Entity("bow", "a curved stick", "object", "units", ("archery",))
FOREST = Entity("forest", "many trees", "scene", "units", ("archery",))
UNITS = {
    "labels": {"archery": {"object": ["bow"], "role": ["archer"], "body": ["hands"], "scene": ["forest"]}},
    "descriptions": {"bow": "a curved stick", "archer": "a person with a bow", "forest": "many trees"},
}


@pytest.fixture(scope="module")
def wordnet(wordnet_folder):
    return open_wordnet(wordnet_folder)


def named(entities):
    return {entity.unit: entity for entity in entities if entity.source != "body parts"}


@pytest.mark.parametrize("name", CORPORA)
def test_a_packaged_corpus_has_entities_of_every_category(name):
    counts = Counter(entity.category for entity in load_corpus(name))

    assert set(counts) == set(CATEGORIES)


@pytest.mark.parametrize("name", CORPORA)
def test_every_label_of_a_dataset_has_entities_in_its_packaged_corpus(name):
    found = Counter(match_key(label) for entity in load_corpus(name) for label in entity.labels)

    assert {label: found[match_key(label)] for label in label_set(name, "words") if found[match_key(label)] < 2} == {}


@pytest.mark.parametrize("name", CORPORA)
def test_every_body_part_is_in_a_packaged_corpus(name):
    assert set(BODY_PARTS) <= {entity.unit for entity in select(load_corpus(name), ["body"])}


@pytest.mark.parametrize("name", CORPORA)
def test_a_packaged_corpus_is_what_its_units_make_apart_from_wordnet(name):
    units = json.loads(resources.files("kinoclip.text").joinpath("data", "corpora", f"{name}_units.json").read_text())
    packaged = [entity for entity in load_corpus(name) if not entity.source.startswith("wordnet:")]

    assert build_corpus(name, units=units) == packaged


@pytest.mark.parametrize(
    ("unit", "category", "label"),
    [("bow", "object", "archery"), ("archer", "object", "archery"), ("desert", "scene", "riding camel")],
)
def test_a_unit_of_kinetics_is_under_its_category_and_label(unit, category, label):
    (entity,) = [entity for entity in load_corpus("kinetics400") if entity.unit == unit]

    assert entity.category == category
    assert label in entity.labels


def test_the_text_of_an_entity_is_its_unit_and_description():
    assert BOW.text == "bow: a curved stick"


def test_a_corpus_is_read_as_it_was_saved(tmp_path):
    save_corpus(tmp_path / "mine.jsonl", [BOW, FOREST])

    assert load_corpus(tmp_path / "mine.jsonl") == [BOW, FOREST]


def test_an_empty_corpus_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="no entities to write"):
        save_corpus(tmp_path / "mine.jsonl", [])


GOOD = '{"unit": "bow", "description": "stick", "category": "object", "source": "units", "labels": []}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the corpus is empty"),
        ("bow\n", "line 1: no entity"),
        ("[]\n", "line 1: no entity"),
        ('{"unit": "bow"}\n', "line 1: no entity .* Give unit, description, category, source and labels"),
        (f"{GOOD}\n{GOOD}\n", "line 2: 'bow: stick' was already given"),
        (GOOD.replace("object", "tool"), "line 1: the category is 'tool'. Use body, object, scene, motion"),
        (GOOD.replace("stick", " "), "line 1: the unit is 'bow', its description ' '. Fill in both"),
    ],
)
def test_a_bad_corpus_is_an_error_that_says_where(tmp_path, content, message):
    path = tmp_path / "mine.jsonl"
    path.write_text(content)

    with pytest.raises(ValueError, match=message):
        load_corpus(path)


def test_a_missing_corpus_is_an_error_that_lists_the_packaged_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none: there is no such corpus.*hmdb51, kinetics400, ssv2, ucf101"):
        load_corpus(tmp_path / "none")


def test_entities_of_some_categories_are_selected_in_their_order():
    assert select([BOW, FOREST], ["scene", "object"]) == [BOW, FOREST]
    assert select([BOW, FOREST], ["scene"]) == [FOREST]
    assert select([BOW, FOREST], []) == []


def test_an_unknown_category_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no category 'tool'\. Use body, object, scene, motion"):
        select([BOW], ["tool"])


def test_a_corpus_is_kept_and_new_entities_are_added_after_it():
    assert expand([BOW], [FOREST]) == [BOW, FOREST]


def test_the_same_entity_found_for_two_labels_is_one_with_both():
    hunting = Entity("bow", "a curved stick", "object", "units", ("hunting", "archery"))

    assert expand([BOW], [hunting]) == [Entity("bow", "a curved stick", "object", "units", ("archery", "hunting"))]


def test_two_meanings_of_a_unit_stay_two_entities():
    ribbon = Entity("bow", "a knot of ribbon", "object", "units", ("wrapping present",))

    assert expand([BOW], [ribbon]) == [BOW, ribbon]


def test_units_become_entities_after_all_body_parts():
    corpus = build_corpus(["archery"], units=UNITS)

    assert [entity.unit for entity in corpus] == [*BODY_PARTS, "bow", "archer", "forest"]
    assert corpus[-3] == BOW
    assert corpus[-2].category == "object"
    assert [entity.labels for entity in corpus if entity.unit == "hands"] == [("archery",)]
    assert [entity.labels for entity in corpus if entity.unit == "toes"] == [()]


def test_a_word_of_a_label_gets_the_meaning_that_fits_the_label(wordnet):
    found = [entity for entity in build_corpus(["brushing teeth"], wordnet=wordnet) if entity.source != "body parts"]

    assert found == [
        Entity("brush", "rub with a brush", "motion", "wordnet:brush.v.01", ("brushing teeth",)),
    ]


def test_a_noun_and_a_verb_of_the_same_word_are_two_entities(wordnet):
    found = [entity.source for entity in build_corpus(["brush teeth"], wordnet=wordnet) if entity.unit == "brush"]

    assert found == ["wordnet:brush.n.02", "wordnet:brush.v.01"]


def test_a_phrase_is_one_thing_and_its_words_are_no_others(wordnet):
    assert list(named(build_corpus(["playing ice hockey"], wordnet=wordnet))) == ["ice hockey"]


def test_a_meaning_that_no_frame_can_show_is_no_entity(wordnet):
    assert named(build_corpus(["having an idea"], wordnet=wordnet)) == {}


def test_a_unit_without_a_description_is_described_by_wordnet(wordnet):
    units = {"labels": {"painting": {"object": ["brush"], "motion": ["swing"]}}}

    found = named(build_corpus(["painting"], units=units, wordnet=wordnet))

    assert found["brush"].description == "an implement that has hairs or bristles"
    assert found["swing"] == Entity("swing", "move in a curve", "motion", "wordnet:swing.v.01", ("painting",))


def test_what_a_person_described_is_not_described_again_by_wordnet(wordnet):
    units = {"labels": {"brush teeth": {"object": ["brush"]}}, "descriptions": {"brush": "a stick with hairs"}}

    found = [
        entity for entity in build_corpus(["brush teeth"], units=units, wordnet=wordnet) if entity.unit == "brush"
    ]

    assert [entity.description for entity in found] == ["a stick with hairs"]


def test_words_of_labels_mean_only_what_the_units_allow(wordnet):
    units = {"labels": {"brush ice": {}}, "senses": {"brush": ["brush.n.01"]}}

    found = named(build_corpus(["brush ice"], units=units, wordnet=wordnet))

    assert [entity.source for entity in found.values()] == ["wordnet:brush.n.01"]


def test_another_disambiguator_is_asked_with_the_label_and_its_units(wordnet):
    asked = []

    def take_last(word, context, descriptions):
        asked.append((word, context, len(descriptions)))
        return len(descriptions) - 1

    units = {"labels": {"painting": {"object": ["brush"]}}}
    found = named(build_corpus(["painting"], units=units, wordnet=wordnet, disambiguate=take_last))

    assert found["brush"].description == "the act of brushing your teeth"
    assert asked == [("brush", "painting brush", 2)]


def test_units_are_found_under_every_spelling_of_a_label():
    units = {"labels": {"ApplyEyeMakeup": {"object": ["eyeliner"]}}, "descriptions": {"eyeliner": "a dark pencil"}}

    assert named(build_corpus(["apply eye makeup"], units=units))["eyeliner"].labels == ("apply eye makeup",)


def test_a_unit_that_nothing_describes_is_an_error_that_names_it(wordnet):
    units = {"labels": {"archery": {"object": ["quiver"]}}}

    with pytest.raises(ValueError, match="Nothing describes the unit 'quiver' of 'archery': it has no entry in 'desc"):
        build_corpus(["archery"], units=units)
    with pytest.raises(ValueError, match="and none in WordNet"):
        build_corpus(["archery"], units=units, wordnet=wordnet)


def test_a_label_without_units_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="1 of 2 labels have no units: 'golf'"):
        build_corpus(["archery", "golf"], units=UNITS)


def test_a_corpus_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="nothing to make entities of"):
        build_corpus(["archery"])


def test_the_command_writes_a_corpus_and_counts_it(tmp_path, capsys, wordnet_folder):
    (tmp_path / "labels.txt").write_text("brush teeth\n")
    (tmp_path / "units.json").write_text(
        json.dumps({"labels": {"brush teeth": {"scene": ["bathroom"]}}, "descriptions": {"bathroom": "a room"}})
    )
    options = ["--labels", "labels.txt", "--units", "units.json", "--output", "mine.jsonl"]
    options = [str(tmp_path / option) if "." in option else option for option in options]

    status = main([*options, "--wordnet", str(wordnet_folder)])

    # 24 body parts, the bathroom, and brush as noun and verb; the noun is an act
    assert status == 0
    assert "27 entities (24 body, 0 object, 1 scene, 2 motion)" in capsys.readouterr().err
    assert len(load_corpus(tmp_path / "mine.jsonl")) == 27


def test_the_command_fails_with_the_reason(tmp_path, capsys):
    status = main(["--labels", "hmdb51", "--no-wordnet", "--output", str(tmp_path / "mine.jsonl")])

    assert status == 1
    assert "nothing to make entities of" in capsys.readouterr().err


def test_what_a_label_negates_makes_no_entity(wordnet):
    assert list(named(build_corpus(["brushing (not ice hockey)"], wordnet=wordnet))) == ["brush"]


def test_a_sense_that_a_label_excludes_is_kept_for_the_others(wordnet):
    units = {"labels": {"swing brush": {}, "brush": {}}, "excluded": {"Swing_brush": ["swing.v.01", "brush.v.01"]}}

    found = [
        e for e in build_corpus(["swing brush", "brush"], units=units, wordnet=wordnet) if e.source != "body parts"
    ]

    assert [(entity.source, entity.labels) for entity in found] == [
        ("wordnet:brush.n.01", ("swing brush", "brush")),
        ("wordnet:brush.v.01", ("brush",)),
    ]


@pytest.mark.parametrize(
    ("label", "synset"),
    [
        ("tying knot (not on a tie)", "necktie.n.01"),
        ("skiing (not slalom or crosscountry)", "slalom.n.01"),
        ("watering plants", "plant.v.01"),
        ("surfing crowd", "surfing.n.01"),
        ("pushing cart", "cart.n.01"),
    ],
)
def test_the_packaged_entities_of_a_label_are_not_of_another_thing(label, synset):
    assert f"wordnet:{synset}" not in {e.source for e in load_corpus("kinetics400") if label in e.labels}
