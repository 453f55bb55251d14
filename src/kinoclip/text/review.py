"""The review of a corpus: a CSV table of its entities, in which a person rejects and edits them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kinoclip.storage import hash_json
from kinoclip.text.entities import Entity, check_entity, expand
from kinoclip.text.tables import REJECTED, REVIEWED, Row, Table

_SEPARATORS = {"labels": "; ", "candidates": " | "}


class ReviewTable(Table):
    """Entities with the decision of a person.

    `keep` is "no" for an entity that the corpus must not contain, "yes" for one that it must, and empty otherwise. Unit,
    description and category can be edited in place, and a row without an id adds an entity.
    """

    columns = ("unit", "description", "category", "keep", "labels", "source", "candidates", "id")
    required = ("unit", "description", "category", "keep")
    own = ("unit", "description", "keep", "id")
    command = "kinoclip corpus"


def review(entities: Sequence[Entity], table: ReviewTable) -> tuple[list[Entity], ReviewTable]:
    """Apply a table to the entities of a corpus.

    Returns:
        The corpus, in which edited and added entities have the source "reviewed", and the table with a row for each entity;
        rows that a person edited or decided stay.

    Raises:
        ValueError: a row cannot be used; the message names its line.
    """
    rows = {entity_id(entity): _to_row(entity) for entity in entities}
    chosen = dict(zip(rows, entities, strict=True))
    seen = set[str]()
    for number, row in enumerate(table.rows):
        if row["id"] in seen:  # a copy, which adds an entity
            row = row | {"id": ""}
        seen.add(row["id"] or f"row {number}")
        key, keep, entity = (
            row["id"] or f"row {number}",
            table.decision(number),
            _to_entity(row, table.position(number)),
        )
        if key in rows and entity.source != REVIEWED:
            rows[key] = row | {name: cell for name, cell in rows[key].items() if name != "keep"}
        elif keep or entity.source == REVIEWED:  # others are not proposed any more
            rows[key], chosen[key] = row | {"source": entity.source}, entity
        if keep == REJECTED:
            del chosen[key]
    return expand([], list(chosen.values())), ReviewTable(list(rows.values()), delimiter=table.delimiter)


def entity_id(entity: Entity) -> str:
    """Return the hash of unit, description and category, with a letter first: spreadsheets change numbers."""
    return "e" + hash_json([entity.unit, entity.description, entity.category])[:11]


def _to_row(entity: Entity) -> Row:
    texts = {name: getattr(entity, name) for name in ("unit", "description", "category", "source")}
    lists = {name: separator.join(getattr(entity, name)) for name, separator in _SEPARATORS.items()}
    return {**dict.fromkeys(ReviewTable.columns, ""), **texts, **lists, "id": entity_id(entity)}


def _to_entity(row: Row, position: str) -> Entity:
    labels = tuple(label.strip() for label in row["labels"].split(";") if label.strip())
    category: Any = row["category"].casefold()
    entity = Entity(row["unit"], row["description"], category, row["source"], labels)
    check_entity(entity, position)
    return entity if row["id"] == entity_id(entity) else replace(entity, source=REVIEWED)
