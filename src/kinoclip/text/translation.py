"""Second names of labels: from dictionaries and a text-generation model, with a table in which a person reviews them."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kinoclip.storage import claimed, write_json
from kinoclip.text.chinese import find_fault, load_second_names
from kinoclip.text.generation import REASONING, Progress, answer_all
from kinoclip.text.labels import match_key
from kinoclip.text.parsing import parse_json, read_text
from kinoclip.text.tables import REJECTED, REVIEWED, Row, Table

PROMPT = (
    "A video shows the action: {label}. Translate this name of the action into {language}. Answer with {count} that people who "
    "speak {language} use, one in a line, the most usual one first, and nothing else."
)
PARAPHRASE_PROMPT = (
    "A video shows the action: {label}. Name this action in other {language} words. Answer with {count}, one in a line, the most "
    "usual one first, and nothing else."
)
BACK_PROMPT = (
    "The {language} name of an action in a video is: {name}. Translate it into English. Answer with one short name and nothing "
    "else."
)
ENGLISH = "English"
_SEPARATOR = "; "
_ITEM_START = re.compile(r"^\s*(?:[-*•]|\d+[.):、])\s*")


class NamesTable(Table):
    """Labels with their second names and the decision of a person.

    `keep` is "no" for a label that must have no name, "yes" for names that must stay, and empty otherwise. Names are edited
    in place, separated by semicolons; `proposed` is what the command wrote there.
    """

    columns = ("label", "names", "keep", "source", "note", "back_translation", "proposed")
    required = ("label", "names", "keep")
    own = ("label", "names", "keep", "proposed")
    command = "kinoclip translate"


def propose_names(
    labels: Sequence[str],
    language: str,
    dictionaries: Mapping[str, Mapping[str, Sequence[str]]],
    ask: Callable[[str], str] | None = None,
    path: Path = Path("answers.json"),
    *,
    model: str = "",
    variants: int = 1,
    translate_back: bool = False,
    progress: Progress = lambda total: lambda count: None,
) -> list[Row]:
    """Return a row of a `NamesTable` for each label, with the names of the first dictionary that has it, or of the model.

    Args:
        labels: spelled out, since the model reads them as they are.
        language: of the names; "English" asks for paraphrases.
        dictionaries: by source, as `load_chinese_labels` returns them.
        ask: returns the model's answer to a prompt (`kinoclip.text.generation`); None leaves the other labels without names.
        path: of the answers, JSON. If it exists, its answers are kept and only the other labels are asked for.
        model: the source of its names.
        variants: names of each label that are asked for.
        translate_back: ask for the English of the model's first names too, for the person who reviews them.
        progress: see `answer_all`.

    Raises:
        RuntimeError: `ask` failed or returned no name; the message names the label. Earlier answers are in the file.
        ValueError: the file has answers in another language, or another format.
    """
    known: dict[str, tuple[str, Sequence[str]]] = {}
    for source, names in dictionaries.items():
        for label, words in names.items():
            known.setdefault(match_key(label), (source, words[:variants]))
    content: Any = {"language": language, "answers": {}, "back": {}}
    content = parse_json(path, read_text(path)) if path.exists() else content
    if not isinstance(content, dict) or content.get("language") != language or {"answers", "back"} - content.keys():
        raise ValueError(f"{path} does not hold answers in {language}. Write to another file.")
    answers, back = content["answers"], content["back"]
    if ask is not None:
        prompt = PARAPHRASE_PROMPT if language == ENGLISH else PROMPT
        count = "one short name" if variants == 1 else f"{variants} short names"

        def answer(label: str) -> dict[str, Any]:
            found = _split_names(ask(prompt.format(label=label, language=language, count=count)))[:variants]
            if not found:
                raise ValueError("the answer has no name")
            return {"source": model, "names": found}

        unknown = [label for label in labels if match_key(label) not in known]
        answer_all(unknown, answers, answer, path, content, progress)
        if translate_back:
            firsts = [found["names"][0] for found in answers.values()]
            question = lambda name: " ".join(ask(BACK_PROMPT.format(name=name, language=language)).split())  # noqa: E731
            answer_all(firsts, back, question, path, content, progress)
    by_key = {match_key(label): (found["source"], found["names"]) for label, found in answers.items()} | known
    rows = []
    for label in labels:
        source, words = by_key.get(match_key(label), ("", ()))
        row = {"label": label, "names": _SEPARATOR.join(words), "source": source}
        rows.append(row | {"proposed": row["names"], "back_translation": back.get(words[0], "") if words else ""})
    return rows


def _split_names(answer: str) -> list[str]:
    items = re.split("[\n;\uff1b]", REASONING.sub("", answer))
    names = (_ITEM_START.sub("", item).strip(" \t.\u3002\"'\u201c\u201d\u201e") for item in items)
    return list(dict.fromkeys(name for name in names if name and not name.endswith((":", "\uff1a"))))


def review_names(rows: Sequence[Row], table: NamesTable, language: str) -> tuple[dict[str, list[str]], NamesTable]:
    """Apply what a person wrote into a table to proposed rows.

    Returns:
        The names of each label that has one, without those that cannot be used, and the table with the reason in `note`.
        Names that a person changed have the source "reviewed". Rows of other labels stay.

    Raises:
        ValueError: a row cannot be used; the message names its line.
    """
    merged: dict[str, Row] = {match_key(row["label"]): dict.fromkeys(NamesTable.columns, "") | row for row in rows}
    seen = set[str]()
    for number, row in enumerate(table.rows):
        key, decision = match_key(row["label"]), table.decision(number)
        if not key or key in seen:
            raise ValueError(f"{table.position(number)}: the label {row['label']!r} must be there once. Keep one row.")
        seen.add(key)
        is_edited = row["names"] != row["proposed"]
        if is_edited or decision or key not in merged:
            merged[key] = row | ({"source": REVIEWED} if is_edited else {})
        else:
            merged[key] = row | {name: cell for name, cell in merged[key].items() if name != "keep"}
    owners: dict[str, str] = {}
    names = {}
    for row in merged.values():
        notes, kept = [], []
        for name in dict.fromkeys(part.strip() for part in row["names"].split(_SEPARATOR.strip()) if part.strip()):
            fault = find_fault(name, language)
            if match_key(name) == match_key(row["label"]):
                fault = "is the label itself"
            elif owners.setdefault(name, row["label"]) != row["label"]:
                fault = f"is a name of {owners[name]!r} too"
            notes += [f"left out: {name!r} {fault}"] if fault else []
            kept += [] if fault else [name]
        if row["keep"].casefold() == REJECTED:
            continue
        row["note"] = "; ".join(notes if kept else [*notes, "no name"])
        if kept:
            names[row["label"]] = kept
    return names, NamesTable(list(merged.values()), delimiter=table.delimiter)


def write_names(path: str | Path, language: str, names: Mapping[str, Sequence[str]], table: NamesTable) -> Path:
    """Write the names of labels and their sources as a file that `load_chinese_labels` reads."""
    sources = {row["label"]: row["source"] for row in table.rows if row["label"] in names}
    content = {"version": 1, "language": language, "names": names, "sources": sources}
    return write_json(path, content, owns=claimed)


def is_names_file(path: Path) -> Any:
    """Check whether `write_names` wrote a file."""
    return load_second_names(path) and "sources" in parse_json(path, read_text(path))
