"""One job writes an output at a time, with as many processes as it has."""

from __future__ import annotations

import os
from pathlib import Path


class OutputLock:
    """A lock beside a file that is held by all processes of a job, and gone with the last of them, however it ended.

    Args:
        path: the output; the lock is a hidden file beside it.
    """

    def __init__(self, path: Path):
        self.output = path
        self.path = path.with_name(f".{path.name}.lock")
        self._file: int | None = None

    def take(self) -> None:
        """Hold it alone.

        Raises:
            RuntimeError: another job has it.
        """
        import fcntl

        while True:
            file = self._open()
            try:
                self._flock(fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self.release()
                raise RuntimeError(
                    f"Another job writes to {self.output} now. Wait for it, or name another output."
                ) from error
            if self._is_current(file):
                return
            self.release()

    def share(self) -> None:
        """Hold it with the other processes of the job, after one of them has taken it.

        Raises:
            RuntimeError: another job was faster.
        """
        import fcntl

        if self._file is None:
            self._open()
        try:
            self._flock(fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RuntimeError(f"Another job writes to {self.output} now. Wait for it.") from error

    def outlast(self) -> None:
        """Wait until no other process holds it."""
        import fcntl

        self._flock(fcntl.LOCK_EX)

    def release(self, remove: bool = False) -> None:
        """Let go; `remove` takes away the file too, which only its single holder may do."""
        if self._file is not None:
            if remove and self._is_current(self._file):
                self.path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        return self._file

    def _flock(self, operation: int) -> None:
        import fcntl

        if self._file is not None:
            fcntl.flock(self._file, operation)

    def _is_current(self, file: int) -> bool:
        """Tell whether the file is still the one of this name: its last holder may have removed it."""
        try:
            return os.path.samestat(os.fstat(file), self.path.stat())
        except FileNotFoundError:
            return False
