"""Units of actions: the objects, body parts, scenes, roles and motions that a frame of each action can show."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .labels import match_key
from .parsing import load_json

# Source: ALT sec. 3.1 asks for the first four. A motion is asked for in the same words.
UNIT_PROMPT = "What are identifying {slot} of an action {label}? List them concisely."
DESCRIPTION_PROMPT = "Concisely explain {unit} in one sentence."
# what is asked for, and the category of the entities made of the answer
SLOTS = {"object": "object", "body": "body", "scene": "scene", "role": "object", "motion": "motion"}
_SLOT_NAMES = {
    "object": "objects",
    "body": "body parts",
    "scene": "scenes",
    "role": "roles",
    "motion": "primitive motions",
}
_ITEM_STARTS = re.compile(r"^\s*(?:[-*•]+|\d+[.)])\s*")
_MAX_UNIT_WORDS = 4
_NEGATED = re.compile(
    r"\b(?:not|no|never|without|nothing|\w+n't)\b.*?(?=[),;]|\b(?:and|as|because|but|onto|so)\b|$)", re.IGNORECASE
)


@dataclass(frozen=True)
class Units:
    """What a file of units holds.

    Args:
        labels: units by slot (see `SLOTS`) by label.
        descriptions: what a unit looks like, by unit. WordNet describes the others.
        senses: synsets of WordNet that a word of a label may mean, `{"brush": ["brush.n.07"]}`; other words are not
            looked up. None looks up each word with each meaning.
        excluded: synsets that no word of a label means, by label, `{"surfing crowd": ["surfing.n.01"]}`.
    """

    labels: Mapping[str, Mapping[str, Sequence[str]]]
    descriptions: Mapping[str, str] = field(default_factory=dict)
    senses: Mapping[str, Sequence[str]] | None = None
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_units(source: str | Path | Mapping[str, Any]) -> Units:
    """Read units, from JSON or as JSON would hold them.

    Args:
        source: `{"labels": {"archery": {"object": ["bow"], "scene": [...]}}, "descriptions": {"bow": "..."}, "senses": {...},
            "excluded": {...}}` or a file of it. The last three may be left out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: for another format, naming the label or the unit.
    """
    if isinstance(source, Mapping):
        return _check_units(source, "The units")
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file of units.")
    try:
        content = load_json(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from error
    return _check_units(content, str(path))


def write_units(labels: Sequence[str], ask: Callable[[str], str], path: str | Path) -> Units:
    """Ask a text-generation model for the units of labels and for their descriptions, and keep the answers in a file.

    The file is replaced after each label. If it exists, what it holds is kept and only the rest is asked for.

    Args:
        labels: spelled out, since the model reads them as they are.
        ask: takes a prompt and gives the model's answer; see `descriptions.ask_endpoint` and `ask_pipeline`.
        path: JSON, read by `read_units`.

    Raises:
        RuntimeError: naming the label, if `ask` fails or lists nothing at all. Earlier answers are in the file.

    Source: ALT sec. 3.1, steps 1 and 2.
    """
    path = Path(path)
    known = read_units(path) if path.exists() else Units({})
    found = {label: {slot: list(units) for slot, units in slots.items()} for label, slots in known.labels.items()}
    descriptions = dict(known.descriptions)
    for label in labels:
        if match_key(label) in map(match_key, found):
            continue
        try:
            slots = {slot: _split_list(ask(UNIT_PROMPT.format(slot=_SLOT_NAMES[slot], label=label))) for slot in SLOTS}
            if not any(slots.values()):
                raise ValueError("none of the answers is a list of short names")
            for unit in dict.fromkeys(unit for units in slots.values() for unit in units):
                if unit not in descriptions:
                    descriptions[unit] = _first_sentence(ask(DESCRIPTION_PROMPT.format(unit=unit)))
        except Exception as error:  # of whatever kind: only here is it known which label was asked for
            raise RuntimeError(
                f"The model gave no units of {label!r}: {type(error).__name__}: {error}. "
                f"{len(found)} labels before it are kept in {path}. Run it again to go on from there."
            ) from error
        found[label] = slots
        content = {"labels": found, "descriptions": descriptions, "senses": known.senses, "excluded": known.excluded}
        partial = path.with_name(path.name + ".part")
        partial.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    return Units(found, descriptions, known.senses, known.excluded)


def _check_units(content: Any, place: str) -> Units:
    if not isinstance(content, Mapping) or not isinstance(content.get("labels"), Mapping):
        raise ValueError(
            f'{place}: give {{"labels": {{label: {{"object": [units], ...}}}}, "descriptions": {{...}}}}.'
        )
    for label, slots in content["labels"].items():
        if not isinstance(slots, Mapping) or not set(slots) <= set(SLOTS):
            raise ValueError(f"{place}: {label!r} holds {slots!r}. Give lists of units by {', '.join(SLOTS)}.")
        for slot, units in slots.items():
            if not isinstance(units, list) or not all(isinstance(unit, str) and unit.strip() for unit in units):
                raise ValueError(f"{place}: the {slot} units of {label!r} are {units!r}. Give a list of names.")
    descriptions = content.get("descriptions", {})
    if not isinstance(descriptions, Mapping):
        raise ValueError(
            f"{place}: 'descriptions' is a {type(descriptions).__name__}. Give an object from unit to text."
        )
    for unit, description in descriptions.items():
        if not isinstance(description, str) or not description.strip():
            raise ValueError(f"{place}: {unit!r} is described by {description!r}. Give a text.")
    senses, excluded = content.get("senses"), content.get("excluded", {})
    for name, synsets, example in (
        ("senses", {} if senses is None else senses, "word: {'brush': ['brush.n.07']}"),
        ("excluded", excluded, "label: {'surfing crowd': ['surfing.n.01']}"),
    ):
        if not (isinstance(synsets, Mapping) and all(isinstance(listed, list) for listed in synsets.values())):
            raise ValueError(f"{place}: {name!r} holds {synsets!r}. Give lists of synsets by {example}.")
    return Units(content["labels"], descriptions, senses, excluded)


def affirmed_part(label: str) -> str:
    """Return a label without what it negates: a frame of the action does not show that.

    A negation ends with its bracket, at a comma, or where another clause begins.

    >>> affirmed_part("tying knot (not on a tie)")
    'tying knot'
    >>> affirmed_part("putting something that can't roll onto a slanted surface, so it slides down")
    'putting something that onto a slanted surface, so it slides down'
    """
    return " ".join(re.sub(r"\(\s*\)", " ", _NEGATED.sub(" ", label)).split())


def _split_list(answer: str) -> list[str]:
    # a list is written over lines or commas; what is longer than a name is talk around it
    items = [_ITEM_STARTS.sub("", item).strip(" .\t").lower() for item in re.split(r"[\n,;]", answer)]
    return list(dict.fromkeys(item for item in items if 1 <= len(item.split()) <= _MAX_UNIT_WORDS and ":" not in item))


def _first_sentence(answer: str) -> str:
    sentence = re.split(r"(?<=[.!?])\s", " ".join(answer.split()), maxsplit=1)[0].rstrip(".")
    if not sentence:
        raise ValueError("the description is empty")
    return sentence
