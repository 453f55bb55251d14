"""Sets of classes that are scored separately: the lists of a zero-shot protocol, base and novel classes."""

import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from kinoclip.data.splits import base_classes
from kinoclip.text.labels import LABEL_SETS, load_names, match_key

CLASS_LISTS = ("base", "novel", "kinetics600/1", "kinetics600/2", "kinetics600/3")


def find_class_list(name: str | Path, classes: Sequence[str]) -> list[str]:
    """Return the names of a set of the classes of a data set; raise a `ValueError` if its name is unknown.

    "base" and "novel" are the first half of the classes, rounded up, and the others; "kinetics600/1" to
    "kinetics600/3" the lists of 160 classes of zero-shot Kinetics-600. Or it is a packaged label set, or a file
    (`read_labels`).
    """
    name = str(name)
    if Path(name).is_file() or name in LABEL_SETS:
        return load_names(name)
    if name in ("base", "novel"):
        base = base_classes(classes)
        return base if name == "base" else list(classes[len(base) :])
    if name not in CLASS_LISTS:
        raise ValueError(f"A class list must be one of {', '.join(CLASS_LISTS)} or a file of names, got {name!r}.")
    text = resources.files("kinoclip.text").joinpath("data", "kinetics600_lists.json").read_text(encoding="utf-8")
    return [label for label, lists in json.loads(text)["classes"].items() if name[-1] in lists]


def find_class_lists(names: Sequence[str], classes: Sequence[str]) -> dict[str, list[str]]:
    """Return several sets of classes by name, a file by its stem, which must differ; see `find_class_list`."""
    found = {(Path(name).stem if Path(name).is_file() else name): find_class_list(name, classes) for name in names}
    if len(found) < len(names):
        raise ValueError(f"Two of the class lists {', '.join(names)} have the same name. Rename a file.")
    return found


def class_ids(name: str, names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the ids of the classes of a list, in any spelling; raise a `ValueError` if the data set lacks one."""
    ids = {match_key(label): number for number, label in enumerate(classes)}
    missing = [label for label in names if match_key(label) not in ids]
    if missing:
        raise ValueError(
            f"The data set, with {len(classes)} classes, lacks {len(missing)} of the {len(names)} classes of the list {name!r}, "
            f"such as {missing[0]!r}."
        )
    return [ids[match_key(label)] for label in names]
