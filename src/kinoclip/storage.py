"""Atomic writes of files and folders, journals, locks between processes, and content hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from torch import Tensor


# which existing file or folder a write may replace: True for one that kinoclip wrote for this purpose
Owner = Callable[[Path], bool]


def check_exists(path: str | Path, advice: str = "") -> None:
    """Raise a `FileNotFoundError` if a file or folder, other than an address, is missing; `advice` says what to do."""
    if "://" not in str(path) and not os.path.lexists(path):
        raise FileNotFoundError(f"{path} does not exist.{advice}")


def nothing(path: Path) -> bool:
    """Own no existing file: a write that would replace one is refused."""
    return False


def claimed(path: Path) -> bool:
    """Own every file, for those in a folder or of a job that the caller has proven to be its own."""
    return True


def readable_by(read: Callable[[Path], object]) -> Owner:
    """Return an owner of the files that a function reads without an error, and without returning False."""

    def owns(path: Path) -> bool:
        try:
            return read(path) is not False
        except Exception:  # whatever a reader raises, the file is something else
            return False

    return owns


def check_owned(path: str | Path, owns: Owner) -> None:
    """Check that a write to a path changes nothing that somebody else wrote.

    Args:
        path: nothing may be there, or an empty file or folder, or something that `owns` recognizes.
        owns: called with the path.

    Raises:
        FileExistsError: something else is there.
    """
    path = Path(path)
    if not os.path.lexists(path):
        return
    if path.is_dir():
        is_free = not any(path.iterdir())
    else:
        is_free = path.is_file() and not path.stat().st_size
    if not is_free and not ((path.is_file() or path.is_dir()) and owns(path)):
        what = "is not empty" if path.is_dir() else "exists, and was not written by this command"
        raise FileExistsError(f"{path} {what}. Choose another name, or remove it first.")


@contextmanager
def atomic_file(path: str | Path, *, owns: Owner, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside a file; rename it to the file on success and remove it on failure.

    Args:
        path: the file to write; the target of a link is written.
        owns: which existing file is replaced, see `check_owned`.
        shared: several processes or threads may write the file at once; the last one wins. Otherwise the next write
            removes what a killed process left.

    Raises:
        FileExistsError: the file is somebody else's.
        OSError: the file cannot be written.
    """
    path = Path(path).resolve() if Path(path).is_symlink() else Path(path)
    check_owned(path, owns)
    if not shared:
        remove_temporaries(path)
    temporary = _temporary(path)
    try:
        yield temporary
        _sync(temporary)
        check_owned(path, owns)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _temporary(path: Path) -> Path:
    """Return a new hidden name beside a path, which no file of somebody else has."""
    return path.with_name(f".kinoclip-{_hash_name(path)}-{token_hex(8)}.partial")


def _hash_name(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]


def remove_temporaries(path: Path) -> None:
    """Remove what killed processes left of writes to a file or folder that no other process is writing."""
    _delete_matching(path.parent, _hash_name(path))


def remove_all_temporaries(folder: Path) -> None:
    """Remove what killed processes left of writes to any file of a folder that no other process is using."""
    _delete_matching(folder, "[0-9a-f]" * 8)


def _delete_matching(folder: Path, name: str) -> None:
    for left in folder.glob(f".kinoclip-{name}-{'[0-9a-f]' * 16}.partial"):
        _delete(left)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside a path, and delete it at the end unless it was renamed."""
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        _delete(temporary)


def remove(path: Path) -> None:
    """Delete a file, or a folder with its content, if it exists. A folder is renamed first, so a kill leaves no half of it."""
    _delete(path.rename(_temporary(path)) if path.is_dir() and not path.is_symlink() else path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(file: Path) -> None:
    """Write a file to the disk before it is renamed; otherwise its name can outlive a power cut without its content."""
    with file.open("rb+") as opened:  # Windows needs write access
        os.fsync(opened.fileno())


def write_bytes(path: str | Path, content: bytes, *, owns: Owner, shared: bool = False) -> Path:
    """Write a file atomically, unless it has this content already.

    Raises:
        FileExistsError: the file is somebody else's, see `check_owned`.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if not path.is_file() or path.stat().st_size != len(content) or path.read_bytes() != content:
        with atomic_file(path, owns=owns, shared=shared) as temporary:
            temporary.write_bytes(content)
    return path


def write_text(path: str | Path, content: str, *, owns: Owner) -> Path:
    """Write a text file as UTF-8; see `write_bytes`."""
    return write_bytes(path, content.encode("utf-8"), owns=owns)


def write_json(path: str | Path, content: Any, *, owns: Owner) -> Path:
    """Write a JSON file, indented by two spaces; see `write_bytes`."""
    return write_text(path, encode_json(content, indent=2), owns=owns)


def encode_json(content: Any, indent: int | None = None) -> str:
    """Encode JSON in one line, or indented, with a final line break.

    Bytes of file names that are not UTF-8 become escapes that JSON reads back; so do control characters that JSON allows, but
    terminals obey and other readers take for line ends.
    """
    text = json.dumps(content, ensure_ascii=False, indent=indent).encode("utf-8", "backslashreplace").decode()
    return re.sub("[\x7f-\x9f\u2028\u2029]", lambda found: f"\\u{ord(found[0]):04x}", text) + "\n"


_ESCAPED = re.compile(r"[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]|\\(?=x[0-9a-f]{2}|u[0-9a-f]{4})")
# what a spreadsheet takes for a formula, and spaces that it or a reader removes
_ESCAPED_IN_CELL = re.compile(rf"{_ESCAPED.pattern}|\A[=+\-@\s]|\s\Z")


def escape_text(text: str, *, cell: bool = False) -> str:
    r"""Escape what terminals obey, files of Unicode text cannot hold, or readers take for the end of a line.

    Args:
        text: a file name, in which bytes that are not UTF-8 are surrogates as in `os.fsdecode`, a label or a message.
        cell: also escape a first character that makes a spreadsheet calculate, and spaces at the ends.

    Returns:
        Text of which `unescape_text` makes the same again.

    >>> escape_text("a\x1b[2J\udcff.mp4"), escape_text("=1+1", cell=True)
    ('a\\x1b[2J\\udcff.mp4', '\\x3d1+1')
    """

    def escape(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return (_ESCAPED_IN_CELL if cell else _ESCAPED).sub(escape, text)


def unescape_text(text: str) -> str:
    """Revert `escape_text`."""
    return re.sub(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4}))", lambda found: chr(int(found[1] or found[2], 16)), text)


class Journal:
    """A JSONL file that records are appended to.

    The first record is written with the file, atomically. So a file of this class begins with a complete record, and an incomplete
    last line behind it is what a kill left; the first `append` removes it.

    Args:
        path: a new or an empty file, or one of this class.
        fields: that every record has.

    Attributes:
        records: that the file held when it was opened.

    Raises:
        ValueError: the file holds something else.
        OSError: it cannot be read.
    """

    def __init__(self, path: str | Path, fields: Collection[str]):
        self.path = Path(path)
        content = self.path.read_bytes() if os.path.lexists(self.path) else b""
        self._end = content.rfind(b"\n") + 1
        self._file: FileIO | None = None
        try:
            self.records = [json.loads(line) for line in content[: self._end].splitlines()]
            is_own = all(isinstance(record, dict) and record.keys() >= set(fields) for record in self.records)
        except (ValueError, RecursionError):
            is_own = False
        if not is_own or (content and not self.records):
            raise ValueError(
                f"{self.path} does not hold records of this command. Choose another output file, or remove this one."
            )

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a record; if that fails or is interrupted, the file stays as it was."""
        line = encode_json(record).encode()
        if not self._end:
            write_bytes(self.path, line, owns=nothing)
            self._end = len(line)
            return
        if self._file is None:
            self._file = self.path.open("r+b", buffering=0)
        try:
            self._file.truncate(self._end)
            self._file.seek(self._end)
            self._write(self._file, line)
        except BaseException:
            self._file.truncate(self._end)
            raise
        self._end += len(line)

    @staticmethod
    def _write(file: FileIO, line: bytes) -> None:
        while line:
            line = line[file.write(line) :]

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def atomic_folder(path: str | Path, *, owns: Owner = nothing) -> Iterator[Path]:
    """Yield an empty temporary folder; rename it to `path` on success and remove it on failure.

    Args:
        path: the folder to write.
        owns: which existing folder with content is replaced; none by default.

    Raises:
        FileExistsError: the path is a file, or a folder with content.
        RuntimeError: another process is writing it.
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(path):
        _check_folder(path, owns)
        remove_temporaries(path)
        with temporary_folder(path) as temporary:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
            _check_folder(path, owns)
            if path.exists():  # Windows renames to new names only
                remove(path)
            temporary.rename(path)


def _check_folder(path: Path, owns: Owner) -> None:
    """Check that a folder can be written, see `check_owned`; a file with content is never replaced."""
    check_owned(path, lambda path: path.is_dir() and owns(path))


class OutputLock:
    """A lock on an output, held by one process; it is released when the process ends, however it ends.

    Args:
        output: the file or folder that is protected; named in errors.
        path: the lock file; by default hidden, beside the output.
    """

    def __init__(self, output: str | Path, path: str | Path | None = None):
        self.output = Path(output)
        self.path = self.output.with_name(f".{self.output.name}.lock") if path is None else Path(path)
        self._lock = FileLock(self.path)

    def acquire(self, *, wait: bool = False) -> None:
        """Acquire the lock.

        Args:
            wait: wait for the process that holds it instead of raising.

        Raises:
            RuntimeError: another process holds it.
            FileExistsError: the lock file is somebody else's.
            OSError: the lock file cannot be made.
        """
        if os.path.lexists(self.path) and (
            self.path.is_symlink() or not self.path.is_file() or self.path.stat().st_size
        ):
            raise FileExistsError(f"{self.path} is not a lock of kinoclip. Remove it, or choose another output.")
        try:
            self._lock.acquire(blocking=wait)
        except Timeout as error:
            raise RuntimeError(
                f"Another job is writing to {self.output}. Wait for it, or name another output."
            ) from error

    def release(self, *, remove: bool = False) -> None:
        """Release the lock; `remove` deletes the lock file first, where the system can delete an open file."""
        if self._lock.is_locked and remove:
            with suppress(PermissionError):  # Windows cannot; the file is then reused
                self.path.unlink(missing_ok=True)
        self._lock.release()


@contextmanager
def exclusive(output: str | Path, path: str | Path | None = None) -> Iterator[None]:
    """Hold an `OutputLock` and delete its file at the end.

    Raises:
        RuntimeError: another process holds it.
    """
    lock = OutputLock(output, path)
    lock.acquire()
    try:
        yield
    finally:
        lock.release(remove=True)


def file_state(path: str | Path, *, digest: bool = False) -> dict[str, Any]:
    """Return what identifies the content of a file or of the files of a folder; empty for anything else, such as a URL.

    Args:
        path: a file or folder.
        digest: return the SHA-256 of the content ("sha256") instead of its size ("bytes") and its last modification in
            nanoseconds ("changed").
    """
    path = Path(path)
    try:
        if digest and path.exists():
            return {"sha256": hash_file(path)}
        states = [entry.stat() for entry in (path.iterdir() if path.is_dir() else [path])]
    except (OSError, ValueError):
        return {}
    return {"bytes": sum(s.st_size for s in states), "changed": max((s.st_mtime_ns for s in states), default=0)}


def hash_json(content: Any) -> str:
    """Return the SHA-256 of a JSON-able value as 64 hex digits; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def hash_file(path: str | Path) -> str:
    """Return the SHA-256 of a file, or of the names and content of the files of a folder, as 64 hex digits.

    Raises:
        OSError: it cannot be read.
    """
    path = Path(path)
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for entry in sorted(path.iterdir()):
        if entry.is_file():
            digest.update(os.fsencode(entry.name) + b"/" + hash_file(entry).encode())
    return digest.hexdigest()


def hash_tensors(tensors: Mapping[str, Tensor], content: Any = None) -> str:
    """Return the SHA-256 of named tensors (names, types, shapes, values) and a JSON-able value as 64 hex digits."""
    import torch

    digest = hashlib.sha256(hash_json(content).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
