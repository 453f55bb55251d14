"""Download of a video into a temporary file, with limits of size, time and addresses.

An HTTP client's own timeouts hold for one operation each, so a server that sends a byte now and then is never too slow for them. Here
the connection itself has the limits: `_Stream` waits for each receive as long as the whole download still may, and counts its bytes.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO, Any

import httpcore
import httpx

from kinoclip.video.errors import VideoDecodeError, VideoRefusedError, decoding
from kinoclip.video.limits import check_time, seconds_left

MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS: dict[str | bytes, str | bytes] = {
    "User-Agent": "kinoclip",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Connection": "close",
}
# of all responses beyond the video: headers, and the sizes of chunks
_OVERHEAD_BYTES = 1 << 20

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
# Networks without hosts of the public internet: IANA's special-purpose registries (RFC 6890), multicast, and Azure's own services.
_SPECIAL_NETWORKS = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 "
    "192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/4 240.0.0.0/4 168.63.129.16/32 2001::/23 2001:db8::/32 3fff::/20"
)
_SPECIAL = tuple(map(ipaddress.ip_network, _SPECIAL_NETWORKS.split()))
# All other IPv6 networks are special: loopback, link-local, site-local, unique local, multicast, discard.
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
# IPv4 addresses as a network that has only IPv6 writes them (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def download(url: str, *, max_bytes: int, timeout_seconds: float, allow_local: bool = False) -> Path:
    """Download an address into a temporary file, which the caller deletes.

    Proxies are not used, and the connected address is checked. A `time_limit` holds too.

    Args:
        url: http or https; up to 5 redirects are followed.
        max_bytes: of the file.
        timeout_seconds: in total.
        allow_local: allow this machine and its network, which a public service must not.

    Raises:
        VideoRefusedError: another scheme, or an address in the local network.
        VideoDecodeError: the download fails, takes too long or is too large.
    """
    limits = _Limits(url, max_bytes, time.monotonic() + timeout_seconds, allow_local)
    with tempfile.NamedTemporaryFile(prefix="kinoclip-", suffix=".video", delete=False) as file:
        path = Path(file.name)
        try:
            with decoding(url, "cannot be downloaded", "Check the address, or download it yourself."):
                _fetch(url, file, limits)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


@dataclass
class _Limits:
    """What is left of the time and bytes of a download, over all its connections."""

    url: str
    max_bytes: int
    deadline: float
    allow_local: bool

    def __post_init__(self) -> None:
        self._bytes_left = self.max_bytes + self.max_bytes // 8 + _OVERHEAD_BYTES

    def seconds(self) -> float:
        """Return the seconds that are left."""
        check_time(self.url)
        left = min(self.deadline - time.monotonic(), seconds_left())
        if left <= 0:
            raise VideoDecodeError(
                f"{self.url}: the download takes too long. Pass a larger timeout_seconds, or download it yourself."
            )
        return left

    def count(self, received: int) -> None:
        """Count received bytes of any kind."""
        self._bytes_left -= received
        self.check_size(0 if self._bytes_left >= 0 else self.max_bytes + 1)

    def check_size(self, size: int) -> None:
        """Check the size of the video."""
        if size > self.max_bytes:
            raise VideoDecodeError(
                f"{self.url}: larger than max_bytes={self.max_bytes}. Pass a larger max_bytes, or download it yourself."
            )


def _fetch(url: str, file: IO[bytes], limits: _Limits) -> None:
    address = httpx.URL(url)
    for _ in range(MAX_REDIRECTS + 1):
        if address.scheme not in ("http", "https") or not address.host:
            raise VideoRefusedError(
                f"{url}: the address must be http or https. Download the file yourself and pass its path."
            )
        try:
            location = _request(address, file, limits)
        except (TimeoutError, httpcore.TimeoutException):
            limits.seconds()  # raises the error of the limit that is over
            raise
        if location is None:
            return
        address = address.join(location)
    raise VideoDecodeError(f"{url}: more than {MAX_REDIRECTS} redirects. Check the address, or download it yourself.")


def _request(address: httpx.URL, file: IO[bytes], limits: _Limits) -> str | None:
    """Write the body of a response to a file, or return where a redirect leads; its body is not read."""
    url = httpcore.URL(scheme=address.raw_scheme, host=address.raw_host, port=address.port, target=address.raw_path)
    tls = ssl.create_default_context() if address.scheme == "https" else None
    connection = httpcore.HTTPConnection(url.origin, tls, network_backend=_Backend(limits))
    with connection, connection.stream("GET", url, headers=_HEADERS) as response:
        headers = {name.lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in _REDIRECTS and b"location" in headers:
            return headers[b"location"]
        if not 200 <= response.status < 300:
            reason = response.extensions["reason_phrase"].decode("latin-1")
            raise ValueError(f"the server answered {response.status} {reason}".rstrip())
        limits.check_size(int(headers.get(b"content-length", "0")))
        size = 0
        try:
            for chunk in response.iter_stream():
                size += len(chunk)
                limits.check_size(size)
                file.write(chunk)
        except httpcore.RemoteProtocolError as error:
            raise ValueError(f"the connection broke off: {error}") from error
    return None


class _Backend(httpcore.NetworkBackend):
    """Connects to checked addresses only."""

    def __init__(self, limits: _Limits):
        self._limits = limits

    def connect_tcp(self, host: str, port: int, *_: Any, **options: Any) -> httpcore.NetworkStream:
        """Look a host up, check all its addresses, and connect to one of them, which is checked again."""
        addresses = _resolve(host, port, self._limits.seconds())
        for address in addresses if not self._limits.allow_local else ():
            _check_address(host, address)
        stream = self._connect(addresses, port, options.get("socket_options"))
        try:
            peer = stream.get_extra_info("server_addr")[0]
            if not self._limits.allow_local:
                _check_address(host, peer)
        except BaseException:
            stream.close()
            raise
        return _Stream(stream, self._limits)

    def _connect(self, addresses: list[str], port: int, options: Iterable[Any] | None) -> httpcore.NetworkStream:
        for number, address in enumerate(addresses, 1):
            share = self._limits.seconds() / (len(addresses) - number + 1)
            try:
                return httpcore.SyncBackend().connect_tcp(address, port, share, socket_options=options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses):
                    raise
        raise ValueError("the host has no address")


class _Stream(httpcore.NetworkStream):
    """A connection whose operations share the limits of a download, instead of having a timeout each."""

    def __init__(self, stream: httpcore.NetworkStream, limits: _Limits):
        self._stream, self._limits = stream, limits

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._limits.seconds())
        self._limits.count(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._limits.seconds())

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, self._limits.seconds()), self._limits)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def _resolve(host: str, port: int, seconds: float) -> list[str]:
    """Look up the addresses of a host, in a thread, because the system's resolver has no timeout."""
    found: Future[list[str]] = Future()

    def look_up() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.set_result(list(dict.fromkeys(str(address[0]) for *_, address in entries)))
        except Exception as error:
            found.set_exception(error)

    Thread(target=look_up, name="kinoclip-resolve", daemon=True).start()
    return found.result(seconds)


def _check_address(host: str, address: str) -> None:
    if not _is_public(ipaddress.ip_address(address.partition("%")[0])):
        raise VideoRefusedError(
            f"{host}: resolves to {address} in the local network. Pass allow_local=True to allow it."
        )


def _is_public(ip: IPAddress) -> bool:
    """Check an address, or the IPv4 addresses that an IPv6 address carries, against the special networks."""
    if isinstance(ip, ipaddress.IPv6Address):
        carried = _carried_ipv4(ip)
        if carried:
            return all(map(_is_public, carried))
        if ip not in _PUBLIC_IPV6:
            return False
    return not any(ip in network for network in _SPECIAL)


def _carried_ipv4(ip: ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...]:
    if ip in _NAT64:
        return (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF),)
    if ip.teredo is not None:  # the server, and the client behind it
        return ip.teredo
    carried = ip.ipv4_mapped or ip.sixtofour
    return () if carried is None else (carried,)
