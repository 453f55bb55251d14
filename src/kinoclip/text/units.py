"""Units of actions: the objects, body parts, scenes, roles and motions that a frame of each action can show."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinoclip.text.generation import Progress, answer_all
from kinoclip.text.parsing import parse_json, read_text

# Source: ALT sec. 3.1 asks for the first four slots. A motion is asked for in the same words.
UNIT_PROMPT = "What are identifying {slot} of an action {label}? List them concisely."
# Source: ALT appendix A. Lesk chooses the first of equally good candidates.
DESCRIPTION_PROMPTS = (
    "Concisely explain {unit} in one sentence",
    "Concisely describe what an action {unit} looks like",
    "Concisely list potential explanations for {unit}",
)
# slot -> category of the entities made from it, and what the prompt calls it
SLOTS = {"object": "object", "body": "body", "scene": "scene", "role": "object", "motion": "motion"}
_SLOT_NAMES = dict(zip(SLOTS, ("objects", "body parts", "scenes", "roles", "primitive motions"), strict=True))
_ITEM_STARTS = re.compile(r"^\s*(?:[-*•]+|\d+[.)])\s*")
_MAX_UNIT_WORDS = 4
_NEGATED = re.compile(
    r"\b(?:(?:that|which|who)\s+)?\b(?:not|no|never|without|nothing|\w+n't)\b.*?(?=[),;]|\b(?:and|as|because|but|onto|so)\b|$)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Units:
    """The content of a file of units."""

    labels: Mapping[str, Mapping[str, Sequence[str]]]  # units by slot (see `SLOTS`) by label
    # of units: a text is the description, a list has candidates, to which those of WordNet are added
    descriptions: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    # synsets of WordNet that a word of a label may mean, `{"brush": ["brush.n.07"]}`; other words are not looked up;
    # None looks up each word with each meaning
    senses: Mapping[str, Sequence[str]] | None = None
    # synsets that no word of a label means, by label, `{"surfing crowd": ["surfing.n.01"]}`
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)


def read_units(source: str | Path | Mapping[str, Any]) -> Units:
    """Read units from a JSON file or the mapping that it represents.

    It is `{"labels": {"archery": {"object": ["bow"], "scene": [...]}}, "descriptions": {"bow": "..."}, "senses":
    {...}, "excluded": {...}}`; the last three are optional.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: it has another format; the message names the label or the unit.
    """
    if isinstance(source, Mapping):
        return _check_units(source, "The units")
    return _check_units(parse_json(source, read_text(source, "units")), str(source))


def write_units(
    labels: Sequence[str],
    ask: Callable[[str], str],
    path: str | Path,
    *,
    is_described: Callable[[str], bool] = lambda unit: False,
    progress: Progress = lambda total: lambda count: None,
) -> Units:
    """Ask a text-generation model for the units of labels and candidates of their descriptions, and keep the answers in a file.

    The file is replaced after each label. If it exists, its answers are kept and only the rest is asked for.

    Args:
        labels: spelled out, since the model reads them as they are, without what they negate.
        ask: returns the model's answer to a prompt; see `kinoclip.text.generation`.
        path: JSON, read by `read_units`.
        is_described: whether WordNet describes a unit of one word, for which the model is not asked then.
        progress: see `answer_all`.

    Raises:
        RuntimeError: `ask` failed or listed nothing; the message names the label. Earlier answers are in the file.

    Source: ALT sec. 3.1, steps 1 and 2, and appendix A.
    """
    path = Path(path)
    known = read_units(path) if path.exists() else Units({})
    units = dict(known.labels)
    descriptions = dict(known.descriptions)

    def describe(unit: str) -> list[str]:
        *single, several = (ask(prompt.format(unit=unit)) for prompt in DESCRIPTION_PROMPTS)
        first = [_split_sentences(" ".join(answer.split()))[:1] for answer in single]
        found = list(dict.fromkeys(sentence for listed in (*first, _split_sentences(several)) for sentence in listed))
        if not found:
            raise ValueError(f"the descriptions of {unit!r} are empty")
        return found

    def answer(label: str) -> dict[str, list[str]]:
        shown = affirmed_part(label)
        slots = {slot: _split_list(ask(UNIT_PROMPT.format(slot=_SLOT_NAMES[slot], label=shown))) for slot in SLOTS}
        if not any(slots.values()):
            raise ValueError("none of the answers is a list of short names")
        for unit in dict.fromkeys(unit for names in slots.values() for unit in names):
            if unit not in descriptions and (" " in unit or not is_described(unit)):
                descriptions[unit] = describe(unit)
        return slots

    content = {"labels": units, "descriptions": descriptions, "senses": known.senses, "excluded": known.excluded}
    answer_all(labels, units, answer, path, content, progress)
    return Units(units, descriptions, known.senses, known.excluded)


def affirmed_part(label: str) -> str:
    """Return a label without what it negates, which a frame of the action does not show.

    A negation ends with its bracket, at a comma, or where another clause begins.

    >>> affirmed_part("tying knot (not on a tie)")
    'tying knot'
    >>> affirmed_part("putting something that can't roll onto a slanted surface, so it slides down")
    'putting something onto a slanted surface, so it slides down'
    """
    return " ".join(re.sub(r"\(\s*\)", " ", _NEGATED.sub(" ", label)).split())


def _check_units(content: Any, source: str) -> Units:
    if not isinstance(content, Mapping) or not isinstance(content.get("labels"), Mapping):
        raise ValueError(
            f'{source}: must hold {{"labels": {{label: {{"object": [units], ...}}}}, "descriptions": {{...}}}}.'
        )
    for label, slots in content["labels"].items():
        if not isinstance(slots, Mapping) or not set(slots) <= set(SLOTS):
            raise ValueError(f"{source}: {label!r} needs lists of units by {', '.join(SLOTS)}, got {slots!r}.")
        for slot, units in slots.items():
            if not isinstance(units, list) or not all(isinstance(unit, str) and unit.strip() for unit in units):
                raise ValueError(f"{source}: the {slot} units of {label!r} must be a list of names, got {units!r}.")
    descriptions = content.get("descriptions", {})
    if not isinstance(descriptions, Mapping):
        raise ValueError(f"{source}: 'descriptions' must map units to texts, got a {type(descriptions).__name__}.")
    for unit, description in descriptions.items():
        texts = [description] if isinstance(description, str) else description
        if not (isinstance(texts, list) and texts and all(isinstance(text, str) and text.strip() for text in texts)):
            raise ValueError(
                f"{source}: the description of {unit!r} must be a text or a list of candidates, got {description!r}."
            )
    senses, excluded = content.get("senses"), content.get("excluded", {})
    for name, synsets, example in (
        ("senses", {} if senses is None else senses, "word: {'brush': ['brush.n.07']}"),
        ("excluded", excluded, "label: {'surfing crowd': ['surfing.n.01']}"),
    ):
        if not (isinstance(synsets, Mapping) and all(isinstance(listed, list) for listed in synsets.values())):
            raise ValueError(f"{source}: {name!r} must hold lists of synsets by {example}; got {synsets!r}.")
    return Units(content["labels"], descriptions, senses, excluded)


def _split_list(answer: str) -> list[str]:
    # a list is written over lines or commas; anything longer than a name is the text around it
    items = [_ITEM_STARTS.sub("", item).strip(" .\t").lower() for item in re.split(r"[\n,;]", answer)]
    names = [affirmed_part(item) for item in items if ":" not in item]
    return list(dict.fromkeys(name for name in names if 1 <= len(name.split()) <= _MAX_UNIT_WORDS))


def _split_sentences(answer: str) -> list[str]:
    """Return the first sentence of each line, without the line before a list."""
    lines = [" ".join(_ITEM_STARTS.sub("", line).split()) for line in answer.splitlines()]
    sentences = [re.split(r"(?<=[.!?])\s", line)[0].rstrip(".") for line in lines if not line.endswith(":")]
    return [sentence for sentence in sentences if sentence]
