import pytest

from kinoclip.text.entities import Entity
from kinoclip.text.review import ReviewTable, review

BOW = Entity("bow", "a knot", "object", "units", ("archery",), candidates=("a curved stick", "a bending"))
FOREST = Entity("forest", "many trees", "scene", "units", ("archery", "hunting"))


@pytest.fixture
def table(tmp_path):
    """A function that writes the table of the two entities with changes to cells of a unit, and reads it."""

    def write(added=(), **changes):
        rows = review([BOW, FOREST], ReviewTable([]))[1].rows
        for row in rows:
            row |= changes.get(row["unit"], {})
        ReviewTable([*rows, *added]).save(tmp_path / "review.csv")
        return ReviewTable.load_own(tmp_path / "review.csv")

    return write


def test_a_new_table_has_a_row_for_each_entity_with_other_candidates(table):
    rows = table().rows
    assert [(row["unit"], row["keep"], row["labels"]) for row in rows] == [
        ("bow", "", "archery"),
        ("forest", "", "archery; hunting"),
    ]
    assert rows[0]["candidates"] == "a curved stick | a bending"
    assert review([BOW, FOREST], table())[0] == [BOW, FOREST]


def test_rejected_entities_stay_out_and_edits_are_kept_when_the_corpus_is_built_again(table):
    edited = table(bow={"description": "a curved stick"}, forest={"keep": "NO"})
    corpus, again = review([BOW, FOREST], edited)
    expected = [Entity("bow", "a curved stick", "object", "reviewed", ("archery",))]
    assert corpus == expected
    assert review([BOW, FOREST], again)[0] == expected
    # also where they are not proposed any more
    corpus, again = review([], again)
    assert corpus == expected
    assert [row["keep"] for row in again.rows] == ["", "NO"]


def test_rows_that_nobody_touched_are_dropped_and_kept_ones_stay_when_they_are_not_proposed(table):
    corpus, again = review([], table(bow={"keep": "yes"}))
    assert corpus == [BOW]
    assert [row["unit"] for row in again.rows] == ["bow"]


def test_a_row_without_an_id_and_a_copied_row_add_entities_and_further_columns_stay(table):
    added = {"unit": "quiver", "description": "a bag for arrows", "category": "Object", "note": "mine"}
    copied = table().rows[0] | {"description": "a bending", "category": "motion"}
    corpus, again = review([BOW, FOREST], table([added, copied]))
    assert [(entity.unit, entity.category, entity.source) for entity in corpus] == [
        ("bow", "object", "units"),
        ("forest", "scene", "units"),
        ("quiver", "object", "reviewed"),
        ("bow", "motion", "reviewed"),
    ]
    assert [row.get("note", "") for row in again.rows] == ["", "", "mine", ""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": "maybe"}, "line 2: keep must be yes, no or empty, got 'maybe'"),
        ({"category": "tool"}, "line 2: the category must be one of body, object, scene, motion, got 'tool'"),
        ({"description": ""}, "line 2: unit and description must be texts"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(table, change, message):
    with pytest.raises(ValueError, match=message):
        review([BOW, FOREST], table(bow=change))
