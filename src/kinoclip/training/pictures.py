"""Pictures of a table of rows as SVG: learning curves, accuracy against cost, confusions, explanations against chance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from kinoclip.kinoshapes.files import CLIPS_PER_CLASS
from kinoclip.storage import atomic_file, claimed
from kinoclip.training.claims import TEST, class_labels, find_right, read_answers
from kinoclip.training.comparison import RowResult
from kinoclip.training.reasons import REASONS
from kinoclip.training.run_folder import RESULT


def draw_pictures(folder: Path, rows: Sequence[RowResult], prefix: str) -> list[Path]:
    """Draw the pictures for which there is something to show, named `PREFIX-WHAT.svg`.

    Args:
        folder: of `reproduce`.
        rows: those with their runs in this folder have learning curves.
        prefix: of the names.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("Pictures are drawn by matplotlib. `pip install 'kinoclip[benchmark]'`.") from error
    mpl.use("agg")
    answered = [row for row in rows if _trained_on(row) == _trained_on(rows[0]) and find_right(row, "").size]
    trained = [row for row in rows if row.runs and all(_record(folder, run).is_file() for run in row.runs)]
    explained = [row for row in rows if set(REASONS) & set(row.measured)]
    pictures: dict[str, tuple[Callable[..., None], list[RowResult]]] = {
        "curves": (lambda figure, some: _draw_curves(figure, some, folder), trained),
        "cost": (_draw_cost, answered),
        "confusions": (_draw_confusions, [max(some, key=_accuracy) for some in _by_method(answered)]),
        "reasons": (_draw_reasons, explained),
    }
    paths = []
    for name, (draw, some) in pictures.items():
        if some:
            paths.append(folder / f"{prefix}-{name}.svg")
            with _figure(paths[-1]) as figure:
                draw(figure, some)
    return paths


@contextmanager
def _figure(path: Path) -> Iterator[Any]:
    """Yield an empty figure that is written at the end; the same numbers give the same file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "kinoclip", "font.size": 8}):
        figure = Figure(layout="constrained")
        yield figure
        with atomic_file(path, owns=claimed) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _by_method(rows: Sequence[RowResult]) -> list[list[RowResult]]:
    return [list(some) for _, some in groupby(sorted(rows, key=lambda row: row.method), key=lambda row: row.method)]


def _trained_on(row: RowResult) -> tuple[str, str]:
    """Return data set and number of training clips per class; the number of test clips does not matter."""
    name, *counts = row.dataset.split(":")
    return name.removesuffix("/actions"), counts[0] if counts else str(CLIPS_PER_CLASS["train"])


def _accuracy(row: RowResult) -> float:
    return float(find_right(row, "").mean())


def _grid(figure: Any, count: int, width: float, height: float) -> list[Any]:
    columns = min(count, 3)
    lines = -(-count // columns)
    figure.set_size_inches(width * columns, height * lines)
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for unused in panels[count:]:
        unused.remove()
    return panels[:count]


def _draw_curves(figure: Any, rows: Sequence[RowResult], folder: Path) -> None:
    """Draw the training loss of each epoch, averaged over runs, for each method."""
    methods = _by_method(rows)
    for axes, some in zip(_grid(figure, len(methods), 4, 3), methods, strict=True):
        for row in some:
            texts = [_record(folder, run).read_text("utf-8") for run in row.runs]
            losses = np.mean([[epoch["loss"] for epoch in json.loads(text)["history"]] for text in texts], 0)
            axes.plot(range(1, len(losses) + 1), losses, label=_name(row), linewidth=1)
        axes.set(title=some[0].method, xlabel="epoch", ylabel="training loss", yscale="log")
        axes.legend(fontsize=5)


def _record(folder: Path, run: Mapping[str, Any]) -> Path:
    return folder / "runs" / (run["folder"] or "") / RESULT


def _draw_cost(figure: Any, rows: Sequence[RowResult]) -> None:
    """Draw accuracy against operations; the names stand beside the points, in their order."""
    figure.set_size_inches(9, 6)
    axes = figure.subplots()
    points = {_name(row): (1e3 * row.measured["gmac"], 100 * _accuracy(row)) for row in rows}
    for some in _by_method(rows):
        axes.scatter(*zip(*(points[_name(row)] for row in some), strict=True), s=14, label=some[0].method)
    lines = {"arrowstyle": "-", "linewidth": 0.3, "color": "gray"}
    named = sorted(points, key=lambda name: points[name][1])
    for height, name in zip(np.linspace(0, 1, len(named)), named, strict=True):
        beside = {"xytext": (1.05, height), "textcoords": "axes fraction", "va": "center", "arrowprops": lines}
        axes.annotate(name, points[name], fontsize=6, **beside)
    axes.set(xlabel="MMAC of a video", ylabel="right, in percent of all videos with the classes of the test")
    axes.legend()


def _draw_confusions(figure: Any, rows: Sequence[RowResult]) -> None:
    """Draw the share of answers to the test videos of each class, for the best row of each method."""
    for axes, row in zip(_grid(figure, len(rows), 4.5, 4.5), rows, strict=True):
        labels = class_labels(row, TEST)
        counts = np.zeros((len(labels), len(labels)))
        for run in row.runs:
            np.add.at(counts, read_answers(run["answers"][TEST]), 1)
        axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues")
        axes.set_xticks(range(len(labels)), labels, fontsize=4, rotation=90)
        axes.set_yticks(range(len(labels)), labels, fontsize=4)
        axes.set(title=_name(row), xlabel="answer", ylabel="truth")


def _draw_reasons(figure: Any, rows: Sequence[RowResult]) -> None:
    """Draw explanations against the truth, each beside its value by chance."""
    measured = [(name, [row for row in rows if name in row.measured]) for name in REASONS]
    shown = [(name, some) for name, some in measured if some]
    for axes, (name, some) in zip(_grid(figure, len(shown), 4.5, 3.5), shown, strict=True):
        for shift, key, label in ((-0.2, name, "measured"), (0.2, REASONS[name], "by chance")):
            axes.barh(np.arange(len(some)) + shift, [100 * row.measured[key] for row in some], 0.4, label=label)
        axes.set_yticks(range(len(some)), map(_name, some), fontsize=6)
        axes.set(title=name.replace("_", " "), xlabel="percent", xlim=(0, 100))
        axes.invert_yaxis()
        axes.legend(loc="lower right")


def _name(row: RowResult) -> str:
    return row.recipe.partition("/")[2]
