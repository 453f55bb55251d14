"""ALT's text corpus: entities that a frame can show, each a unit and a description, made from the labels of a dataset."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from kinoclip.storage import readable_by, write_text
from kinoclip.text.labels import load_names, match_key, packaged_text
from kinoclip.text.parsing import parse_json, read_text
from kinoclip.text.units import SLOTS, Units, affirmed_part, read_units
from kinoclip.text.wordnet import Disambiguator, category_of, lesk, split_words

Category = Literal["body", "object", "scene", "motion"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
CORPORA = ("hmdb51", "kinetics400", "ssv2", "ucf101")  # each made from the labels of a packaged set and its units
# packaged corpora of several files: with what WordNet relates to the entities, and with the actions that Kinetics-400 lacks
EXTENDED = {
    "kinetics400-wordnet": ("kinetics400", "kinetics400_wordnet"),
    "kinetics600": ("kinetics400", "kinetics600_new"),
}

# Source: ALT sec. 3.1, step 4, always adds body parts and names "head, hands, and feet"; the others are ours.
BODY_PARTS: Mapping[str, str] = {
    "head": "the part of the body above the neck",
    "face": "the front of the head, with eyes, nose and mouth",
    "eyes": "the two organs of sight in a face",
    "ears": "the organs of hearing at both sides of the head",
    "nose": "the part of a face that sticks out and smells",
    "mouth": "the opening of a face between the lips",
    "teeth": "the hard white rows in a mouth",
    "hair": "the fine threads that grow on a head",
    "neck": "the narrow part between head and shoulders",
    "shoulders": "the parts of the body where the arms begin",
    "arms": "the limbs between shoulders and hands",
    "elbows": "the joints in the middle of the arms",
    "wrists": "the joints between arms and hands",
    "hands": "the ends of the arms, which hold things",
    "fingers": "the five thin parts of a hand",
    "chest": "the front of the body between neck and belly",
    "back": "the rear of the body between neck and hips",
    "waist": "the narrow middle of the body above the hips",
    "hips": "the sides of the body where the legs begin",
    "legs": "the limbs that a person stands and walks on",
    "knees": "the joints in the middle of the legs",
    "ankles": "the joints between legs and feet",
    "feet": "the ends of the legs, which stand on the ground",
    "toes": "the five ends of a foot",
}


@dataclass(frozen=True)
class Entity:
    """Something that a frame can show."""

    unit: str  # its name
    description: str  # makes the name unambiguous
    category: Category
    source: str  # "units", "body parts", "reviewed", or the synset of WordNet, such as "wordnet:brush.n.07"
    labels: tuple[str, ...] = ()  # the actions that it belongs to; empty for body parts, which every corpus contains
    candidates: tuple[str, ...] = field(default=(), compare=False)  # descriptions that were not chosen; not saved

    @property
    def text(self) -> str:
        """Input of the text tower.

        >>> Entity("bow", "a curved stick that shoots arrows", "object", "units").text
        'bow: a curved stick that shoots arrows'
        """
        return f"{self.unit}: {self.description}"


def load_corpus(source: str | Path | Sequence[str | Path]) -> list[Entity]:
    """Load a corpus: a packaged one (`CORPORA`, `EXTENDED`), a file of `save_corpus`, or several as one.

    Raises:
        FileNotFoundError: the file does not exist, and no packaged corpus has this name.
        ValueError: a line is not an entity or repeats one; the message names it.
    """
    if not isinstance(source, str | Path):
        return expand([], [entity for each in source for entity in load_corpus(each)])
    packaged = (*CORPORA, *EXTENDED)
    if str(source) not in packaged or Path(source).exists():
        return _parse_corpus(source, read_text(source, f"entities (or one of {', '.join(packaged)})"))
    names = EXTENDED.get(str(source), (str(source),))
    parts = [_parse_corpus(name, packaged_text(f"corpora/{name}.jsonl")) for name in names]
    return expand([], [entity for part in parts for entity in part])


def _parse_corpus(source: str | Path, text: str) -> list[Entity]:
    entities: dict[str, Entity] = {}
    for position, fields in _read_rows(source, text):
        entity = _parse_entity(fields, position)
        if entity.text in entities:
            raise ValueError(f"{position}: {entity.text!r} was already given. Keep one of them.")
        entities[entity.text] = entity
    if not entities:
        raise ValueError(f"{source}: the corpus is empty. Write one with `kinoclip corpus`.")
    return list(entities.values())


def packaged_units(name: str) -> Units:
    """Return the units of a packaged corpus."""
    return read_units(json.loads(packaged_text(f"corpora/{name}_units.json")))


def save_corpus(path: str | Path, entities: Sequence[Entity]) -> None:
    """Write a corpus atomically, one JSON object per line; in a file .json these are a list."""
    if not entities:
        raise ValueError(f"{path}: at least one entity must be given.")
    rows = [{name: value for name, value in asdict(entity).items() if name != "candidates"} for entity in entities]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    text = "[\n" + ",\n".join(lines) + "\n]\n" if Path(path).suffix == ".json" else "\n".join(lines) + "\n"
    write_text(path, text, owns=readable_by(load_corpus))


def entity_ids(entities: Sequence[Entity | str]) -> list[str]:
    """Return a unique name for each entity: its unit, or unit and description where several share the unit.

    Two equal entities are a `ValueError`.

    >>> bow = Entity("bow", "a curved stick that shoots arrows", "object", "units")
    >>> entity_ids([bow, replace(bow, description="a bending of the body"), "field"])
    ['bow: a curved stick that shoots arrows', 'bow: a bending of the body', 'field']
    """
    texts = [entity if isinstance(entity, str) else entity.text for entity in entities]
    twice = [text for text, count in Counter(texts).items() if count > 1]
    if twice:
        raise ValueError(f"The entity {twice[0]!r} is given twice. Keep one of them.")
    units = [entity if isinstance(entity, str) else entity.unit for entity in entities]
    known = Counter(units)
    return [unit if known[unit] == 1 else text for unit, text in zip(units, texts, strict=True)]


def select(entities: Sequence[Entity], categories: Iterable[str]) -> list[Entity]:
    """Return the entities of some categories, in their order (ALT's table C3)."""
    chosen = {categories} if isinstance(categories, str) else set(categories)
    if not chosen <= set(CATEGORIES):
        raise ValueError(f"Categories must be among {', '.join(CATEGORIES)}; got {', '.join(sorted(chosen))}.")
    return [entity for entity in entities if entity.category in chosen]


def expand(corpus: Sequence[Entity], more: Sequence[Entity]) -> list[Entity]:
    """Append the entities of new labels to a corpus, as ALT does for few-shot and zero-shot.

    Entities with the same text are merged and have the labels of both.
    """
    merged: dict[str, Entity] = {}
    for entity in (*corpus, *more):
        first = merged.setdefault(entity.text, entity)
        labels, candidates = (
            tuple(dict.fromkeys(getattr(first, name) + getattr(entity, name))) for name in ("labels", "candidates")
        )
        merged[entity.text] = replace(first, labels=labels, candidates=candidates)
    return list(merged.values())


def build_corpus(
    labels: str | Path | Sequence[str],
    *,
    units: Units | Mapping[str, Any] | str | Path | None = None,
    wordnet: Any = None,
    disambiguate: Disambiguator = lesk,
    rechoose: bool = False,
) -> list[Entity]:
    """Build the entities of labels: body parts, the units of each label, and the words of the labels in WordNet.

    Args:
        labels: names, a file of them, or a packaged label set. What a label negates is left out, see `affirmed_part`.
        units: what a frame of each label can show, see `read_units`; written by hand, or by `write_units`.
        wordnet: from `open_wordnet`. It describes the words of the labels, and units that have no description.
        disambiguate: chooses the sense of a word in the context of its label and units: `lesk`, `ask_sense_model()` or
            any function from (word, context, descriptions) to the index of a description.
        rechoose: let it choose the description of a unit that has a written one too.

    Raises:
        ValueError: neither units nor WordNet are given, a label has no units, or a unit has no description.

    Source: ALT sec. 3.1.
    """
    names = load_names(labels)
    if units is None and wordnet is None:
        raise ValueError("Units, `wordnet=open_wordnet()` or both must be given.")
    known = Units({}) if units is None else units if isinstance(units, Units) else read_units(units)
    slots_of = {match_key(label): slots for label, slots in known.labels.items()}
    missing = [name for name in names if match_key(name) not in slots_of] if units is not None else []
    if missing:
        raise ValueError(f"{len(missing)} of {len(names)} labels have no units: {', '.join(map(repr, missing[:5]))}.")
    entities = [Entity(unit, text, "body", "body parts") for unit, text in BODY_PARTS.items()]
    for name in names:
        slots = slots_of.get(match_key(name), {})
        context = " ".join([affirmed_part(name), *(unit for units in slots.values() for unit in units)])
        senses = _Senses(name, context, wordnet, disambiguate, rechoose)
        entities += [_describe(unit, slot, known, senses) for slot in slots for unit in slots[slot]]
        if wordnet is not None:
            entities += _look_up_label(known, senses)
    return expand(entities, [])


@dataclass(frozen=True)
class _Senses:
    """Chooses descriptions in the context of a label."""

    label: str
    context: str
    wordnet: Any
    disambiguate: Disambiguator
    rechoose: bool

    def find(
        self, word: str, part: str, allowed: Collection[str] | None = None, excluded: Collection[str] = ()
    ) -> list[Any]:
        return [
            synset
            for synset in self.wordnet.synsets(word.replace(" ", "_"), part)
            if synset.name() not in excluded and (allowed is None or synset.name() in allowed)
        ]

    def choose(self, word: str, descriptions: Sequence[str]) -> tuple[int, tuple[str, ...]]:
        """Return the index of the description that is chosen, and the other ones."""
        chosen = self.disambiguate(word, self.context, descriptions)
        return chosen, tuple(text for i, text in enumerate(descriptions) if i != chosen)


def _describe(unit: str, slot: str, known: Units, senses: _Senses) -> Entity:
    written, source = known.descriptions.get(unit), "units"
    if written is None and unit in BODY_PARTS:
        written, source, slot = BODY_PARTS[unit], "body parts", "body"
    sources = dict.fromkeys([written] if isinstance(written, str) else written or (), source)
    for part in ("vn" if slot == "motion" else "n") if senses.wordnet is not None else "":
        synsets = senses.find(unit, part)
        sources = {synset.definition(): f"wordnet:{synset.name()}" for synset in synsets} | sources
        if synsets:
            break
    if not sources:
        raise ValueError(
            f"The unit {unit!r} of {senses.label!r} has no description: it is missing from 'descriptions'"
            f"{'' if senses.wordnet is None else ' and from WordNet'}. Describe it, or remove it."
        )
    descriptions = sorted(sources, key=lambda text: sources[text].startswith("wordnet:"))  # written ones first
    if isinstance(written, str) and not senses.rechoose:
        chosen, others = 0, tuple(descriptions[1:])
    else:
        chosen, others = senses.choose(unit, descriptions)
    text = descriptions[chosen]
    category: Any = SLOTS[slot]
    return Entity(unit, text, category, sources[text], (senses.label,), others)


def _look_up_label(known: Units, senses: _Senses) -> list[Entity]:
    entities = []
    key = match_key(senses.label)
    excluded = {synset for name, synsets in known.excluded.items() if match_key(name) == key for synset in synsets}
    described = known.descriptions.keys() | BODY_PARTS.keys()  # by hand; WordNet must not describe them again
    words = split_words(affirmed_part(senses.label))
    spans = sorted(combinations(range(len(words) + 1), 2), key=lambda span: (span[0] - span[1], span[0]))
    covered: set[int] = set()  # words of a phrase: "ice hockey" is one entity, and "ice" is not another
    for start, end in spans:
        if covered & set(range(start, end)):
            continue
        word = " ".join(words[start:end])
        for part in "n" if end - start > 1 else "nv":
            base = (senses.wordnet.morphy(word.replace(" ", "_"), part) or word).replace("_", " ")
            allowed = None if known.senses is None else (*known.senses.get(word, ()), *known.senses.get(base, ()))
            synsets = senses.find(word, part, allowed, excluded)
            chosen, others = senses.choose(word, [s.definition() for s in synsets]) if synsets else (0, ())
            synset: Any = synsets[chosen] if synsets else None
            category: Any = category_of(synset.lexname()) if synset is not None else None
            names = [base] if synset is None else [name.replace("_", " ") for name in synset.lemma_names()]
            unit = base if base in names or word == base else names[0]  # "swinging" can come from "swing" or "swinge"
            by_hand = bool({unit, word} & described)
            if category is not None and not by_hand:
                source = f"wordnet:{synset.name()}"
                entities.append(Entity(unit, synset.definition(), category, source, (senses.label,), others))
            if end - start > 1 and (category is not None or by_hand):
                covered |= set(range(start, end))
    return entities


def _read_rows(source: str | Path, text: str) -> Iterator[tuple[str, Any]]:
    """Yield the position and the fields of each entity: of a line, or of an entry of a list."""
    if text.startswith("["):
        for number, fields in enumerate(parse_json(source, text), 1):
            yield f"{source}, entry {number}", fields
        return
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{source}, line {number}", parse_json(source, line, line=number)


def _parse_entity(fields: Any, position: str) -> Entity:
    try:
        entity = Entity(**{**fields, "labels": tuple(fields["labels"])})
    except (TypeError, KeyError) as error:
        names = "unit, description, category, source and labels"
        raise ValueError(f"{position}: not an entity with {names} ({error}).") from error
    check_entity(entity, position)
    return entity


def check_entity(entity: Entity, position: str) -> None:
    """Check the category and the texts of an entity that was read at a position."""
    if entity.category not in CATEGORIES:
        raise ValueError(f"{position}: the category must be one of {', '.join(CATEGORIES)}, got {entity.category!r}.")
    if not all(isinstance(part, str) and part.strip() for part in (entity.unit, entity.description)):
        raise ValueError(
            f"{position}: unit and description must be texts, got {entity.unit!r}, {entity.description!r}."
        )
