"""ALT's text corpus: entities that a frame can show, each a unit and a description, made from the labels of a dataset.

Rebuild a packaged corpus, with Debian's wordnet-base installed:
`python -m kinoclip.text.entities --labels kinetics400 --units FILE.json --output FILE.jsonl`
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args

from kinoclip.text.labels import load_names, match_key
from kinoclip.text.units import SLOTS, Units, affirmed_part, read_units
from kinoclip.text.wordnet import Disambiguator, category_of, lesk, split_words

Category = Literal["body", "object", "scene", "motion"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
CORPORA = ("hmdb51", "kinetics400", "ssv2", "ucf101")

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
    """Something a frame can show.

    Args:
        unit: its name.
        description: what it is, so that the name has one meaning only.
        category: "body", "object", "scene" or "motion".
        source: "units", "body parts", or the synset of WordNet, such as "wordnet:brush.n.07".
        labels: the actions that it was found for; none for body parts that are always there.
    """

    unit: str
    description: str
    category: Category
    source: str
    labels: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What the text tower reads.

        >>> Entity("bow", "a curved stick that shoots arrows", "object", "units").text
        'bow: a curved stick that shoots arrows'
        """
        return f"{self.unit}: {self.description}"


def load_corpus(source: str | Path) -> list[Entity]:
    """Read a corpus.

    Args:
        source: "kinetics400", "hmdb51", "ucf101" or "ssv2", which are packaged, or a file of `save_corpus`.

    Raises:
        FileNotFoundError: if there is no such file, nor a packaged corpus of that name.
        ValueError: naming the line, for what is no entity or was there before.
    """
    if str(source) in CORPORA and not Path(source).exists():
        file = resources.files("kinoclip.text").joinpath("data", "corpora", f"{source}.jsonl")
        return _parse_corpus(file.read_text(encoding="utf-8"), str(source))
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such corpus. Give a file, or one of {', '.join(CORPORA)}.")
    return _parse_corpus(path.read_text(encoding="utf-8-sig"), str(path))


def save_corpus(path: str | Path, entities: Sequence[Entity]) -> None:
    """Write a corpus, one JSON object per line. The file is replaced if it exists."""
    if not entities:
        raise ValueError(f"{path}: there are no entities to write.")
    lines = (json.dumps(asdict(entity), ensure_ascii=False) for entity in entities)
    Path(path).write_text("\n".join(lines) + "\n", encoding="utf-8")


def entity_ids(entities: Sequence[Entity | str]) -> list[str]:
    """Return a name for each entity that no other has: its unit, or unit and description where a unit comes more than once.

    Raises:
        ValueError: two entities are the same.

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
    """The entities of some categories, in their order (ALT's table C3)."""
    wanted = {categories} if isinstance(categories, str) else set(categories)
    if not wanted <= set(CATEGORIES):
        unknown = ", ".join(map(repr, sorted(wanted - set(CATEGORIES))))
        raise ValueError(f"There is no category {unknown}. Use {', '.join(CATEGORIES)}.")
    return [entity for entity in entities if entity.category in wanted]


def expand(corpus: Sequence[Entity], more: Sequence[Entity]) -> list[Entity]:
    """Keep a corpus and add the entities of new labels after it, as ALT does for few-shot and zero-shot.

    Entities with the same text are one, with the labels of both.
    """
    merged: dict[str, Entity] = {}
    for entity in (*corpus, *more):
        first = merged.setdefault(entity.text, entity)
        merged[entity.text] = replace(first, labels=tuple(dict.fromkeys(first.labels + entity.labels)))
    return list(merged.values())


def build_corpus(
    labels: str | Path | Sequence[str],
    *,
    units: Units | Mapping[str, Any] | str | Path | None = None,
    wordnet: Any = None,
    disambiguate: Disambiguator = lesk,
) -> list[Entity]:
    """Make the entities of labels: body parts, what is known of each label, and the words of the labels in WordNet.

    Args:
        labels: names, a file of them, or a packaged label set. What a label negates is left out, see `affirmed_part`.
        units: what a frame of each label can show, see `read_units`; written by a person, or by `write_units`.
        wordnet: from `open_wordnet`. It describes the words of the labels, and units that have no description.
        disambiguate: chooses the meaning of a word in the context of its label and units: `lesk`, `ask_sense_model()` or
            any function of (word, context, descriptions) that gives the number of a description.

    Raises:
        ValueError: with neither units nor WordNet, for a label without units, and for a unit that nothing describes.

    Source: ALT sec. 3.1.
    """
    names = load_names(labels)
    if units is None and wordnet is None:
        raise ValueError("There is nothing to make entities of. Give units, `wordnet=open_wordnet()` or both.")
    known = Units({}) if units is None else units if isinstance(units, Units) else read_units(units)
    slots_of = {match_key(label): slots for label, slots in known.labels.items()}
    missing = [name for name in names if match_key(name) not in slots_of] if units is not None else []
    if missing:
        raise ValueError(f"{len(missing)} of {len(names)} labels have no units: {', '.join(map(repr, missing[:5]))}.")
    entities = [Entity(unit, text, "body", "body parts") for unit, text in BODY_PARTS.items()]
    for name in names:
        slots = slots_of.get(match_key(name), {})
        affirmed = affirmed_part(name)
        words = " ".join([affirmed, *(unit for units in slots.values() for unit in units)])
        for slot, slot_units in slots.items():
            entities += [_describe(unit, slot, name, words, known, wordnet, disambiguate) for unit in slot_units]
        if wordnet is not None:
            entities += _look_up_label(name, affirmed, words, known, wordnet, disambiguate)
    return expand(entities, [])


def _describe(
    unit: str, slot: str, label: str, context: str, known: Units, wordnet: Any, disambiguate: Disambiguator
) -> Entity:
    category: Any = SLOTS[slot]
    if unit in known.descriptions:
        return Entity(unit, known.descriptions[unit], category, "units", (label,))
    if unit in BODY_PARTS:
        return Entity(unit, BODY_PARTS[unit], "body", "body parts", (label,))
    parts_of_speech = "vn" if slot == "motion" else "n"
    for part in parts_of_speech if wordnet is not None else "":
        synset = _choose_sense(unit, part, context, None, wordnet, disambiguate)
        if synset is not None:
            return Entity(unit, synset.definition(), category, f"wordnet:{synset.name()}", (label,))
    raise ValueError(
        f"Nothing describes the unit {unit!r} of {label!r}: it has no entry in 'descriptions'"
        f"{'' if wordnet is None else ' and none in WordNet'}. Describe it, or take it out."
    )


def _look_up_label(
    label: str, affirmed: str, context: str, known: Units, wordnet: Any, disambiguate: Disambiguator
) -> list[Entity]:
    entities = []
    excluded = {
        synset for name, synsets in known.excluded.items() if match_key(name) == match_key(label) for synset in synsets
    }
    described = known.descriptions.keys() | BODY_PARTS.keys()  # by a person, and once is enough
    words = split_words(affirmed)
    spans = sorted(combinations(range(len(words) + 1), 2), key=lambda span: (span[0] - span[1], span[0]))
    covered: set[int] = set()  # "ice hockey" is one thing, and "ice" is no second one
    for start, end in spans:
        if covered & set(range(start, end)):
            continue
        word = " ".join(words[start:end])
        for part in "n" if end - start > 1 else "nv":
            base = (wordnet.morphy(word.replace(" ", "_"), part) or word).replace("_", " ")
            allowed = None if known.senses is None else (*known.senses.get(word, ()), *known.senses.get(base, ()))
            synset = _choose_sense(word, part, context, allowed, wordnet, disambiguate, excluded)
            category: Any = category_of(synset.lexname()) if synset is not None else None
            names = [base] if synset is None else [name.replace("_", " ") for name in synset.lemma_names()]
            unit = base if base in names or word == base else names[0]  # "swinging" may be of "swing" or "swinge"
            if category is not None and not {unit, word} & described:
                entities.append(Entity(unit, synset.definition(), category, f"wordnet:{synset.name()}", (label,)))
            if end - start > 1 and (category is not None or {unit, word} & described):
                covered |= set(range(start, end))
    return entities


def _choose_sense(
    word: str,
    part: str,
    context: str,
    allowed: Sequence[str] | None,
    wordnet: Any,
    disambiguate: Disambiguator,
    excluded: Collection[str] = (),
) -> Any:
    synsets = [synset for synset in wordnet.synsets(word.replace(" ", "_"), part) if synset.name() not in excluded]
    if allowed is not None:
        synsets = [synset for synset in synsets if synset.name() in allowed]
    if not synsets:
        return None
    return synsets[disambiguate(word, context, [synset.definition() for synset in synsets])]


def _parse_corpus(text: str, place: str) -> list[Entity]:
    entities: dict[str, Entity] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        entity = _parse_entity(line, f"{place}, line {number}")
        if entity.text in entities:
            raise ValueError(f"{place}, line {number}: {entity.text!r} was already given. Keep one of them.")
        entities[entity.text] = entity
    if not entities:
        raise ValueError(f"{place}: the corpus is empty. Write one with `save_corpus`.")
    return list(entities.values())


def _parse_entity(line: str, place: str) -> Entity:
    try:
        fields = json.loads(line)
        entity = Entity(**{**fields, "labels": tuple(fields["labels"])})
    except (json.JSONDecodeError, TypeError, KeyError) as error:
        raise ValueError(
            f"{place}: no entity ({error}). Give unit, description, category, source and labels."
        ) from error
    if entity.category not in CATEGORIES:
        raise ValueError(f"{place}: the category is {entity.category!r}. Use {', '.join(CATEGORIES)}.")
    if not all(isinstance(part, str) and part.strip() for part in (entity.unit, entity.description)):
        raise ValueError(
            f"{place}: the unit is {entity.unit!r}, its description {entity.description!r}. Fill in both."
        )
    return entity
