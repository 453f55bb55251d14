"""The one output of a job: written by any number of processes, and whole after any interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from glob import escape
from pathlib import Path
from typing import Self

from kinoclip.whole_files import whole_file

from .output_lock import OutputLock
from .parquet_records import need_pyarrow, read_parquet, table_name, write_parquet
from .record_file import RecordFile, WrittenRecord, check_job, read_records
from .records import Record, csv_header, csv_line, json_line

SUFFIXES = (".jsonl", ".csv", ".parquet")


class RecordOutput:
    """A JSONL, CSV or Parquet file of records, locked while it is entered.

    One process appends to a JSONL or CSV file. Several processes, and a Parquet file, which cannot grow safely, have journals
    beside it, `OUTPUT.part-00001-of-00002.jsonl`, which `finish` makes into the output. Whatever journals an interrupted job
    left count as done, by any number of processes.

    Args:
        path: ends in .jsonl, .csv or .parquet.
        job: the identity that its records carry.
        top_k: columns of a CSV.
        process: which of the processes of the job this is.
        processes: how many there are.
        wait: returns when all processes have called it.
        retry: videos that could not be read do not count as done; what comes of them now takes the place of their error.

    Raises:
        ValueError: another ending, or a file that is there holds records of another job or something else.
        RuntimeError: another job writes there now.
        ImportError: Parquet cannot be written here.
        OSError: the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        job: str,
        top_k: int = 5,
        *,
        process: int = 0,
        processes: int = 1,
        wait: Callable[[], None] = lambda: None,
        retry: bool = False,
    ):
        self.path = Path(path)
        if self.path.suffix not in SUFFIXES:
            raise ValueError(
                f"The output {path} ends in {self.path.suffix or 'nothing'}. Use {' or '.join(SUFFIXES)}."
            )
        if self.path.suffix == ".parquet":
            need_pyarrow()
        if self.path.is_symlink():
            self.path = self.path.resolve()
        self.job, self.top_k = job, top_k
        self.process, self.processes, self.wait, self.retry = process, processes, wait, retry
        self._lock = OutputLock(self.path)
        self._is_alone = processes == 1
        self._done: set[str] = set()
        self._file: RecordFile | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock_for_all()
            if self.processes == 1 and self.path.suffix != ".parquet" and not self.retry:
                self._file = RecordFile(self.path, self.job, self.top_k)
            records = self._read().values()
            self._done = {record.video for record in records if not (self.retry and record.failed)}
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.__exit__()
        self._lock.release(remove=self._is_alone)

    def __contains__(self, video: object) -> bool:
        """Tell whether a video has its record."""
        return isinstance(video, str) and self._name(video) in self._done

    @property
    def parts(self) -> list[Path]:
        """The journals that are there."""
        return sorted(self.path.parent.glob(f"{escape(self.path.name)}.part-*-of-*.jsonl"))

    def write(self, record: Record) -> None:
        """Write one record, whole or not at all.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        if self._file is None:
            part = f"{self.path.name}.part-{self.process + 1:05}-of-{self.processes:05}.jsonl"
            self._file = RecordFile(self.path.with_name(part), self.job)
        self._file.write(record)
        self._done.add(self._name(record["video"]))

    def finish(self, videos: Sequence[str]) -> None:
        """Make the output of the journals, in the order of the videos; in several processes the first does, after the others.

        Raises:
            RuntimeError: another process of the job ended before its videos were done.
        """
        if self.process > 0:
            return
        if self.processes > 1:
            self._lock.outlast()
            self._is_alone = True
        parts = self.parts
        if not parts and (self.path.exists() or self.path.suffix != ".parquet"):
            return
        records = self._read()
        names = [self._name(video) for video in videos]
        missing = sum(name not in records for name in names)
        if missing:
            raise RuntimeError(
                f"{missing} of {len(videos)} videos have no record, because a process of this job ended before them. "
                "The same command continues."
            )
        others = records.keys() - set(names)
        ordered = [*(name for name in records if name in others), *dict.fromkeys(names)]
        self._replace([records[name].line for name in ordered])
        for part in parts:
            part.unlink()

    def _lock_for_all(self) -> None:
        if self.process == 0:
            self._lock.take()
        if self.processes > 1:
            for turn in (self.process == 0, self.process > 0):
                if turn:
                    self._lock.share()
                self.wait()

    def _name(self, video: str) -> str:
        return table_name(video) if self.path.suffix == ".parquet" else video

    def _read(self) -> dict[str, WrittenRecord]:
        """Give the record of each video; where there are several, the last one, unless that alone is an error."""
        found: dict[str, WrittenRecord] = {}
        for record in (*self._read_output(), *self._read_parts()):
            if not record.failed or found.get(record.video, record).failed:
                found[record.video] = record
        return found

    def _read_output(self) -> list[WrittenRecord]:
        """Give the records of the output, as JSON for Parquet."""
        if not self.path.exists():
            return []
        if not self.path.is_file():
            raise ValueError(f"The output {self.path} is no regular file. Name a new file or one to continue.")
        if self.path.suffix != ".parquet":
            return read_records(self.path, self.job, self.top_k)
        records = list(read_parquet(self.path))
        check_job(self.path, {record["job"] for record in records}, self.job)
        return [WrittenRecord(r["video"], r["job"], json_line(r), "error" in r) for r in records]

    def _read_parts(self) -> Iterator[WrittenRecord]:
        for part in self.parts:
            for record in read_records(part, self.job):
                as_row = self.path.suffix == ".csv"
                line = csv_line(json.loads(record.line), self.top_k) if as_row else record.line
                yield record._replace(video=self._name(record.video), line=line)

    def _replace(self, lines: list[bytes]) -> None:
        """Write the output anew; it is there whole, or the old one is."""
        with whole_file(self.path) as partial:
            if self.path.suffix == ".parquet":
                write_parquet(partial, _parse(lines))
            else:
                header = csv_header(self.top_k) if self.path.suffix == ".csv" else b""
                partial.write_bytes(b"".join([header, *lines]))


def _parse(lines: list[bytes]) -> Iterator[Record]:
    return (json.loads(line) for line in lines)
