"""Fetch a video from the web into a temporary file, within bounds."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import tempfile
import time
from pathlib import Path
from typing import IO, Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from kinoclip.video.errors import VideoDecodeError, VideoRefusedError

MAX_REDIRECTS = 5
_CHUNK_BYTES = 1 << 20


def download(url: str, *, max_bytes: int, timeout_seconds: float, allow_local: bool = False) -> Path:
    """Save what an address serves in a temporary file, which the caller removes.

    Proxies are not used, and the address that is checked is the one that is connected to.

    Args:
        url: http or https; up to 5 redirects to the same are followed.
        max_bytes: of the file.
        timeout_seconds: for the whole.
        allow_local: fetch from this machine or its network too, which a public service must not.

    Raises:
        VideoRefusedError: another scheme, or an address inside the own network.
        VideoDecodeError: it cannot be fetched, takes too long or is too large.
    """
    check_scheme(url)
    with tempfile.NamedTemporaryFile(prefix="kinoclip-", suffix=".video", delete=False) as file:
        path = Path(file.name)
        try:
            _fetch(url, file, max_bytes, timeout_seconds, allow_local)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


def _fetch(url: str, file: IO[bytes], max_bytes: int, timeout_seconds: float, allow_local: bool) -> None:
    deadline = time.monotonic() + timeout_seconds
    request = Request(url, headers={"User-Agent": "kinoclip"})
    try:
        with _opener(allow_local).open(request, timeout=timeout_seconds) as response:
            declared = int(response.headers.get("Content-Length") or 0)
            if declared > max_bytes:
                raise VideoDecodeError(_too_large(url, max_bytes))
            if _copy(response, file, url, max_bytes, deadline) < declared:
                raise VideoDecodeError(f"{url}: the connection broke off. Try again, or download it yourself.")
    except VideoDecodeError:
        raise
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        cause = getattr(error, "reason", None)
        if isinstance(cause, VideoDecodeError):
            raise cause from error
        reason = " ".join(str(cause if isinstance(cause, Exception) else error).split())
        raise VideoDecodeError(
            f"{url}: cannot be downloaded ({reason}). Check the address, or download it yourself."
        ) from error


def check_scheme(url: str) -> None:
    """Refuse every address but http and https with a host.

    Raises:
        VideoRefusedError: any other.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise VideoRefusedError(
            f"{url}: only http and https addresses are fetched. Download it yourself, give the file."
        )


def _copy(response: IO[bytes], file: IO[bytes], url: str, max_bytes: int, deadline: float) -> int:
    size = 0
    while chunk := response.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > max_bytes:
            raise VideoDecodeError(_too_large(url, max_bytes))
        if time.monotonic() > deadline:
            raise VideoDecodeError(
                f"{url}: the download takes too long. Pass a larger timeout_seconds, or download it yourself."
            )
        file.write(chunk)
    return size


def _too_large(url: str, max_bytes: int) -> str:
    return f"{url}: larger than max_bytes={max_bytes}. Pass a larger max_bytes, or download it yourself."


def _opener(allow_local: bool) -> OpenerDirector:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            _check_host(self.host, self.port, allow_local)
            super().connect()
            _check_peer(self, allow_local)

    class SecureConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            _check_host(self.host, self.port, allow_local)
            super().connect()
            _check_peer(self, allow_local)

    class PlainHandler(HTTPHandler):
        def http_open(self, req: Request) -> http.client.HTTPResponse:
            return self.do_open(Connection, req)

    class SecureHandler(HTTPSHandler):
        def https_open(self, req: Request) -> http.client.HTTPResponse:
            return self.do_open(SecureConnection, req)

    return build_opener(ProxyHandler({}), PlainHandler, SecureHandler, _Redirects)


class _Redirects(HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS
    max_repeats = MAX_REDIRECTS

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_host(host: str, port: int, allow_local: bool) -> None:
    """Refuse, before anything is sent, a name that leads into the own network."""
    if allow_local:
        return
    for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        _check_address(host, str(address[0]))


def _check_peer(connection: http.client.HTTPConnection, allow_local: bool) -> None:
    """Check again whom we are really connected to: a name can answer differently the second time."""
    if not allow_local:
        try:
            _check_address(connection.host, str(connection.sock.getpeername()[0]))
        except VideoRefusedError:
            connection.close()
            raise


def _check_address(host: str, address: str) -> None:
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        ip = ip.ipv4_mapped or ip
    if not ip.is_global or ip.is_multicast:
        raise VideoRefusedError(
            f"{host}: leads to {address}, inside this network. Pass allow_local=True if you mean it."
        )
