"""Models of strangers: configs with numbers that are plausible and too large, and archives that inflate."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chaos.limits import IS_FULL

NUMBERS = (0, -1, 1000, 10**5, 10**6, 10**7, 10**9, 10**14, 2**31 - 1, 2**63, 1e300, float("nan"), float("inf"))
REPEATS = (1000, 10**6)


def changed_numbers(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[str, tuple[Any, ...], Any]]:
    """Yield a name, the place and a new value for every number of a JSON content, and for every list that is repeated."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        place = (*path, key)
        name = ".".join(map(str, place))
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield from ((f"{name} = {number}", place, number) for number in NUMBERS)
        elif isinstance(value, list) and value:
            yield from ((f"{name} * {number}", place, value * number) for number in REPEATS)
        yield from changed_numbers(value, place)


# numbers that a config leaves out because they are those of every model
ADDED = ({"num_labels": 10**7}, {"id2label": {str(i): f"{i}" for i in range(10**5)}}, {"candidate_shapes": {"embeds": [1, 10**9, 32]}},
         {"candidate_shapes": {"embeds": [1, 3, 32]}}, {"temporal_layers": 10**6}, {"temporal_layers": 150}, {"attributes": "own", "attribute_text_config": {"num_hidden_layers": 10**6}},
         {"chinese_branch": True, "chinese_text_config": {"num_hidden_layers": 10**6}}, {"chinese_branch": True, "chinese_text_config": {"vocab_size": 10**9}},
         {"merge_r": 10**9}, {"fusion": {"video": 1e400}}, {"text_config": {"num_hidden_layers": 10**6}})  # fmt: skip


def number_attacks(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield a name, a file of the folder, and its new content, for every number in its JSON files."""
    for file in sorted(folder.glob("*config*.json")):
        content = json.loads(file.read_text())
        for name, place, value in changed_numbers(content):
            changed = json.loads(file.read_text())
            holder = changed
            for key in place[:-1]:
                holder = holder[key]
            holder[place[-1]] = value
            yield f"{file.name}: {name}", file.name, json.dumps(changed).encode()
        if file.name == "config.json":
            for more in ADDED:
                yield f"{file.name}: with {str(more)[:60]}", file.name, json.dumps({**content, **more}).encode()


def inflate(path: Path, source: Path, kind: str) -> None:
    """Write an archive of torch again, so that it takes far more memory than disk."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            content = old.read(member)
            is_tensor = "/data/" in member.filename
            if kind == "compressed tensors" and is_tensor:
                content = bytes(1 << (30 if IS_FULL else 26))
            new.writestr(member.filename, content)
        if kind == "a member of zeros":
            new.writestr(f"{member.filename.partition('/')[0]}/more", bytes(1 << (30 if IS_FULL else 26)))
        if kind == "many members":
            for number in range(100_001):
                new.writestr(zipfile.ZipInfo(f"a/{number}"), b"")
