"""Suggest a label for each video of a folder, in the order in which a person's time is best spent."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from glob import escape
from pathlib import Path

from kinoclip.data.suggestions import Row, SuggestionTable, check_choices, is_checked, join_choices

from .jobs import Job, Report
from .parquet_records import table_name
from .record_file import read_records
from .record_output import RecordOutput
from .records import Record


def suggest(
    videos: Sequence[str], job: Job, path: str | Path, progress: Callable[[int], Report] | None = None
) -> SuggestionTable:
    """Write a table of suggestions, or renew one; what a person wrote into it is kept, and those videos are not looked at again.

    A video that could not be read is tried again each time.

    Args:
        videos: what to label.
        job: how; its records name all labels.
        path: the table, .csv. A job that is interrupted leaves a journal beside it, from which the same job continues.
        progress: told how many videos are to be looked at, gives what hears of each record.

    Raises:
        ValueError: the labels or the table cannot be used.
        RuntimeError: another job writes there now.
        OSError: the file cannot be written.
    """
    path = Path(path)
    check_choices(job.set_labels())
    names = {table_name(video): video for video in videos}
    rows = _read(path).rows
    known = {row["video"] for row in rows if is_checked(row) or (row["job"] == job.identity and not row["error"])}
    todo = [video for name, video in names.items() if name not in known]
    journal = path.with_name(f"{path.name}.part-{job.identity}.jsonl")
    with RecordOutput(journal, job.identity) as output:
        report = progress and progress(sum(video not in output for video in todo))
        for record in job.label(todo, report, done=output):
            output.write(record)
        fresh = [json.loads(written.line) for written in read_records(journal, job.identity)] if todo else []
        # a person may have gone on with the old table meanwhile
        before = _read(path)
        kept = {row["video"]: row for row in before.rows if is_checked(row) or row["video"] in names}
        for record in fresh:
            row = _row(record, job.classifier.name)
            if row["video"] in names and not is_checked(kept.setdefault(row["video"], row)):
                kept[row["video"]] |= row
        table = SuggestionTable(order_by_use(list(kept.values())), delimiter=before.delimiter)
        table.save(path)
    for leftover in path.parent.glob(f"{escape(path.name)}.part-*.jsonl"):
        leftover.unlink()
    return table


def order_by_use(rows: Sequence[Row]) -> list[Row]:
    """Put the rows first from which a person's answer teaches most, and last those that need none.

    The less the best label is ahead of the second, the more useful (margin sampling: Scheffer et al., Active Hidden Markov Models
    for Information Extraction, 2001). The suggested labels take turns, so that the first rows are not all of one kind.
    """
    turns: Counter[str] = Counter()
    places: dict[int, tuple[int, int, float]] = {}
    for number, row in sorted(enumerate(rows), key=lambda pair: _margin(pair[1])):
        group = 2 if is_checked(row) else int(bool(row["error"]))
        if group == 0:
            turns[row["suggestion"]] += 1
        places[number] = (group, turns[row["suggestion"]] if group == 0 else 0, _margin(row))
    return [rows[number] for number in sorted(places, key=places.__getitem__)]


def _read(path: Path) -> SuggestionTable:
    return SuggestionTable.load(path) if path.exists() else SuggestionTable([])


def _row(record: Record, model: str) -> Row:
    row = {"video": table_name(record["video"]), "model": model, "job": record["job"], "label": ""}
    if "error" in record:
        nothing = dict.fromkeys(("suggestion", "probability", "runner_up", "runner_up_probability", "choices"), "")
        return {**row, **nothing, "error": record["error"]["message"]}
    ranked = record["predictions"]
    for name, prediction in zip(("", "runner_up"), ranked, strict=False):
        row[name or "suggestion"] = prediction["label"]
        row[f"{name}_probability".lstrip("_")] = f"{prediction['probability']:.4f}"
    choices = join_choices(prediction["label"] for prediction in ranked)
    return {**row, "error": "", "choices": choices, "picture": record.get("picture", "")}


def _margin(row: Row) -> float:
    """Give how far the best label is ahead; 0, to be asked first, where a spreadsheet made something else of the numbers."""
    try:
        best, second = (float(row[name].replace(",", ".")) for name in ("probability", "runner_up_probability"))
    except ValueError:
        return 0.0
    return best - second
