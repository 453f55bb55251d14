"""The output of a batch job: records appended to a journal, which survives a kill at any moment and is continued."""

import os
from collections.abc import Callable, Sequence
from glob import escape
from pathlib import Path
from typing import Literal, Self

from kinoclip.inference.records import (
    SUFFIXES,
    Record,
    check_job,
    check_pyarrow,
    read_records,
    write_records,
)
from kinoclip.storage import Journal, OutputLock, atomic_file, claimed, file_state, remove_temporaries

Retry = Literal["errors", "changed"]


class RecordOutput:
    """The JSONL, CSV or Parquet file of a job; a context manager that holds its lock.

    A single process appends to a JSONL output directly. Otherwise each process appends to a hidden journal beside the output, and
    `finish` writes the output from all journals. Journals of an interrupted job count, whatever its number of processes was.

    The first process holds the lock of the output, each further one the lock of its journal. A job starts only if none of
    them is held.

    Args:
        path: ends in .jsonl, .csv or .parquet.
        job: the identity that its records carry.
        top_k: predictions per row of a CSV.
        process: the index of this process.
        processes: the number of processes of the job.
        wait: a barrier of all processes.
        locate: returns the file of a video; None for content without a file.
        retry: "errors": videos that could not be read do not count as done; a new record replaces the error. "changed": neither
            do videos that changed since, nor those that another job labelled; a new record replaces the old one.

    Raises:
        ValueError: another suffix, or the output holds something else, or records of another job or of videos that changed.
        RuntimeError: another job writes to the output.
        ImportError: pyarrow is missing for Parquet.
        OSError: the output cannot be written.
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
        locate: Callable[[str], str | None] = str,
        retry: Retry | None = None,
    ):
        self.path = Path(path)
        if self.path.suffix not in SUFFIXES:
            raise ValueError(
                f"The output {path} ends in {self.path.suffix or 'nothing'}. Use {' or '.join(SUFFIXES)}."
            )
        if self.path.suffix == ".parquet":
            check_pyarrow()
        if self.path.is_symlink():
            self.path = self.path.resolve()
        self.job, self.top_k, self.retry = job, top_k, retry
        self.process, self.processes, self.wait, self.locate = process, processes, wait, locate
        self._is_direct = processes == 1 and self.path.suffix == ".jsonl" and retry is None
        self._lock = self._part_lock(process) if process else OutputLock(self.path)
        self._done: set[str] = set()
        self._journal: Journal | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.process == 0:
            self._lock.acquire()
        try:
            if self.process == 0:
                remove_temporaries(self._part(0))
                for path in self._beside("part-*.lock"):  # of killed jobs, or of processes that outlived the first
                    lock = OutputLock(self.path, path)
                    lock.acquire()
                    remove_temporaries(path.with_suffix(".jsonl"))
                    lock.release(remove=True)
            self.wait()
            if self.process:
                self._lock.acquire()
            self.wait()
            records = self.read()
            failed = {video for video, record in records.items() if self.retry == "errors" and "error" in record}
            self._done = records.keys() - failed - self._find_changed(records)
            if self._is_direct:
                self._journal = Journal(self.path, ("video", "job"))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close_journal()
        self._lock.release(remove=self.process == 0)

    def __contains__(self, video: object) -> bool:
        """Check whether a video has its record."""
        return video in self._done

    def append(self, record: Record) -> None:
        """Append one record to the journal of this process."""
        if self._journal is None:
            self._journal = Journal(self._part(self.process), ("video", "job"))
        self._journal.append(record)
        self._done.add(record["video"])

    def finish(self, videos: Sequence[str]) -> None:
        """Write the output from the journals, in the order of the videos; the first process does, after all others.

        Raises:
            RuntimeError: another process of the job ended before its videos were done.
        """
        if self.process:
            return
        for number in range(1, self.processes):
            lock = self._part_lock(number)
            lock.acquire(wait=True)
            lock.release(remove=True)
        self._close_journal()
        journals = self._beside("part-*.jsonl")
        if not journals and self.path.exists():
            return
        records = self.read()
        missing = sum(video not in records for video in videos)
        if missing:
            raise RuntimeError(
                f"{missing} of {len(videos)} videos have no record, because a process of this job ended before them. "
                "Run the same command to continue."
            )
        further = records.keys() - set(videos)
        ordered = [*(video for video in records if video in further), *dict.fromkeys(videos)]
        with atomic_file(self.path, owns=claimed) as temporary:
            write_records(temporary, self.path.suffix, [records[video] for video in ordered], self.top_k)
        for journal in journals:
            journal.unlink()

    def _beside(self, pattern: str) -> list[Path]:
        return sorted(self.path.parent.glob(f".{escape(self.path.name)}.{pattern}"))

    def _part(self, process: int) -> Path:
        return self.path.with_name(f".{self.path.name}.part-{process:05}.jsonl")

    def _part_lock(self, process: int) -> OutputLock:
        return OutputLock(self.path, self._part(process).with_suffix(".lock"))

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    def _find_changed(self, records: dict[str, Record]) -> set[str]:
        """Return the videos whose record is not of this job or of the present file; only "changed" allows such."""
        changed = {}
        for video, record in records.items():
            if self.retry != "changed":
                check_job(self.path, record["job"], self.job)
            path = self.locate(video)
            state = {} if path is None else file_state(path, digest="sha256" in record.get("file", ()))
            if record["job"] != self.job or (state and state != record.get("file", state)):
                changed[video] = f"{video} was {record.get('file')}, is {state}"
        if changed and self.retry != "changed":
            raise ValueError(
                f"{len(changed)} videos of {self.path} have changed since they were labelled: {next(iter(changed.values()))}. "
                "Label them again with --retry changed, or choose another output file."
            )
        return set(changed)

    def read(self) -> dict[str, Record]:
        """Read the record of each video: of several the last one, unless it is an error and the one before is as current."""
        found: dict[str, Record] = {}
        for path in (*([self.path] if os.path.lexists(self.path) else []), *self._beside("part-*.jsonl")):
            for record in read_records(path):
                before = found.get(record["video"], record)
                is_current = (before["job"], before.get("file")) == (record["job"], record.get("file"))
                if "error" not in record or "error" in before or not is_current:
                    found[record["video"]] = record
        return found
