"""Addresses of files that fsspec opens: s3://, gs://, hf:// and others, with the credentials of this machine.

An http(s) address is none of them: `video.download` reads it, with checks for addresses from strangers.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeGuard

from kinoclip.storage import atomic_file, claimed, file_state

# Stores whose hosts and credentials are configured on this machine. Other protocols of fsspec reach files of this machine, or any host
# that an address names, for which only http(s) has checks.
_STORES = (
    *("s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oci", "oss", "tos", "tosfs", "lakefs", "dbfs"),
    *("hf", "gdrive", "dropbox", "box", "memory"),
)


def is_address(name: object) -> TypeGuard[str]:
    """Check whether a name is an address of a store (`_STORES`), and not a chain of protocols ("::")."""
    return isinstance(name, str) and "://" in name and "::" not in name and name.partition("://")[0] in _STORES


def open_filesystem(name: str) -> tuple[Any, str]:
    """Return the file system of an address, or of a path of this machine, and the path in it.

    Raises:
        ImportError: the package for its protocol is not installed.
    """
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    try:
        with accessing(name):
            filesystem, path = url_to_fs(name)
            return filesystem, path
    except ImportError as error:
        known = known_implementations[name.partition("://")[0]]
        package = known["class"].partition(".")[0]
        advice = f"Run `pip install {package}`." if package != "fsspec" else f"{error}."
        raise ImportError(f"{name}: the package for this address is missing. {advice}") from error


@contextmanager
def accessing(address: str) -> Iterator[None]:
    """Turn the errors of a file system, which have many types, into errors of one line that name the address.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: it cannot be accessed.
        RuntimeError: credentials are missing, for this file as for all others of the store.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{address}: the file does not exist.") from error
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "Credential" in type(error).__name__:
            raise RuntimeError(
                f"{address}: credentials for this address are missing ({reason.rstrip('.')}). Set them as its library reads "
                "them, for S3 in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or with `aws configure`."
            ) from error
        raise OSError(
            f"{address}: it cannot be accessed ({reason.rstrip('.')}). Check address, permissions and network."
        ) from error


def list_files(address: str) -> list[str]:
    """Return the addresses of all files in a folder and the folders in it, without hidden ones; or of the one file.

    Raises:
        FileNotFoundError: there is neither.
        OSError: see `accessing`.
    """
    filesystem, path = open_filesystem(address)
    root = path.rstrip("/")
    with accessing(address):
        inside = [found[len(root) :] for found in filesystem.find(path)]
        if not inside:
            raise FileNotFoundError
    return sorted(address.rstrip("/") + name for name in inside if "/." not in name)


def load_file(source: str, target: Path) -> bool:
    """Copy the file of an address or path to a new local file; return whether it exists."""
    filesystem, path = open_filesystem(source)
    try:
        with accessing(source):
            filesystem.get_file(path, str(target))
    except FileNotFoundError:
        target.unlink(missing_ok=True)
        return False
    return True


def store_file(source: Path, target: str) -> None:
    """Write a local file to an address or path, replacing a file there; atomic on this machine and in object stores."""
    filesystem, path = open_filesystem(target)
    if not is_address(target):
        with atomic_file(path, owns=claimed, shared=True) as temporary:
            shutil.copyfile(source, temporary)
        return
    with accessing(target):
        filesystem.put_file(str(source), path)


@contextmanager
def called(file: Path, name: str) -> Iterator[None]:
    """Replace the path of a temporary file in errors by the name of what it stands for."""
    try:
        yield
    except (ValueError, OSError, RuntimeError) as error:
        error.args = tuple(part.replace(str(file), name) if isinstance(part, str) else part for part in error.args)
        raise


@contextmanager
def working_copy(output: str | None) -> Iterator[str | None]:
    """Yield the local file in which an output is written; for an address, load it before and store it after the block.

    The local file of an address is in `HF_HOME`. It stays after an error, so that the job can be continued on this machine, unless
    nothing was written.
    """
    if not is_address(output):
        yield output
        return
    from huggingface_hub import constants

    folder = Path(constants.HF_HOME) / "kinoclip" / "outputs" / sha256(output.encode()).hexdigest()[:16]
    file = folder / output.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    before = {} if any(folder.iterdir()) or not load_file(output, file) else file_state(file)
    try:
        with called(file, output):
            yield str(file)
        store_file(file, output)
        before = file_state(file)
    finally:
        left = list(folder.iterdir())
        if not left or (left == [file] and file_state(file) == before):
            shutil.rmtree(folder)
