"""Videos from the web: bounded, and not from inside the network unless asked; `chaos/test_downloads.py` has hostile servers."""

import tempfile
import threading
import time
from pathlib import Path

import httpcore
import pytest
from chaos.dripping import DRIPS, FLOODS, Server
from local_server import send, serve

from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError, VideoTimeoutError, time_limit
from kinoclip.video.download import _check_address, download


@pytest.fixture
def server(h264):
    """A server of one video, with detours; `server.seen` lists the paths it was asked for."""
    content = h264.read_bytes()
    moves = {
        "/moved": "/video.mp4",
        "/loop": "/loop",
        "/to-file": "file:///etc/hostname",
        "/to-ftp": "ftp://127.0.0.1/x",
        "/to-private": "http://10.0.0.1/x.mp4",
    }
    others = {
        "/cut": (content[:100], len(content)),
        "/endless": (content * 40, None),
        "/page": (b"<html>no</html>", 15),
    }

    def answer(handler):
        handler.server.seen.append(handler.path)
        if handler.path in moves:
            handler.send_response(302)
            handler.send_header("Location", moves[handler.path])
            handler.end_headers()
        elif handler.path == "/missing":
            handler.send_error(404)
        else:
            send(handler, *others.get(handler.path, (content, len(content))))

    with serve(answer) as server:
        server.seen = []
        yield server


@pytest.fixture
def address(server):
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(autouse=True)
def downloads(tmp_path, monkeypatch):
    """Where temporary files go in this test; nothing may be left there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield lambda: list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["/video.mp4", "/moved", "/video.mp4?x=1#y"])
def test_a_video_is_read_from_the_web_and_not_left_behind(address, path, downloads, read_numbers):
    with VideoReader(address + path, allow_local=True) as reader:
        assert read_numbers(reader.frames([11])) == [11]
        assert reader.name == address + path
        assert len(downloads()) == 1


def test_a_forgotten_reader_removes_its_download(address, downloads):
    reader = VideoReader(address + "/video.mp4", allow_local=True)
    del reader
    assert not downloads()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "127.1"])
def test_this_machine_is_refused_before_anything_is_sent(server, host):
    with pytest.raises(VideoRefusedError, match="Pass allow_local=True"):
        VideoReader(f"http://{host}:{server.server_port}/video.mp4")
    assert server.seen == []


INSIDE = {
    "IPv4": "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 127.0.0.1 127.255.0.1 0.0.0.0 0.1.2.3",
    "link-local": "169.254.169.254 169.254.0.1 fe80::1%eth0 fe80::1 febf::1",
    "shared": "100.64.0.1 100.100.100.200 100.127.255.255",
    "special": "192.0.0.1 192.0.0.192 192.0.2.1 192.88.99.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.9",
    "multicast and reserved": "224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 ff02::1",
    "cloud": "168.63.129.16 fd00:ec2::254 fd20:ce::254",
    "IPv6": "::1 :: fc00::1 fdff::1 fec0::1 feff::1 100::1 2001:db8::1 3fff::1 5f00::1 2001:2::1 2001:10::1 2001:20::1",
    "IPv4 mapped and compatible": "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 ::ffff:0:127.0.0.1",
    "NAT64": "64:ff9b::7f00:1 64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::8.8.8.8 64:ff9b::168.63.129.16",
    "6to4": "2002:7f00:1:: 2002:a00:1::1 2002:a9fe:a9fe::1 2002:c0a8:101::",
    # a client of 192.168.1.1 behind 8.8.8.8, and one of 8.8.8.8 behind 127.0.0.1; the client is inverted
    "Teredo": "2001:0:808:808::3f57:fefe 2001:0:7f00:1::f7f7:f7f7",
}
OUTSIDE = {
    "IPv4": "93.184.215.14 8.8.8.8 1.1.1.1 172.32.0.1 100.128.0.1 169.253.0.1 192.0.1.1 168.63.129.17 223.255.255.255",
    "IPv6": "2606:2800:21f:cb07:6820:80da:af6b:8b2c 2001:4860:4860::8888 2001:200::1 2a00:1450::1",
    "IPv4 in IPv6": "::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1 2001:0:808:808::f7f7:f7f7",
}


def each(groups):
    return [address for group in groups.values() for address in group.split()]


@pytest.mark.parametrize("inside", each(INSIDE))
def test_addresses_inside_a_network_are_refused(inside):
    with pytest.raises(VideoRefusedError, match="in the local network"):
        _check_address("host", inside)


@pytest.mark.parametrize("outside", each(OUTSIDE))
def test_addresses_of_the_internet_are_not_refused(outside):
    _check_address("host", outside)


@pytest.fixture
def names(monkeypatch):
    """What the host names of a test resolve to; no name resolves to anything else."""
    found: dict[str, list[str]] = {}
    monkeypatch.setattr("kinoclip.video.download._resolve", lambda host, port, seconds: found[host])
    return found


@pytest.fixture
def connected(monkeypatch, server):
    """Connect to the server instead of any address; the addresses that were wanted."""
    connect, wanted = httpcore.SyncBackend.connect_tcp, []

    def reach(backend, host, port, timeout, **options):
        wanted.append(host)
        return connect(backend, "127.0.0.1", server.server_port, timeout, **options)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", reach)
    return wanted


def test_a_name_with_one_address_inside_is_not_connected_to(names, connected, server):
    names["host"] = ["8.8.8.8", "10.0.0.1"]
    with pytest.raises(VideoRefusedError, match=r"host: resolves to 10\.0\.0\.1"):
        VideoReader("http://host/video.mp4")
    assert connected == server.seen == []


def test_the_address_that_was_checked_is_connected_to_and_checked_again(names, connected, server):
    names["host"] = ["8.8.8.8"]
    with pytest.raises(VideoRefusedError, match=r"resolves to 127\.0\.0\.1"):
        VideoReader("http://host/video.mp4")
    assert connected == ["8.8.8.8"]
    assert server.seen == []


def test_the_next_address_of_a_host_is_tried(names, h264, server, monkeypatch):
    names["host"] = ["203.0.113.1", "127.0.0.1"]
    connect = httpcore.SyncBackend.connect_tcp

    def reach(backend, host, port, timeout, **options):
        if host != "127.0.0.1":
            raise httpcore.ConnectTimeout("timed out")
        return connect(backend, host, server.server_port, timeout, **options)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", reach)
    with VideoReader("http://host/video.mp4", allow_local=True) as reader:
        assert reader.num_frames == 50


def test_a_redirect_into_the_network_is_refused(names, connected, server, monkeypatch):
    names |= {"host": ["8.8.8.8"], "10.0.0.1": ["10.0.0.1"]}
    peer = {"server_addr": ("8.8.8.8", 80)}
    monkeypatch.setattr("httpcore._backends.sync.SyncStream.get_extra_info", lambda stream, info: peer.get(info))
    with pytest.raises(VideoRefusedError, match=r"10\.0\.0\.1"):
        VideoReader("http://host/to-private")
    assert server.seen == ["/to-private"]
    assert connected == ["8.8.8.8"]


@pytest.mark.parametrize("path", ["/to-file", "/to-ftp"])
def test_a_redirect_away_from_http_is_refused(address, path):
    with pytest.raises(VideoDecodeError, match="must be http or https"):
        VideoReader(address + path, allow_local=True)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/loop", "more than 5 redirects"),
        ("/missing", "the server answered 404 Not Found"),
        ("/cut", "the connection broke off"),
    ],
)
def test_what_cannot_be_fetched_is_a_decode_error_that_says_why(address, path, message):
    with pytest.raises(VideoDecodeError, match=message):
        VideoReader(address + path, allow_local=True)


@pytest.mark.parametrize("path", ["/video.mp4", "/endless"])
def test_a_download_stops_at_its_size_limit(address, path):
    with pytest.raises(VideoDecodeError, match="larger than max_bytes=2000"):
        VideoReader(address + path, allow_local=True, max_bytes=2000)


def test_a_download_stops_at_its_time_limit(address):
    with pytest.raises(VideoDecodeError, match=r"takes too long|timed out"):
        download(address + "/video.mp4", max_bytes=10**6, timeout_seconds=1e-6, allow_local=True)


def test_a_time_limit_around_the_reader_holds_for_its_download():
    begin = time.monotonic()
    with Server(DRIPS["the body"], 0.02) as server, pytest.raises(VideoTimeoutError), time_limit(0.2):
        VideoReader(server.address, allow_local=True)
    assert time.monotonic() - begin < 1.2


def test_a_resolver_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **options: time.sleep(3))
    begin = time.monotonic()
    with pytest.raises(VideoDecodeError, match="takes too long"):
        download("http://host/a.mp4", max_bytes=10**6, timeout_seconds=0.2)
    assert time.monotonic() - begin < 1.2


def test_the_body_of_a_redirect_is_not_read():
    with Server(FLOODS["the body of a redirect"]) as server:
        with pytest.raises(VideoDecodeError, match="more than 5 redirects"):
            download(server.address, max_bytes=1000, timeout_seconds=60, allow_local=True)
        # of the six answers of 3 GB, no more than the buffers of the network take
        assert server.sent < 30_000_000


def test_a_page_instead_of_a_video_is_refused_under_its_address(address):
    with pytest.raises(VideoRefusedError, match=f"{address}/page: this is an HTML page"):
        VideoReader(address + "/page", allow_local=True)


def test_a_host_that_does_not_exist_is_a_decode_error():
    with pytest.raises(VideoDecodeError, match="cannot be downloaded"):
        VideoReader("http://does-not-exist.invalid/x.mp4")


@pytest.mark.parametrize("url", ["http://", "http:///x.mp4", "https://:80/"])
def test_an_address_without_a_host_is_refused(url):
    with pytest.raises(VideoRefusedError, match="must be http or https"):
        VideoReader(url)


def test_a_server_that_closes_at_once_is_a_decode_error():
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
    with pytest.raises(VideoDecodeError, match="cannot be downloaded"):
        VideoReader(f"http://127.0.0.1:{listener.getsockname()[1]}/x.mp4", allow_local=True)
    listener.close()


def test_the_temporary_file_lies_where_python_puts_them(address, downloads):
    path = download(address + "/video.mp4", max_bytes=10**6, timeout_seconds=60, allow_local=True)
    assert Path(path) in downloads()
    path.unlink()
