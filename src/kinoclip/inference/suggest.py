"""Suggested labels in a CSV table that is corrected in a spreadsheet, and the corrections as training data."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from difflib import get_close_matches
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoclip.inference.batch_job import LabelJob
from kinoclip.inference.records import Record, read_records
from kinoclip.storage import Journal, exclusive, readable_by
from kinoclip.text.labels import match_key
from kinoclip.text.tables import Row, Table

if TYPE_CHECKING:
    import datasets

# values of the column `label` besides labels
ACCEPTED, NO_LABEL = "yes", "none"
_SEPARATOR = "; "
_MAX_SHOWN = 20


class CorrectionsError(ValueError):
    """A table has rows that cannot be used; the message has a line for each."""


class SuggestionTable(Table):
    """Videos with the label that a model suggests and the one that a user writes."""

    columns = (
        *("video", "suggestion", "probability", "runner_up", "runner_up_probability", "label"),
        *("picture", "error", "choices", "model", "file", "job"),
    )
    required = ("video", "label")
    own = ("video", "suggestion", "label", "job")
    command = "kinoclip suggest"


def suggest(
    videos: Sequence[str],
    job: LabelJob,
    path: str | Path,
    progress: Callable[[int], Callable[[Record], None]] = lambda total: lambda record: None,
) -> SuggestionTable:
    """Write a table of suggestions, or update one: what a user wrote is kept, and those videos are not classified again.

    A video that could not be read is tried again each time.

    Args:
        videos: to label.
        job: its records name all labels.
        path: the table, .csv. An interrupted job leaves a hidden journal beside it, from which the same job continues.
        progress: called with the number of videos to classify; returns a callback, called with each record.

    Raises:
        ValueError: the labels or the table cannot be used.
        RuntimeError: another job writes the table.
        OSError: the file cannot be written.
    """
    path = Path(path)
    plan, named = job.plan(()), dict.fromkeys(videos)
    check_choices(plan.labels)
    journal = path.with_name(f".{path.name}.part-{job.identity}.jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path), closing(Journal(journal, ("video", "job"))) as output:
        known = {row["video"] for row in _load_if_present(path).rows if row["label"] or _is_current(row, job)}
        todo = [video for video in named if video not in known]
        records = {r["video"]: r for r in output.records if r.get("file", {}) == job.state(r["video"])}
        on_record = progress(sum(video not in records for video in todo))
        for record in job.label(todo, done=frozenset(records)):
            output.append(record)
            records[record["video"]] = record
            on_record(record)
        before = _load_if_present(path)  # the user may have edited it meanwhile
        kept = {row["video"]: row for row in before.rows if row["label"] or row["video"] in named}
        for record in records.values():
            row = _to_row(record, job.classifier.name)
            if row["video"] in named and not kept.setdefault(row["video"], row)["label"]:
                kept[row["video"]] |= row
        table = SuggestionTable(order_by_margin(list(kept.values())), delimiter=before.delimiter)
        table.save(path)
        for leftover in path.parent.glob(f".{escape(path.name)}.part-*.jsonl"):
            if readable_by(read_records)(leftover):
                leftover.unlink()
    return table


def _is_current(row: Row, job: LabelJob) -> bool:
    """Check whether the suggestion of a row is what the job would write."""
    state = job.state(row["video"])
    return row["job"] == job.identity and not row["error"] and row["file"] == (json.dumps(state) if state else "")


def order_by_margin(rows: Sequence[Row]) -> list[Row]:
    """Sort rows so that the most uncertain suggestions come first, labels in turn; errors and checked rows come last.

    Source: margin sampling, Scheffer et al., Active Hidden Markov Models for Information Extraction, 2001.
    """
    turns: Counter[str] = Counter()
    order: dict[int, tuple[int, int, float]] = {}
    for number, row in sorted(enumerate(rows), key=lambda pair: _margin(pair[1])):
        group = 2 if row["label"] else int(bool(row["error"]))
        turns[row["suggestion"]] += group == 0
        order[number] = (group, 0 if group else turns[row["suggestion"]], _margin(row))
    return [rows[number] for number in sorted(order, key=order.__getitem__)]


def _margin(row: Row) -> float:
    """Return by how much the best label is ahead; 0 where a spreadsheet changed the numbers."""
    try:
        best, second = (float(row[name].replace(",", ".")) for name in ("probability", "runner_up_probability"))
    except ValueError:
        return 0.0
    return best - second


def _load_if_present(path: Path) -> SuggestionTable:
    return SuggestionTable.load_own(path) if path.exists() and path.stat().st_size else SuggestionTable([])


def _to_row(record: Record, model: str) -> Row:
    row = dict.fromkeys(SuggestionTable.columns, "") | {"video": record["video"], "model": model, "job": record["job"]}
    row["file"] = json.dumps(record["file"]) if "file" in record else ""
    if "error" in record:
        del row["picture"]
        return row | {"error": record["error"]["message"]}
    ranked = record["predictions"]
    for name, prediction in zip(("", "runner_up"), ranked, strict=False):
        row[name or "suggestion"] = prediction["label"]
        row[f"{name}_probability".lstrip("_")] = f"{prediction['probability']:.4f}"
    choices = _SEPARATOR.join(prediction["label"] for prediction in ranked)
    return row | {"choices": choices, "picture": record.get("picture", "")}


def check_choices(labels: Sequence[str]) -> None:
    """Check that there are two labels or more, and that each can be written into a table."""
    if len(labels) < 2:
        raise ValueError(f"There must be at least two labels, got {', '.join(labels)}. Give two at least.")
    for label in labels:
        if ";" in label or match_key(label) in (ACCEPTED, NO_LABEL):
            raise ValueError(
                f"The label {label!r} cannot be used in a table, where semicolons separate labels, and {ACCEPTED!r} and "
                f"{NO_LABEL!r} have other meanings. Rename it."
            )


@dataclass(frozen=True)
class Corrections:
    """The labels that a user wrote into a table.

    Attributes:
        labels: video to its label.
        choices: all labels; some may have no video.
        num_none: number of videos that show none of them.
        num_open: number of readable videos without an entry.
        models: that made the suggestions.
    """

    labels: dict[str, str]
    choices: tuple[str, ...]
    num_none: int
    num_open: int
    models: tuple[str, ...]

    def dataset(self) -> datasets.Dataset:
        """Return the labelled videos as `load_videos` does."""
        from datasets import Dataset

        from kinoclip.data import load_videos

        columns = {"video": list(self.labels), "label": list(self.labels.values())}
        loaded: datasets.Dataset = load_videos(Dataset.from_dict(columns), labels=self.choices)
        return loaded


def read_corrections(path: str | Path, new_labels: Sequence[str] = ()) -> Corrections:
    """Read the column `label` of a table.

    A cell holds a label in any spelling of `match_key`; "yes" for the suggestion; "none" for a video that shows none of the
    labels; or nothing if the video was not checked.

    Args:
        path: of a `SuggestionTable`.
        new_labels: labels that the model did not know.

    Raises:
        FileNotFoundError, ValueError: of `SuggestionTable.load`.
        CorrectionsError: rows that cannot be used, all of them; or there are fewer than two labels with videos.
    """
    table = SuggestionTable.load(path)
    choices = _find_choices(table, new_labels)
    by_key = {match_key(label): label for label in choices}
    labels: dict[str, str] = {}
    counts, faults = Counter[str](), list(_find_faults(table, choices, by_key))
    if faults:
        shown = [*faults[:_MAX_SHOWN], f"and {len(faults) - _MAX_SHOWN} more"][: len(faults)]
        raise CorrectionsError("\n  ".join([f"{path} cannot be used yet; lines to correct: {len(faults)}", *shown]))
    for row in table.rows:
        entry = match_key(row["label"])
        if entry in ("", NO_LABEL):
            counts[entry] += bool(entry) or not row["error"]
        else:
            labels[row["video"]] = row["suggestion"] if entry == ACCEPTED else by_key[entry]
    used = sorted(set(labels.values()))
    if len(used) < 2:
        found = f"all {len(labels)} of them are {used[0]!r}" if used else "there are none"
        raise CorrectionsError(
            f"{path}: videos of at least two labels are needed, and {found}. Write into the column `label`: {ACCEPTED}, the right "
            f"label, or {NO_LABEL}."
        )
    models = dict.fromkeys(row["model"] for row in table.rows if row["model"])
    return Corrections(labels, choices, counts[NO_LABEL], counts[""], tuple(models))


def _find_choices(table: SuggestionTable, new_labels: Sequence[str]) -> tuple[str, ...]:
    """Return all labels in alphabetical order, each in its first spelling."""
    column = "choices" if any(row["choices"] for row in table.rows) else "suggestion"
    found = [label.strip() for row in table.rows for label in row[column].split(";") if label.strip()]
    choices: dict[str, str] = {}
    for label in (*sorted(set(found)), *new_labels):
        choices.setdefault(match_key(label), label)
    check_choices(tuple(choices.values()))
    return tuple(sorted(choices.values()))


def _find_faults(table: SuggestionTable, choices: Sequence[str], by_key: dict[str, str]) -> Iterator[str]:
    """Yield a message for each row that cannot be used."""
    first_lines: dict[str, int] = {}
    for line, row in zip(table.lines, table.rows, strict=True):
        video, entry = row["video"], row["label"]
        if video and video in first_lines:
            yield f"line {line}: {video} is already on line {first_lines[video]}. Keep one of them."
            continue
        first_lines[video] = line
        best, is_label = row["choices"].partition(_SEPARATOR)[0], match_key(entry) not in ("", NO_LABEL)
        if row["suggestion"] and best and row["suggestion"] != best:
            yield f"line {line}: the suggestion was changed. Write what the video shows into `label`."
        elif is_label and (fault := _find_fault(row, choices, by_key)):
            yield f"line {line}: {fault}"


def _find_fault(row: Row, choices: Sequence[str], by_key: dict[str, Any]) -> str | None:
    video, entry = row["video"], row["label"]
    if not video:
        return f"{entry!r} has no video; its name is missing."
    if row["error"]:
        return f"{video} cannot be read, so it cannot be used for training. Clear its label."
    if "://" not in video and not os.path.lexists(video):
        return f"the video {video} does not exist. Run the command in the folder where the file was made, or remove the line."
    if ";" in entry:
        return f"{entry!r} are several labels. Keep the one that counts."
    if match_key(entry) == ACCEPTED:
        return None if row["suggestion"] else f"{entry} accepts a suggestion, but the row has none."
    if match_key(entry) in by_key:
        return None
    near = get_close_matches(entry.casefold(), [choice.casefold() for choice in choices], 1)
    meant = next((choice for choice in choices if near and choice.casefold() == near[0]), None)
    hint = f"Did you mean {meant!r}?" if meant else f"Labels are: {', '.join(choices[:_MAX_SHOWN])}."
    return f"{entry!r} is not a label. {hint} Name a new one with --new-labels."
