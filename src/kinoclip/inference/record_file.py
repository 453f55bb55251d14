"""A file of records that grows by whole ones, and can be continued after any interruption."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from kinoclip.text.parsing import load_json

from .records import Record, csv_header, csv_line, json_line, write_csv


class WrittenRecord(NamedTuple):
    """A record as it stands in a file: of which video and job, its bytes, and whether it says that the video cannot be read."""

    video: str
    job: str
    line: bytes
    failed: bool = False


class RecordFile:
    """A JSONL or CSV file of records.

    Args:
        path: ends in .jsonl or .csv.
        job: the identity that its records carry.
        top_k: columns of a CSV.

    Attributes:
        done: the videos that have their record.

    Raises:
        ValueError: the file holds records of another job or something else.
        OSError: it cannot be written.
    """

    def __init__(self, path: str | Path, job: str, top_k: int = 5):
        self.path = Path(path)
        self.job = job
        self.top_k = top_k
        self.done: set[str] = set()
        if self.path.exists() and not self.path.is_file():
            raise ValueError(f"The output {path} is no regular file. Name a new file or one to continue.")
        self._file = self.path.open("a+b", buffering=0)
        try:
            self._resume()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, record: Record) -> None:
        """Append one record; when that fails or is interrupted, what was half written is taken back.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        end = self._file.seek(0, os.SEEK_END)
        try:
            self._append(json_line(record) if self.path.suffix == ".jsonl" else csv_line(record, self.top_k))
        except BaseException:
            self._file.truncate(end)
            raise
        self.done.add(record["video"])

    def _append(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]

    def _resume(self) -> None:
        """Drop a last line that was cut off, and remember which videos have their record."""
        self.done = {written.video for written in read_records(self.path, self.job, self.top_k)}
        self._file.seek(0)
        content = self._file.read()
        whole = _whole_length(content, self.path.suffix)
        if whole < len(content):
            self._file.truncate(whole)
        if self.path.suffix == ".csv" and whole == 0:
            self._append(csv_header(self.top_k))


def read_records(path: Path, job: str, top_k: int = 5) -> list[WrittenRecord]:
    """Read the whole records of a JSONL or CSV file, without a last one that was cut off.

    Raises:
        ValueError: they are of another job, or something else.
    """
    content = path.read_bytes()
    whole = content[: _whole_length(content, path.suffix)]
    try:
        records = list(_split_json(whole) if path.suffix == ".jsonl" else _split_csv(whole, top_k))
    except (ValueError, KeyError, TypeError, IndexError, csv.Error) as error:
        raise ValueError(
            f"{path} holds something else than records of kinoclip. Choose another output file."
        ) from error
    check_job(path, {record.job for record in records}, job)
    return records


def check_job(path: Path, found: set[str], job: str) -> None:
    """Make sure that a file holds records of one job only.

    Raises:
        ValueError: it does not.
    """
    if found - {job}:
        raise ValueError(
            f"{path} holds records that were made with another model, other labels or options. "
            "Choose another output file, or remove this one."
        )


def _split_json(content: bytes) -> Iterator[WrittenRecord]:
    for line in content.splitlines(keepends=True):
        record = load_json(line)
        yield WrittenRecord(record["video"], record["job"], line, "error" in record)


def _split_csv(content: bytes, top_k: int) -> Iterator[WrittenRecord]:
    rows = csv.reader(io.StringIO(content.decode("utf-8", "surrogateescape"), newline=""))
    header = next(rows, None)
    if header is not None and header[0] != "video":
        raise ValueError(header)
    as_expected = header is None or write_csv(header) == csv_header(top_k)
    for row in rows:
        # another table is another job's, whatever its rows say
        job = row[-1] if as_expected else ""
        yield WrittenRecord(row[0], job, write_csv(row), bool(as_expected and header and row[header.index("error")]))


def _whole_length(content: bytes, suffix: str) -> int:
    """Give the length of the part that ends with a whole record."""
    if suffix == ".jsonl":
        return content.rfind(b"\n") + 1
    end = position = 0
    quoted = False
    for line in content.split(b"\n")[:-1]:  # a line end inside quotes belongs to a name
        position += len(line) + 1
        quoted ^= line.count(b'"') % 2 == 1
        if not quoted:
            end = position
    return end
