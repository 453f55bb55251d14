"""Chinese names of actions: packaged dictionaries, and files of one's own, for a second text branch."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from .labels import LABEL_SETS, label_set, match_key
from .parsing import load_json
from .templates import fill_template

CHINESE_SETS = ("hmdb51", "kinetics400", "ssv1", "ssv2", "ucf101")
# CJK unified ideographs with extension A, the compatibility block, and the planes of the rarer ones
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


def load_chinese_labels(source: str | Path | Mapping[str, str | Sequence[str]]) -> dict[str, list[str]]:
    """Chinese words for each class of a dataset, in class order, the usual word first.

    Args:
        source: a packaged dictionary ("hmdb51", "kinetics400", "ssv1", "ssv2" or "ucf101"), or a JSON file in the same
            format, `{"dataset": ..., "version": 1, "classes": [{"id": 0, "en": "brush hair", "zh": "梳头发"}]}`, or one
            that only maps `{"brush hair": "梳头发"}`, or such a mapping. A list of words in place of one gives variants.

    Returns:
        Words by English label, spelled as in the source; `chinese_texts` finds them under other spellings.

    Raises:
        FileNotFoundError: if there is no such file, nor a packaged dictionary of that name.
        ValueError: naming the class, for a word that is missing, holds no Chinese or stands for two classes, for ids with
            a gap, and for labels other than those of the known `dataset`.

    Source: DSTPR sec. 3.4, whose own dictionary was not published.

    >>> load_chinese_labels("hmdb51")["draw sword"]
    ['拔剑']
    """
    if isinstance(source, Mapping):
        return parse_chinese_labels(dict(source), "The Chinese labels")
    if str(source) in CHINESE_SETS and not Path(source).exists():
        file = resources.files("kinoclip.text").joinpath("data", "chinese", f"{source}.json")
        return parse_chinese_labels(json.loads(file.read_text(encoding="utf-8")), str(source))
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file of Chinese labels. Give one, or one of {', '.join(CHINESE_SETS)}."
        )
    try:
        content = load_json(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_refuse_repeats)
    except (json.JSONDecodeError, _RepeatedKeyError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}).") from error
    return parse_chinese_labels(content, str(path))


def parse_chinese_labels(content: Any, place: str) -> dict[str, list[str]]:
    """Check a Chinese label dictionary as JSON holds it, and give its words by English label.

    Args:
        content: an object with "classes", or one from English to Chinese.
        place: what errors begin with.
    """
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{place}: holds no Chinese labels. Give an object from English to Chinese labels.")
    if "classes" in content:
        labels = _read_classes(content, place)
        _check_dataset(content.get("dataset"), list(labels), place)
    else:
        labels = {label: _read_words(label, words, place) for label, words in content.items()}
    first_of: dict[str, str] = {}
    for label, words in labels.items():
        for word in words:
            if word in first_of:
                raise ValueError(f"{place}: {word!r} stands for {first_of[word]!r} and {label!r}. Tell them apart.")
            first_of[word] = label
    return labels


def chinese_texts(
    labels: Sequence[str], chinese: Mapping[str, Sequence[str]], templates: Sequence[str] = ("{}",)
) -> list[list[str]]:
    """Chinese texts of labels, in rows that each hold one text per label, to be averaged.

    A row is made for every template and variant; a label with fewer variants repeats them equally often, so that the
    average over rows is the average over its own. A label that is written in Chinese is its own word.

    Args:
        labels: found whatever their capitals, spaces and underscores.
        chinese: words by English label, as from `load_chinese_labels`.
        templates: with one {} each.

    Raises:
        KeyError: with the first label that has no Chinese word.

    >>> chinese_texts(["brush_hair", "跳水"], {"Brush hair": ["梳头发", "梳头"]}, ["一个人在{}"])
    [['一个人在梳头发', '一个人在跳水'], ['一个人在梳头', '一个人在跳水']]
    """
    found = _find_words(labels, chinese)
    for label, words in zip(labels, found, strict=True):
        if not words:
            raise KeyError(label)
    rows = math.lcm(*(len(words) for words in found))
    return [
        [fill_template(template, words[row % len(words)]) for words in found]
        for template in templates
        for row in range(rows)
    ]


def labels_without_chinese(labels: Sequence[str], chinese: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the labels that have no Chinese word, in their order; see `chinese_texts`."""
    return [label for label, words in zip(labels, _find_words(labels, chinese), strict=True) if not words]


def _find_words(labels: Sequence[str], chinese: Mapping[str, Sequence[str]]) -> list[Sequence[str]]:
    by_key = {match_key(label): words for label, words in chinese.items()}
    return [by_key.get(match_key(label), [label] if _HAN.search(label) else []) for label in labels]


class _RepeatedKeyError(ValueError):
    pass


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content:
            raise _RepeatedKeyError(f"{key!r} is given twice; keep one of them")
        content[key] = value
    return content


def _read_classes(content: Mapping[str, Any], place: str) -> dict[str, list[str]]:
    if content.get("version") != 1:
        raise ValueError(f"{place}: the version is {content.get('version')!r}. This package reads version 1.")
    classes = content["classes"]
    if not isinstance(classes, list) or not classes:
        raise ValueError(f"{place}: 'classes' is no list of classes. Give {{'id': 0, 'en': ..., 'zh': ...}} for each.")
    labels: dict[str, list[str]] = {}
    for number, entry in enumerate(classes):
        if not isinstance(entry, dict) or not {"id", "en", "zh"} <= entry.keys():
            raise ValueError(f"{place}, class {number}: {entry!r} needs 'id', 'en' and 'zh'.")
        if entry["id"] != number or isinstance(entry["id"], bool):
            raise ValueError(f"{place}, class {number}: the id is {entry['id']!r}. Number the classes 0, 1, 2, ...")
        if entry["en"] in labels:
            raise ValueError(f"{place}, class {number}: {entry['en']!r} was already given. Keep one of them.")
        labels[entry["en"]] = _read_words(entry["en"], entry["zh"], place)
    return labels


def _read_words(label: Any, words: Any, place: str) -> list[str]:
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"{place}: the English label {label!r} is no text. Give the name of the class.")
    listed = [words] if isinstance(words, str) else words
    if not isinstance(listed, list | tuple) or not listed or not all(isinstance(word, str) for word in listed):
        raise ValueError(f"{place}: {label!r} is translated by {words!r}. Give a Chinese word, or a list of variants.")
    stripped = [word.strip() for word in listed]
    for word in stripped:
        if not _HAN.search(word):
            raise ValueError(f"{place}: {label!r} is translated by {word!r}, without a Chinese character.")
    if len(set(stripped)) < len(stripped):
        raise ValueError(f"{place}: {label!r} has a variant twice in {stripped}. Keep one of them.")
    return stripped


def _check_dataset(dataset: Any, labels: list[str], place: str) -> None:
    if dataset not in LABEL_SETS:
        return
    expected = label_set(dataset)
    if len(labels) != len(expected):
        raise ValueError(f"{place}: {len(labels)} classes, but {dataset} has {len(expected)}. Translate each of them.")
    for number, (label, name) in enumerate(zip(labels, expected, strict=True)):
        if match_key(label) != match_key(name):
            raise ValueError(f"{place}, class {number}: {label!r}, but this class of {dataset} is {name!r}.")
