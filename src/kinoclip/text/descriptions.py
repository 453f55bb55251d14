"""Descriptions of actions: packaged sentences, files of them, and new ones from a text-generation model."""

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kinoclip.text.generation import REASONING, answer_all
from kinoclip.text.labels import LABEL_SETS, match_key, packaged_text
from kinoclip.text.parsing import parse_json, read_text, table_errors
from kinoclip.text.templates import check_template, fill_template

# Source: SLLM sec. 3.3 asks "what does this action mean?"; the sentences around it are ours.
DESCRIPTION_PROMPT = (
    "The action is: {}. What does this action mean? Answer with one sentence of at most 25 words that says what a "
    "person sees in a video of it: motions, objects, place. Do not repeat the name of the action."
)
# The longest caption that SLLM's authors published.
MAX_WORDS = 36
_DESCRIPTIONS_KEY = "descriptions"
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+")


def label_descriptions(name: str) -> dict[str, str]:
    """Return one sentence per class of a packaged label set, in class order, that describes what a video of it shows.

    The keys are the class names in the papers' spelling. Written for this package; they are not SLLM's captions.
    """
    if name not in LABEL_SETS:
        raise ValueError(
            f"Packaged descriptions exist for {', '.join(LABEL_SETS)}, not for {name!r}. Read a file with "
            "`read_descriptions` or make them with `write_descriptions`."
        )
    descriptions: dict[str, str] = json.loads(packaged_text(f"{name}_descriptions.json"))[_DESCRIPTIONS_KEY]
    return descriptions


def read_descriptions(path: str | Path) -> dict[str, str]:
    """Read descriptions by label from a file.

    Formats, by extension: `.csv` as SLLM's authors published it, separated by semicolons, with the header `id;name;cap` or
    `id;name;concept`; anything else is JSON, `{"label": "sentence"}` or such an object under the key "descriptions", as in
    this package and from `write_descriptions`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: a label or description is empty or repeated, with its line, or the file has another format.
    """
    path = Path(path)
    text = read_text(path, "descriptions")
    with table_errors(path):
        descriptions = _parse_csv(path, text) if path.suffix.lower() == ".csv" else _parse_json(path, text)
    if not descriptions:
        raise ValueError(f"{path}: the file contains no description. Write one sentence per label.")
    return descriptions


def describe_labels(labels: Sequence[str], descriptions: Mapping[str, str]) -> list[str]:
    """Join each label with its description, for use as candidates with the template "{}".

    Args:
        labels: appear in the texts as they are given.
        descriptions: by label. "ApplyEyeMakeup", "apply_eye_makeup" and "Apply eye makeup" are the same label.

    Raises:
        ValueError: a label has no description, or two of them.

    Source: SLLM official code, `text_moda: enhance`, which joins by a comma without a space.

    >>> describe_labels(["hug"], {"Hug": "Two people hold each other tight."})
    ['hug,Two people hold each other tight.']
    """
    by_key = _key_descriptions(descriptions)
    undescribed = [label for label in labels if match_key(label) not in by_key]
    if undescribed:
        raise ValueError(
            f"{len(undescribed)} of {len(labels)} labels have no description: {', '.join(map(repr, undescribed[:5]))}"
            f"{', ...' if len(undescribed) > 5 else ''}. Describe them."
        )
    return [f"{label},{by_key[match_key(label)]}" for label in labels]


def write_descriptions(
    labels: Sequence[str],
    ask: Callable[[str], str],
    path: str | Path,
    *,
    prompt: str = DESCRIPTION_PROMPT,
    max_words: int = MAX_WORDS,
) -> dict[str, str]:
    """Describe labels with a text-generation model, one question per label, and keep the answers in a file.

    The file is replaced after each answer. If it exists, its answers are kept and only the other labels are asked for, so an
    interrupted run continues where it stopped.

    Args:
        labels: spelled out, since the model reads them as they are.
        ask: returns the model's answer to a prompt; see `kinoclip.text.generation`.
        path: JSON, read by `read_descriptions`.
        prompt: with one {} for the label.
        max_words: an answer is cut to the sentences, or else the words, that fit.

    Returns:
        Descriptions of `labels`, in their order.

    Raises:
        RuntimeError: `ask` failed or returned no words; the message names the label. Earlier answers are in the file.
        ValueError: the file exists with answers to another prompt, or has another format.
        FileNotFoundError: the folder of the file does not exist.

    Source: SLLM sec. 3.3, eq. 11.
    """
    path = Path(path)
    check_template(prompt)
    if max_words < 1:
        raise ValueError(f"max_words must be at least 1, got {max_words}.")
    if path.suffix.lower() != ".json":
        raise ValueError(f"{path}: descriptions are written as JSON. Use a name that ends in .json.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} does not exist. Create it first.")
    answers = read_descriptions(path) if path.exists() else {}
    earlier = json.loads(read_text(path)).get("prompt") if answers else prompt
    if earlier != prompt:
        raise ValueError(f"{path}: its answers are to the prompt {earlier!r}, not {prompt!r}. Write to another file.")
    answer_all(
        labels,
        answers,
        lambda label: _clean_answer(ask(fill_template(prompt, label)), max_words),
        path,
        {"prompt": prompt, _DESCRIPTIONS_KEY: answers},
    )
    by_key = _key_descriptions(answers)
    return {label: by_key[match_key(label)] for label in labels}


def _key_descriptions(descriptions: Mapping[str, str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for label, description in descriptions.items():
        first = labels.setdefault(match_key(label), label)
        if description != descriptions[first]:
            raise ValueError(f"{first!r} and {label!r} are one label but have two descriptions. Keep one of them.")
    return {key: descriptions[label] for key, label in labels.items()}


def _clean_answer(answer: str, max_words: int) -> str:
    text = " ".join(REASONING.sub(" ", answer).replace("**", "").split()).strip("\"'` \u201c\u201d")
    if not text:
        raise ValueError(f"the answer {answer!r} contains no words")
    kept: list[str] = []
    for sentence in _SENTENCE_ENDS.split(text):
        if len(kept) + len(sentence.split()) > max_words:
            break
        kept += sentence.split()
    return " ".join(kept or text.split()[:max_words])


def _parse_json(path: Path, text: str) -> dict[str, str]:
    content = parse_json(path, text, unique_keys=True)
    if isinstance(content, dict) and isinstance(content.get(_DESCRIPTIONS_KEY), dict):
        content = content[_DESCRIPTIONS_KEY]
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold an object from label to description, got a {type(content).__name__}.")
    for label, description in content.items():
        if not label.strip() or not isinstance(description, str) or not description.strip():
            raise ValueError(f"{path}: each label needs a sentence, got {description!r} for {label!r}.")
    return {label.strip(): description.strip() for label, description in content.items()}


def _parse_csv(path: Path, text: str) -> dict[str, str]:
    reader = csv.reader(text.splitlines(), delimiter=";")
    header = [column.strip() for column in next(reader, [])]
    if header not in (["id", "name", "cap"], ["id", "name", "concept"]):
        raise ValueError(f"{path}, line 1: the header must be 'id;name;cap', got {header}.")
    descriptions: dict[str, str] = {}
    for row in filter(None, reader):
        line = f"{path}, line {reader.line_num}"
        if len(row) != 3:
            raise ValueError(f"{line}: {len(row)} fields instead of 3. Quote a field that contains a semicolon.")
        name, description = row[1].strip(), row[2].strip()
        if not name or not description:
            raise ValueError(f"{line}: the name is {name!r} and the description {description!r}. Fill in both.")
        if name in descriptions:
            raise ValueError(f"{line}: {name!r} was already described. Keep one of the lines.")
        descriptions[name] = description
    return descriptions
