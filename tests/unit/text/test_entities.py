import csv
import json
import re
from collections import Counter
from dataclasses import replace

import pytest

from kinoclip.cli import main
from kinoclip.text.entities import (
    BODY_PARTS,
    CATEGORIES,
    CORPORA,
    EXTENDED,
    Entity,
    build_corpus,
    expand,
    load_corpus,
    packaged_units,
    save_corpus,
    select,
)
from kinoclip.text.labels import load_names, match_key, packaged_text
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
def test_a_packaged_corpus_has_all_categories_labels_and_body_parts(name):
    corpus = load_corpus(name)
    assert {entity.category for entity in corpus} == set(CATEGORIES)
    counts = Counter(match_key(label) for entity in corpus for label in entity.labels)
    assert [label for label in load_names(name) if counts[match_key(label)] < 2] == []
    assert set(BODY_PARTS) <= {entity.unit for entity in select(corpus, ["body"])}
    # apart from WordNet, it is built from its units
    assert build_corpus(name, units=packaged_units(name)) == [e for e in corpus if not e.source.startswith("wordnet:")]


@pytest.mark.parametrize(
    ("unit", "category", "label"),
    [("bow", "object", "archery"), ("archer", "object", "archery"), ("desert", "scene", "riding camel")],
)
def test_a_unit_of_kinetics_is_under_its_category_and_label(unit, category, label):
    (entity,) = [entity for entity in load_corpus("kinetics400") if entity.unit == unit]
    assert entity.category == category
    assert label in entity.labels


def test_a_corpus_is_read_as_it_was_saved(tmp_path):
    save_corpus(tmp_path / "mine.jsonl", [BOW, FOREST])
    assert load_corpus(tmp_path / "mine.jsonl") == [BOW, FOREST]
    assert BOW.text == "bow: a curved stick"
    with pytest.raises(ValueError, match="at least one entity"):
        save_corpus(tmp_path / "mine.jsonl", [])


def test_a_json_file_is_a_list_and_several_corpora_are_read_as_one(tmp_path):
    save_corpus(tmp_path / "mine.json", [BOW])
    save_corpus(tmp_path / "other.jsonl", [FOREST, replace(BOW, labels=("hunting",))])
    assert json.loads((tmp_path / "mine.json").read_text())[0]["unit"] == "bow"
    both = load_corpus([tmp_path / "mine.json", tmp_path / "other.jsonl"])
    assert both == [replace(BOW, labels=("archery", "hunting")), FOREST]


GOOD = '{"unit": "bow", "description": "stick", "category": "object", "source": "units", "labels": []}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the corpus is empty"),
        ("bow\n", "line 1: not valid JSON"),
        ("[]\n", "the corpus is empty"),
        ("[5]\n", "entry 1: not an entity"),
        ('{"unit": "bow"}\n', "line 1: not an entity with unit, description, category, source and labels"),
        (f"{GOOD}\n{GOOD}\n", "line 2: 'bow: stick' was already given"),
        (
            GOOD.replace("object", "tool"),
            "line 1: the category must be one of body, object, scene, motion, got 'tool'",
        ),
        (GOOD.replace("stick", " "), "line 1: unit and description must be texts, got 'bow', ' '"),
    ],
)
def test_a_bad_corpus_is_refused_with_the_line(tmp_path, content, message):
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        load_corpus(path)


def test_the_grown_corpus_names_synset_relation_and_seed_and_its_log_has_everything_else():
    corpus = load_corpus("kinetics400-wordnet")
    base, grown = corpus[: len(load_corpus("kinetics400"))], corpus[len(load_corpus("kinetics400")) :]
    assert base == load_corpus("kinetics400")
    assert len(corpus) == 3701
    assert set(BODY_PARTS) <= {entity.unit for entity in base}
    relation = re.compile(r"wordnet:(\S+), (?:hyponym|hyponym of hyponym|part|troponym|coordinate) of \S+\.[nv]\.\d+")
    kept = {relation.fullmatch(entity.source)[1] for entity in grown}
    log = packaged_text("corpora/kinetics400_wordnet_rejected.csv")
    rejected = list(csv.DictReader(log.splitlines()))
    assert not kept & {row["synset"] for row in rejected}
    reasons = json.loads(packaged_text("corpora/provenance.json"))["grown"]["kinetics400-wordnet"]["reasons"]
    assert {row["reason"] for row in rejected} == set(reasons)


def test_the_corpus_of_kinetics600_adds_the_classes_that_kinetics400_lacks():
    units = packaged_units("kinetics600_new")
    assert set(units.labels) == set(json.loads(packaged_text("kinetics600_lists.json"))["classes"])
    added = build_corpus(list(units.labels), units=units)
    assert load_corpus("kinetics600") == expand(load_corpus("kinetics400"), added)
    assert min(sum(label in entity.labels for entity in added) for label in units.labels) >= 3


@pytest.mark.parametrize("name", [*CORPORA, *EXTENDED])
def test_no_entity_is_what_its_label_negates(name):
    negated = {
        "petting animal (not cat)": "cat",
        "tying knot (not on a tie)": "tie",
        "skiing (not slalom or crosscountry)": "slalom",
    }
    units = [(entity.unit, label) for entity in load_corpus(name) for label in entity.labels if label in negated]
    assert [(unit, label) for unit, label in units if negated[label] in unit.split()] == []


def test_a_missing_corpus_is_refused_with_the_packaged_ones(tmp_path):
    with pytest.raises(
        FileNotFoundError,
        match=r"hmdb51, kinetics400, ssv2, ucf101, kinetics400-wordnet, kinetics600.*none does not exist",
    ):
        load_corpus(tmp_path / "none")


def test_entities_are_selected_by_category_in_their_order():
    assert select([BOW, FOREST], ["scene", "object"]) == [BOW, FOREST]
    assert select([BOW, FOREST], ["scene"]) == [FOREST]
    with pytest.raises(ValueError, match=r"among body, object, scene, motion; got tool"):
        select([BOW], ["tool"])


def test_new_entities_are_appended_and_equal_texts_are_merged():
    hunting, ribbon = (
        Entity("bow", text, "object", "units", (label,))
        for text, label in (("a curved stick", "hunting"), ("a knot", "x"))
    )
    merged = Entity("bow", "a curved stick", "object", "units", ("archery", "hunting"))
    assert expand([BOW], [FOREST, hunting, ribbon]) == [merged, FOREST, ribbon]


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


@pytest.mark.parametrize(
    ("label", "sources"),
    [
        ("brush teeth", ["brush.n.02", "brush.v.01"]),  # a noun and a verb are two entities
        ("playing ice hockey", ["ice_hockey.n.01"]),  # the words of a phrase are not entities
        ("having an idea", []),  # a frame cannot show it
        ("brushing (not ice hockey)", ["brush.v.01"]),
    ],
)
def test_words_of_a_label_become_entities(wordnet, label, sources):
    corpus = build_corpus([label], wordnet=wordnet)
    assert [entity.source for entity in corpus if entity.source != "body parts"] == [
        f"wordnet:{one}" for one in sources
    ]


def test_a_unit_without_a_description_is_described_by_wordnet(wordnet):
    units = {"labels": {"painting": {"object": ["brush"], "motion": ["swing"]}}}
    found = named(build_corpus(["painting"], units=units, wordnet=wordnet))
    assert found["brush"].description == "an implement that has hairs or bristles"
    assert found["swing"] == Entity("swing", "move in a curve", "motion", "wordnet:swing.v.01", ("painting",))


def test_wordnet_does_not_describe_again_what_the_units_describe(wordnet):
    units = {"labels": {"brush teeth": {"object": ["brush"]}}, "descriptions": {"brush": "a stick with hairs"}}
    corpus = build_corpus(["brush teeth"], units=units, wordnet=wordnet)
    assert [entity.description for entity in corpus if entity.unit == "brush"] == ["a stick with hairs"]


def test_a_description_is_chosen_among_candidates_in_the_context_of_the_label(wordnet):
    listed = ["a club for hitting a ball", "a tool for painting a wall"]
    units = {"labels": {"painting": {"object": ["brush"]}}, "descriptions": {"brush": listed}}
    (brush,) = named(build_corpus(["painting"], units=units, wordnet=wordnet)).values()
    assert (brush.description, brush.source) == (listed[1], "units")
    # WordNet's senses of the noun
    assert brush.candidates == (
        listed[0],
        "an implement that has hairs or bristles",
        "the act of brushing your teeth",
    )


def test_a_written_description_is_fixed_unless_it_is_to_be_chosen_again(wordnet):
    units = {"labels": {"brushing teeth": {"object": ["brush"]}}, "descriptions": {"brush": "a stick"}}
    options = {"units": units, "wordnet": wordnet}
    assert named(build_corpus(["brushing teeth"], **options))["brush"].description == "a stick"
    again = named(build_corpus(["brushing teeth"], **options, rechoose=True))["brush"]
    assert (again.description, again.source) == ("the act of brushing your teeth", "wordnet:brush.n.02")
    assert again.candidates[0] == "a stick"


def test_words_of_labels_have_only_the_senses_that_the_units_allow(wordnet):
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


def test_labels_without_units_or_descriptions_are_refused(wordnet):
    units = {"labels": {"archery": {"object": ["quiver"]}}}
    for options, message in (
        ({"units": units}, "unit 'quiver' of 'archery' has no description: it is missing from 'descriptions'."),
        ({"units": units, "wordnet": wordnet}, "and from WordNet"),
        ({}, "must be given"),
    ):
        with pytest.raises(ValueError, match=message):
            build_corpus(["archery"], **options)
    with pytest.raises(ValueError, match="1 of 2 labels have no units: 'golf'"):
        build_corpus(["archery", "golf"], units=UNITS)


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


def test_the_command_adds_the_words_of_labels_in_wordnet_and_its_candidates(
    tmp_path, monkeypatch, capsys, wordnet_folder
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "labels.txt").write_text("brush teeth\n")
    units = {"labels": {"brush teeth": {"scene": ["bathroom"]}}, "descriptions": {"bathroom": "a room"}}
    (tmp_path / "units.json").write_text(json.dumps(units))
    command = ["corpus", "labels.txt", "--units", "units.json", "--output", "mine.jsonl", "--wordnet"]
    assert main([*command, str(wordnet_folder)]) == 0
    # 24 body parts, the bathroom, and brush as noun and verb; the noun is an act
    assert "27 entities (24 body, 0 object, 1 scene, 2 motion)" in capsys.readouterr().out
    assert "the act of brushing your teeth,motion,,brush teeth,wordnet:brush.n.02,an implement" in (
        (tmp_path / "mine.review.csv").read_text()
    )
    assert main([*command, str(tmp_path)]) == 2
    assert "data.noun is missing." in capsys.readouterr().err
