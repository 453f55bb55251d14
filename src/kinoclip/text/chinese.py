"""Second names of labels, in Chinese or another language: packaged dictionaries, and files of your own."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinoclip.text.labels import LABEL_SETS, label_set, match_key, packaged_text
from kinoclip.text.parsing import parse_json, read_text
from kinoclip.text.templates import fill_template

CHINESE = "Chinese"
CHINESE_SETS = ("hmdb51", "kinetics400", "ssv1", "ssv2", "ucf101")
# packaged dictionaries by name, to their files: Chinese, and English paraphrases
NAME_SETS = {name: f"chinese/{name}.json" for name in CHINESE_SETS} | {
    f"{name}/english": f"english/{name}.json" for name in ("hmdb51", "ucf101")
}
# CJK unified ideographs with extension A, the compatibility block, and the planes of the rarer ones
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def load_chinese_labels(source: str | Path | Mapping[str, Any]) -> dict[str, list[str]]:
    """Load the second names of each class of a dataset, by English label in class order, the usual name first.

    The source is a packaged Chinese dictionary ("hmdb51", "kinetics400", "ssv1", "ssv2" or "ucf101"), packaged English
    paraphrases ("hmdb51/english" or "ucf101/english"), or a JSON file in the format of the former, `{"dataset": ..., "version": 1, "classes": [{"id": 0, "en": "brush hair", "zh": "梳头发"}]}`, or one that
    only maps `{"brush hair": "梳头发"}`, or one of `kinoclip translate` in any language, `{"version": 1, "language":
    "German", "names": {"brush hair": "Haare bürsten"}}`, or such a mapping. A list of names in place of one gives variants.
    Labels are spelled as in the source; `chinese_texts` finds them under other spellings.

    Raises:
        FileNotFoundError: the file does not exist, and no packaged dictionary has this name.
        ValueError: names the class where a name is missing, contains no Chinese in a Chinese dictionary or belongs to two
            classes, where ids have a gap, and where labels differ from those of the known `dataset`.

    Source: DSTPR sec. 3.4, whose own dictionary was not published.

    >>> load_chinese_labels("hmdb51")["draw sword"]
    ['拔剑']
    """
    return load_second_names(source)[1]


def load_second_names(
    source: str | Path | Mapping[str, Any], default: str = CHINESE
) -> tuple[str, dict[str, list[str]]]:
    """Load the language and the names of `load_chinese_labels`; `default` is the language of a source that names none."""
    if isinstance(source, Mapping):
        content, name = dict(source), f"The {default} labels"
    elif str(source) in NAME_SETS and not Path(source).exists():
        content, name, default = json.loads(packaged_text(NAME_SETS[str(source)])), str(source), CHINESE
    else:
        text = read_text(source, f"second names of labels (or one of {', '.join(NAME_SETS)})")
        content, name = parse_json(source, text, unique_keys=True), str(source)
    has_language = isinstance(content, dict) and isinstance(content.get("names"), dict)
    language = content.get("language") if has_language else default
    if not isinstance(language, str) or not language.strip() or (has_language and content.get("version") != 1):
        raise ValueError(f"{name}: must have 'version': 1 and a 'language' beside its 'names'.")
    return language, parse_chinese_labels(content["names"] if has_language else content, name, language)


def parse_chinese_labels(content: Any, source: str, language: str = CHINESE) -> dict[str, list[str]]:
    """Check a dictionary of labels as JSON represents it, and return its names by English label; errors name the source."""
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{source}: must hold an object from English to {language} labels, got {content!r:.80}.")
    entries = _read_classes(content, source) if "classes" in content else content
    labels = {label: _read_words(label, words, source, language) for label, words in entries.items()}
    first_label: dict[str, str] = {}
    for label, words in labels.items():
        for word in words:
            if first_label.setdefault(word, label) != label:
                raise ValueError(f"{source}: {word!r} translates both {first_label[word]!r} and {label!r}.")
    return labels


def find_fault(name: str, language: str) -> str | None:
    """Return why a name cannot be one in a language, or None."""
    return "contains no Chinese character" if language == CHINESE and not _HAN.search(name) else None


def chinese_texts(
    labels: Sequence[str],
    chinese: Mapping[str, Sequence[str]],
    templates: Sequence[str] = ("{}",),
    language: str = CHINESE,
) -> list[list[str]]:
    """Return the texts of labels in a second language, in rows that each hold one text per label, to be averaged.

    There is a row for every template and variant; a label with fewer variants repeats them equally often, so that the
    average over rows is the average over its own. A label that is written in Chinese is its own word.

    Args:
        labels: matched without regard to case, spaces and underscores.
        chinese: words by English label, as from `load_chinese_labels`.
        templates: with one {} each.
        language: of the words.

    Raises:
        KeyError: with the first label that has no word.

    >>> chinese_texts(["brush_hair", "跳水"], {"Brush hair": ["梳头发", "梳头"]}, ["一个人在{}"])
    [['一个人在梳头发', '一个人在跳水'], ['一个人在梳头', '一个人在跳水']]
    """
    for label in labels_without_chinese(labels, chinese, language):
        raise KeyError(label)
    words = _find_words(labels, chinese, language)
    return [
        [fill_template(template, variants[row % len(variants)]) for variants in words]
        for template in templates
        for row in range(math.lcm(*map(len, words)))
    ]


def labels_without_chinese(
    labels: Sequence[str], chinese: Mapping[str, Sequence[str]], language: str = CHINESE
) -> list[str]:
    """Return the labels that have no word in the second language, in their order; see `chinese_texts`."""
    return [label for label, words in zip(labels, _find_words(labels, chinese, language), strict=True) if not words]


def _find_words(labels: Sequence[str], chinese: Mapping[str, Sequence[str]], language: str) -> list[Sequence[str]]:
    by_key = {match_key(label): words for label, words in chinese.items()}
    own = [[label] if language == CHINESE and _HAN.search(label) else [] for label in labels]
    return [by_key.get(match_key(label), words) for label, words in zip(labels, own, strict=True)]


def _read_classes(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    if content.get("version") != 1:
        raise ValueError(f"{source}: this package reads version 1, got version {content.get('version')!r}.")
    classes, dataset = content["classes"], content.get("dataset")
    if not isinstance(classes, list) or not classes:
        raise ValueError(f"{source}: 'classes' must be a list of {{'id': 0, 'en': ..., 'zh': ...}}.")
    expected = label_set(dataset) if dataset in LABEL_SETS else None
    if expected is not None and len(classes) != len(expected):
        raise ValueError(f"{source}: {len(classes)} classes, but {dataset} has {len(expected)}. Translate each.")
    labels: dict[str, Any] = {}
    for number, entry in enumerate(classes):
        name = f"{source}, class {number}"
        if not isinstance(entry, dict) or not {"id", "en", "zh"} <= entry.keys() or not isinstance(entry["en"], str):
            raise ValueError(f"{name}: {entry!r} needs 'id', 'en' and 'zh'.")
        if entry["id"] != number or isinstance(entry["id"], bool):
            raise ValueError(f"{name}: the id must be {number}, got {entry['id']!r}. Number the classes 0, 1, 2, ...")
        if entry["en"] in labels:
            raise ValueError(f"{name}: {entry['en']!r} was already given. Keep one of them.")
        if expected is not None and match_key(entry["en"]) != match_key(expected[number]):
            raise ValueError(f"{name}: {entry['en']!r}, but this class of {dataset} is {expected[number]!r}.")
        labels[entry["en"]] = entry["zh"]
    return labels


def _read_words(label: Any, words: Any, source: str, language: str) -> list[str]:
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"{source}: the English label must be the name of a class, got {label!r}.")
    variants = [words] if isinstance(words, str) else words
    if not isinstance(variants, list | tuple) or not variants or not all(isinstance(word, str) for word in variants):
        raise ValueError(f"{source}: {label!r} needs a {language} word or a list of variants, got {words!r}.")
    stripped = [word.strip() for word in variants]
    for word in stripped:
        fault = find_fault(word, language)
        if fault or not word:
            raise ValueError(f"{source}: {label!r} is translated by {word!r}, which {fault or 'is empty'}.")
    if len(set(stripped)) < len(stripped):
        raise ValueError(f"{source}: {label!r} has a variant twice in {stripped}. Keep one of them.")
    return stripped
