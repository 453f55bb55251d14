"""Servers that answer a byte at a time, without end, or with more than was asked for."""

from __future__ import annotations

import contextlib
import itertools
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

_OK = b"HTTP/1.1 200 OK\r\n"
_BODY = _OK + b"Content-Length: 100000\r\n\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
_MOVED = b"HTTP/1.1 302 Found\r\nLocation: /next\r\n"
MEGABYTE = bytes(1 << 20)

Answer = Callable[[], Iterator[bytes]]


def _bytes(start: bytes, rest: bytes) -> Answer:
    """Answer with a start at once, and with the rest a byte at a time, again and again."""
    return lambda: itertools.chain([start], (rest[i : i + 1] for _ in itertools.repeat(0) for i in range(len(rest))))


def _pieces(start: bytes, piece: bytes) -> Answer:
    return lambda: itertools.chain([start], itertools.repeat(piece))


# what drips, a piece every few hundredths of a second
DRIPS: dict[str, Answer] = {
    "nothing": lambda: itertools.repeat(b""),
    "the status line": _bytes(b"HTTP/1.1 200 ", b"O"),
    "a header": _bytes(_OK + b"X-Long: ", b"a"),
    "headers": _bytes(_OK, b"X: y\r\n"),
    "informational responses": _pieces(b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    "the body": _bytes(_BODY, b"\0"),
    "a body without a length": _bytes(_OK + b"Connection: close\r\n\r\n", b"\0"),
    "the size of a chunk": _bytes(_CHUNKED, b"0"),
    "an extension of a chunk": _bytes(_CHUNKED + b"5;", b"x"),
    "chunks": _bytes(_CHUNKED, b"1\r\n\0\r\n"),
    "trailers": _bytes(_CHUNKED + b"0\r\n", b"X: y\r\n"),
    "the header of a redirect": _bytes(_MOVED + b"X-Long: ", b"a"),
    "the body of a redirect": _bytes(_MOVED + b"Content-Length: 10\r\n\r\n", b"\0"),
    "a redirect to itself, each a little late": lambda: iter([b""] * 20 + [_MOVED + b"Content-Length: 0\r\n\r\n"]),
}
# what floods, a megabyte at a time
FLOODS: dict[str, Answer] = {
    "the status line": _pieces(b"HTTP/1.1 200 ", MEGABYTE.replace(b"\0", b"a")),
    "a header": _pieces(_OK + b"X-Long: ", MEGABYTE.replace(b"\0", b"a")),
    "headers": _pieces(_OK, b"X: y\r\n" * 100_000),
    "informational responses": _pieces(b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 30_000),
    "the body": _pieces(_OK + b"\r\n", MEGABYTE),
    "the body of a declared size": _pieces(_OK + b"Content-Length: 3000000000\r\n\r\n", MEGABYTE),
    "one chunk": _pieces(_CHUNKED + b"FFFFFFFFFF\r\n", MEGABYTE),
    "tiny chunks": _pieces(_CHUNKED, b"1\r\n\0\r\n" * 100_000),
    "an extension of a chunk": _pieces(_CHUNKED + b"5;", MEGABYTE.replace(b"\0", b"x")),
    "trailers": _pieces(_CHUNKED + b"0\r\n", b"X: y\r\n" * 100_000),
    "the body of a redirect": _pieces(_MOVED + b"Content-Length: 3000000000\r\n\r\n", MEGABYTE),
    "the body of a redirect without a length": _pieces(_MOVED + b"Connection: close\r\n\r\n", MEGABYTE),
    "the body of an error": _pieces(b"HTTP/1.1 404 Not Found\r\nContent-Length: 3000000000\r\n\r\n", MEGABYTE),
}


def random_answer(seed: int) -> Answer:
    """Return pieces of all answers in a random order, each as it is or damaged."""
    draws = random.Random(seed)
    pieces = [_OK, _BODY, _CHUNKED, _MOVED, b"\r\n", b"5\r\nabcde\r\n", b"0\r\n\r\n", b"X: y\r\n", b"HTTP/1.1 "]
    pieces += [b"\0" * 999, draws.randbytes(20), b"Location: http://10.0.0.1/\r\n"]
    pieces += [b"Content-Length: -1\r\n", b"Content-Length: 9\r\n"]
    chosen = [draws.choice(pieces) for _ in range(draws.randint(1, 12))]
    return lambda: iter(chosen)


class Server:
    """Answers every request on 127.0.0.1 with the pieces of an answer.

    Args:
        answer: makes the pieces.
        pause: seconds before each piece but the first.

    Attributes:
        sent: bytes of all answers that were accepted by the network.
    """

    def __init__(self, answer: Answer, pause: float = 0.0):
        self._answer, self._pause, self.sent = answer, pause, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}/video.mp4"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self._listener.accept()[:1], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            for piece in self._answer():
                connection.sendall(piece)
                self.sent += len(piece)
                time.sleep(self._pause)
