"""The procedural benchmarks by name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoclip.kinoshapes.benchmark import (
    BENCHMARK_CORPORA,
    TASKS,
    action_classes,
    benchmark_dataset,
    benchmark_entities,
    chinese_names,
    english_paraphrases,
    known_words,
)
from kinoclip.kinoshapes.figures.benchmark import (
    FIGURE_TASKS,
    figure_chinese,
    figure_classes,
    figure_entities,
    figure_words,
    figures_dataset,
)
from kinoclip.modeling.names import DEFAULT, EMBEDDED, EMBEDDED_RECOGNIZER
from kinoclip.text.entities import Entity

if TYPE_CHECKING:
    from datasets import Dataset

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """What the rest of the package needs to know of a procedural benchmark."""

    title: str
    tasks: Sequence[str]
    build: Callable[..., Dataset]  # (task, split, clips_per_class=...)
    classes: Callable[..., Sequence[Any]]  # of a task, by id, each with its `group`
    names: Mapping[
        str, tuple[str, Callable[[], dict[str, str]]]
    ]  # second names of all classes by set, and their language
    corpora: Sequence[str]
    entities: Callable[[str], list[Entity]]  # of one of the corpora
    sources: tuple[Path, ...]  # code that draws the clips

    @cached_property
    def generator(self) -> str:
        """16 hex digits that change with the code that draws the clips."""
        digest = hashlib.blake2b(digest_size=8)
        for source in self.sources:
            digest.update(source.read_bytes())
        return digest.hexdigest()


def _figure_synonyms() -> dict[str, str]:
    """Return a second English name of every action; those of "details" are the first ones."""
    return {act.label: act.synonyms[0] for task in ("actions", "unseen", "details") for act in figure_classes(task)}


_SHARED = [_FOLDER / "clips.py", _FOLDER / "files.py"]
BENCHMARKS: dict[str, Benchmark] = {
    "kinoshapes": Benchmark(
        "KinoShapes",
        TASKS,
        benchmark_dataset,
        action_classes,
        {
            "kinoshapes": ("Chinese", lambda: chinese_names() | chinese_names("unseen")),
            "kinoshapes/english": ("English", lambda: english_paraphrases() | english_paraphrases("unseen")),
        },
        BENCHMARK_CORPORA,
        benchmark_entities,
        (*_SHARED, _FOLDER / "drawing.py", _FOLDER / "benchmark.py"),
    ),
    "kinofigures": Benchmark(
        "KinoFigures",
        FIGURE_TASKS,
        figures_dataset,
        figure_classes,
        {"kinofigures": ("Chinese", figure_chinese), "kinofigures/english": ("English", _figure_synonyms)},
        ("kinofigures", "kinofigures/parts"),
        figure_entities,
        (*_SHARED, *sorted((_FOLDER / "figures").glob("*.py"))),
    ),
}


def check_words(model: str, labels: Sequence[str]) -> None:
    """Check that an embedded model knows every word of labels, from its captions or the names of the classes; others are not checked.

    Raises:
        ValueError: it does not know one; it would choose a label with confidence all the same.
    """
    if model not in _KNOWN:
        return
    what, texts = _KNOWN[model]
    known = {word for text in texts() for word in _stems(text)}
    for label in labels:
        unknown = [word for word in _stems(label) if word not in known]
        if unknown:
            raise ValueError(
                f"The embedded model {model} knows {what} only, not {unknown[0]!r} in the label {label!r}. Name a model for your own "
                f"videos, such as {DEFAULT}."
            )


def _stems(text: str) -> list[str]:
    return [word.rstrip("s") for word in re.findall(r"\w+", text.lower())]


_KNOWN: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    EMBEDDED: ("the people and the colored shapes of the demo", lambda: chain(figure_words(), known_words())),
    EMBEDDED_RECOGNIZER: ("what the people of the demo do", figure_words),
}


def find_corpus(name: str) -> list[Entity] | None:
    """Return the entities of a benchmark's corpus, or None if no benchmark has this one."""
    return next((known.entities(name) for known in BENCHMARKS.values() if name in known.corpora), None)


def find_names(name: str) -> dict[str, Any] | None:
    """Return a benchmark's second names of its classes as a dictionary, or None if no benchmark has this set."""
    for known in BENCHMARKS.values():
        if name in known.names:
            language, read = known.names[name]
            return {"version": 1, "language": language, "names": read()}
    return None


def split_source(source: Any) -> tuple[str, str] | None:
    """Split "kinoshapes/actions" into benchmark and task, "" without one; None if no benchmark has the name."""
    name, _, task = str(source).partition("/")
    return (name, task) if name in BENCHMARKS else None
