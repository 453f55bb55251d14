"""Files and folders that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a hidden place beside a file; what is written there takes its name at the end, and goes if that fails.

    What a killed process left there is overwritten by the next.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # or after a power cut the name may be there without the content
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Do for a new folder what `whole_file` does, for one process at a time.

    Raises:
        FileExistsError: it holds something already.
        RuntimeError: another process writes it now.
        OSError: it cannot be written.
    """
    import fcntl

    partial = path.with_name(f".{path.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    lock = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise RuntimeError(f"Another job writes to {path} now. Wait for it, or name another folder.") from error
    try:
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(f"{path} is not empty. Name a new folder, or remove this one first.")
        for leftover in partial.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        yield partial
        partial.replace(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def write_whole(path: Path, content: str) -> Path:
    """Write a text as UTF-8, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    with whole_file(path) as partial:
        partial.write_text(content, encoding="utf-8")
    return path
