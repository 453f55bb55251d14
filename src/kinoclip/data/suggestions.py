"""Suggested labels as a table that a person corrects in a spreadsheet, and what is learned from it."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Self

from kinoclip.text.labels import match_key

from .annotations import read_text

if TYPE_CHECKING:
    import datasets

Row = dict[str, str]

# what a person reads first comes first; columns of their own stand behind these
COLUMNS = (
    *("video", "suggestion", "probability", "runner_up", "runner_up_probability", "label"),
    *("picture", "error", "choices", "model", "job"),
)
# what may stand in the column `label` beside a label
ACCEPTED, NO_LABEL = "yes", "none"
_BETWEEN_CHOICES = "; "
_MAX_SHOWN = 20


class CorrectionsError(ValueError):
    """A table holds lines that cannot be learned from; the message has a line for each."""


@dataclass(frozen=True)
class SuggestionTable:
    """Videos with the label that a model suggests and the one that a person gives.

    Args:
        rows: a text for each of `COLUMNS`, and for further columns that somebody added.
        lines: where each row stands in the file.
        delimiter: between the cells; spreadsheets of some countries write semicolons.
    """

    rows: list[Row]
    lines: Sequence[int] = ()
    delimiter: str = ","

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a table, as `save` or a spreadsheet wrote it: columns in any order, commas, semicolons or tabs.

        Raises:
            FileNotFoundError: no such file.
            ValueError: it is no table, or lacks a column.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {path}. Make one with `kinoclip suggest`.")
        text = read_text(path)
        header = text.partition("\n")[0]
        delimiter = max(",;\t", key=header.count)
        rows, lines = [], []
        reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
        try:
            names = [name.strip().lower() for name in next(reader, [])]
            for wanted in ("video", "label"):
                if names.count(wanted) != 1:
                    raise ValueError(
                        f"{path}: one column is to be called {wanted!r}, and there are: {header.strip() or 'none'}. Keep the first "
                        "line as `kinoclip suggest` wrote it."
                    )
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    found = zip(names, [*cells, *[""] * len(names)], strict=False)
                    rows.append(dict.fromkeys(COLUMNS, "") | {name: cell.strip() for name, cell in found if name})
                    lines.append(reader.line_num)
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {reader.line_num}: {error}. Save it as CSV from the spreadsheet again."
            ) from error
        return cls(rows, lines, delimiter)

    def save(self, path: str | Path) -> None:
        """Write the table, whole or not at all, with the mark by which spreadsheets know UTF-8."""
        text = io.StringIO()
        columns = dict.fromkeys((*COLUMNS, *(name for row in self.rows for name in row)))
        writer = csv.DictWriter(text, columns, restval="", delimiter=self.delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        partial = Path(path).with_name(f".{Path(path).name}.partial")
        partial.write_text(text.getvalue(), encoding="utf-8-sig")
        partial.replace(path)


@dataclass(frozen=True)
class Corrections:
    """What a person said of the videos of a table.

    Attributes:
        labels: video to its label.
        choices: all labels, of which some may have no video yet.
        num_none: videos that show none of them.
        num_open: videos that can be read and that nobody looked at yet.
        models: what made the suggestions.
    """

    labels: dict[str, str]
    choices: tuple[str, ...]
    num_none: int
    num_open: int
    models: tuple[str, ...]

    def dataset(self) -> datasets.Dataset:
        """Give the labelled videos as `load_videos` does."""
        from datasets import Dataset

        from .loading import load_videos

        columns = {"video": list(self.labels), "label": list(self.labels.values())}
        loaded: datasets.Dataset = load_videos(Dataset.from_dict(columns), labels=self.choices)
        return loaded


def is_checked(row: Row) -> bool:
    """Tell whether somebody said what a video shows."""
    return bool(row["label"])


def join_choices(labels: Iterable[str]) -> str:
    """Write labels into one cell."""
    return _BETWEEN_CHOICES.join(labels)


def check_choices(labels: Sequence[str]) -> None:
    """Make sure that labels can be told apart by what a person writes into the table.

    Raises:
        ValueError: there is one alone; or one holds a semicolon, or means something else there.
    """
    if len(labels) < 2:
        raise ValueError(
            f"The labels are {', '.join(labels)} alone. Give two at least, or there is nothing to choose."
        )
    for label in labels:
        if ";" in label or match_key(label) in (ACCEPTED, NO_LABEL):
            raise ValueError(
                f"The label {label!r} cannot stand in a table: semicolons separate labels there, and {ACCEPTED!r} and {NO_LABEL!r} "
                "mean something else. Write it otherwise."
            )


def read_corrections(path: str | Path, new_labels: Sequence[str] = ()) -> Corrections:
    """Read what a person wrote into the column `label`.

    A label in any spelling of `match_key`; "yes" for the suggestion; "none" for a video that shows none of the labels; nothing
    where nobody looked yet, which says nothing of the suggestion.

    Args:
        path: of a `SuggestionTable`.
        new_labels: labels that no model was asked for yet.

    Raises:
        FileNotFoundError, ValueError: of `SuggestionTable.load`.
        CorrectionsError: lines that cannot be learned from, all of them; or there is too little to learn.
    """
    table = SuggestionTable.load(path)
    choices = _choices(table, new_labels)
    known = {match_key(label): label for label in choices}
    first_lines: dict[str, int] = {}
    labels, faults, num_none, num_open = {}, [], 0, 0
    for line, row in zip(table.lines, table.rows, strict=True):
        video, said = row["video"], match_key(row["label"])
        if video and video in first_lines:
            faults.append(f"line {line}: {video} stands on line {first_lines[video]} already. Keep one of them.")
            continue
        first_lines[video] = line
        label = row["suggestion"] if said == ACCEPTED else known.get(said)
        suggested = row["choices"].partition(_BETWEEN_CHOICES)[0]
        if row["suggestion"] and suggested and row["suggestion"] != suggested:
            faults.append(f"line {line}: the suggestion was changed. Write what the video shows into `label`.")
        elif not said:
            num_open += not row["error"]
        elif said == NO_LABEL:
            num_none += 1
        elif fault := _fault(row, label, choices):
            faults.append(f"line {line}: {fault}")
        elif label is not None:
            labels[video] = label
    if faults:
        shown = [*faults[:_MAX_SHOWN], f"and {len(faults) - _MAX_SHOWN} more"][: len(faults)]
        raise CorrectionsError("\n  ".join([f"{path} cannot be used yet; lines to correct: {len(faults)}", *shown]))
    _check_enough(path, labels)
    models = dict.fromkeys(row["model"] for row in table.rows if row["model"])
    return Corrections(labels, choices, num_none, num_open, tuple(models))


def _choices(table: SuggestionTable, new_labels: Sequence[str]) -> tuple[str, ...]:
    """Give all labels, each in its first spelling, in the order of the alphabet."""
    column = "choices" if any(row["choices"] for row in table.rows) else "suggestion"
    found = [label.strip() for row in table.rows for label in row[column].split(";") if label.strip()]
    every: dict[str, str] = {}
    for label in (*sorted(set(found)), *new_labels):
        every.setdefault(match_key(label), label)
    check_choices(tuple(every.values()))
    return tuple(sorted(every.values()))


def _fault(row: Row, label: str | None, choices: Sequence[str]) -> str | None:
    """Say what is wrong with a row that somebody labelled."""
    video, said = row["video"], row["label"]
    if not video:
        return f"{said!r} labels no video; its name is missing."
    if row["error"]:
        return f"{video} cannot be read, so nothing is learned from it. Empty its label."
    if "://" not in video and not os.path.lexists(video):
        return (
            f"there is no video {video}. Run the command in the folder in which the file was made, or remove the line."
        )
    if ";" in said:
        return f"{said!r} are several labels, and a video has one here. Keep the one that counts."
    if label is None:
        near = get_close_matches(said.casefold(), [choice.casefold() for choice in choices], 1)
        meant = next((choice for choice in choices if near and choice.casefold() == near[0]), None)
        hint = f"Did you mean {meant!r}?" if meant else f"There are: {', '.join(choices[:_MAX_SHOWN])}."
        return f"{said!r} is no label. {hint} A new one is named with --new-labels."
    return f"there is no suggestion to say {said} to." if not label else None


def _check_enough(path: str | Path, labels: dict[str, str]) -> None:
    used = sorted(set(labels.values()))
    if len(used) > 1:
        return
    found = f"all {len(labels)} of them are {used[0]!r}" if used else "there are none"
    raise CorrectionsError(
        f"{path}: videos of two labels at least are needed, and {found}. Write into the column `label`: {ACCEPTED}, the right "
        f"label, or {NO_LABEL}."
    )
