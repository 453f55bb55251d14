"""Files at addresses of fsspec: blocks of them, and mp4 files without the content of their packets."""

from __future__ import annotations

import struct
import tempfile
from bisect import bisect_right
from copy import copy
from pathlib import Path
from threading import Lock
from typing import Any

from kinoclip.addresses import accessing, open_filesystem
from kinoclip.video.errors import SourceError, VideoDecodeError
from kinoclip.video.limits import check_time, seconds_left, time_limit

# A request takes about as long as the transfer of this many bytes.
_BLOCK_BYTES = 1 << 20
_MAX_BLOCKS = 32
# first boxes of an mp4 or mov
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide")


class RemoteFile:
    """A seekable binary file at an address; blocks are read when they are needed, and the last ones are kept.

    Args:
        address: see `is_address`.
        max_bytes: to read.

    Raises:
        FileNotFoundError: it does not exist.
        OSError: it cannot be accessed.
    """

    def __init__(self, address: str, max_bytes: int):
        from fsspec.caching import BlockCache

        self.name = address
        filesystem, path = open_filesystem(address)
        with accessing(address):
            self._file = filesystem.open(path, "rb", block_size=_BLOCK_BYTES, cache_type="none")
            self.size: int = self._file.seek(0, 2)
        self._fetched: list[int] = []
        self._max_bytes, self._lock = max_bytes, Lock()
        self._cache: Any = BlockCache(_BLOCK_BYTES, self._fetch, self.size, _MAX_BLOCKS)
        self._position = 0
        self._payload: list[tuple[int, int]] = []

    @property
    def is_mp4(self) -> bool:
        """Whether the places of packets stand apart from their content, so that parts of the file are enough."""
        return self._read(4, 8) in _MP4_BOXES

    @property
    def fetched_bytes(self) -> int:
        """Number of bytes that were fetched."""
        return sum(self._fetched)

    def view(self) -> RemoteFile:
        """Return the same file with a position of its own; blocks are shared."""
        other = copy(self)
        other._position, other._payload = 0, []
        return other

    def skip_payload(self) -> None:
        """Read zeros in place of the content of the packets of an mp4 from now on, which then is not fetched."""
        place = 0
        while place + 8 <= self.size:
            check_time(self.name)
            head = self._read(place, place + 16)
            length, kind = struct.unpack_from(">I4s", head)
            start = place + 8
            if length == 1 and len(head) == 16:
                (length,), start = struct.unpack_from(">Q", head, 8), place + 16
            end = self.size if length == 0 else place + length
            if end < start:  # damaged: the rest is read
                return
            if kind == b"mdat":
                self._payload.append((start, min(end, self.size)))
            place = end

    def read(self, size: int = -1) -> bytes:
        """Return the bytes from the position on.

        Raises:
            SourceError: they cannot be read.
        """
        start = self._position
        end = self._position = self.size if size < 0 else max(start, min(start + size, self.size))
        number = bisect_right(self._payload, (start, self.size)) - 1
        if number >= 0 and end <= self._payload[number][1]:
            return bytes(end - start)
        try:
            return self._read(start, end)
        except Exception as error:
            raise SourceError from error

    def seek(self, offset: int, whence: int = 0) -> int:
        """Set the position."""
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seekable(self) -> bool:
        """Return whether the position can be set."""
        return True

    def download(self, seconds: float) -> Path:
        """Copy the file to a temporary one, which the caller deletes.

        Raises:
            VideoTimeoutError: it takes longer than allowed.
            VideoDecodeError: it is too large.
        """
        self._check_size(self.size)
        limit = time_limit(max(1e-3, min(seconds, seconds_left())))
        with tempfile.NamedTemporaryFile(prefix="kinoclip-", suffix=".video", delete=False) as file, limit:
            try:
                for start in range(0, self.size, 8 * _BLOCK_BYTES):
                    check_time(self.name)
                    with accessing(self.name):
                        file.write(self._fetch(start, min(start + 8 * _BLOCK_BYTES, self.size)))
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        return Path(file.name)

    def _read(self, start: int, end: int) -> bytes:
        with self._lock, accessing(self.name):
            content: bytes = self._cache._fetch(start, end) if start < end else b""
        self._check_size(self.fetched_bytes)
        return content

    def _fetch(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        content: bytes = self._file.read(end - start)
        self._fetched.append(len(content))
        return content

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise VideoDecodeError(f"{self.name}: larger than max_bytes={self._max_bytes}. Pass a larger max_bytes.")
