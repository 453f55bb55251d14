"""Videos from the web: bounded, and not from inside the network unless asked."""

import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError
from kinoclip.video.download import _check_address, download


@pytest.fixture
def server(h264):
    """A server of one video, with detours; `server.seen` lists the paths it was asked for."""
    content = h264.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.seen.append(self.path)
            moves = {
                "/moved": "/video.mp4",
                "/loop": "/loop",
                "/to-file": "file:///etc/hostname",
                "/to-ftp": "ftp://127.0.0.1/x",
                "/to-private": "http://10.0.0.1/x.mp4",
            }
            if self.path in moves:
                self.send_response(302)
                self.send_header("Location", moves[self.path])
                self.end_headers()
            elif self.path == "/missing":
                self.send_error(404)
            elif self.path == "/cut":
                self.answer(content[:100], length=len(content))
            elif self.path == "/endless":
                self.answer(content * 40, length=None)
            elif self.path == "/page":
                self.answer(b"<html>no</html>", length=15)
            else:
                self.answer(content, length=len(content))

        def answer(self, body, length):
            self.send_response(200)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def address(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


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
        VideoReader(f"http://{host}:{server.server_address[1]}/video.mp4")
    assert server.seen == []


@pytest.mark.parametrize(
    "inside",
    [
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "0.0.0.0"),
        *("::1", "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "::"),
    ],
)
def test_addresses_inside_a_network_are_refused(inside):
    with pytest.raises(VideoRefusedError):
        _check_address("host", inside)


@pytest.mark.parametrize("outside", ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"])
def test_addresses_of_the_internet_are_not_refused(outside):
    _check_address("host", outside)


def test_a_name_that_answers_differently_the_second_time_is_refused_when_connected(server, monkeypatch):
    monkeypatch.setattr("kinoclip.video.download._check_host", lambda host, port, allow_local: None)
    with pytest.raises(VideoRefusedError, match=r"leads to 127\.0\.0\.1"):
        VideoReader(f"http://127.0.0.1:{server.server_address[1]}/video.mp4")
    assert server.seen == []


@pytest.mark.parametrize("path", ["/to-file", "/to-ftp"])
def test_a_redirect_away_from_http_is_refused(address, path):
    with pytest.raises(VideoDecodeError, match=r"only http and https|is not allowed"):
        VideoReader(address + path, allow_local=True)


def test_a_redirect_into_the_network_is_refused(address, monkeypatch):
    monkeypatch.setattr("kinoclip.video.download._check_peer", lambda connection, allow_local: None)
    seen = []

    def check(host, port, allow_local):
        seen.append(host)
        if host != "127.0.0.1":
            _check_address(host, host)

    monkeypatch.setattr("kinoclip.video.download._check_host", check)
    with pytest.raises(VideoRefusedError, match=r"10\.0\.0\.1"):
        VideoReader(address + "/to-private")
    assert seen == ["127.0.0.1", "10.0.0.1"]


@pytest.mark.parametrize(
    ("path", "message"),
    [("/loop", "infinite loop"), ("/missing", "HTTP Error 404: Not Found"), ("/cut", "the connection broke off")],
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


def test_a_page_instead_of_a_video_is_refused_under_its_address(address):
    with pytest.raises(VideoRefusedError, match=f"{address}/page: this is an HTML page"):
        VideoReader(address + "/page", allow_local=True)


def test_a_host_that_does_not_exist_is_a_decode_error():
    with pytest.raises(VideoDecodeError, match="cannot be downloaded"):
        VideoReader("http://does-not-exist.invalid/x.mp4")


@pytest.mark.parametrize("url", ["http://", "http:///x.mp4", "https://:80/"])
def test_an_address_without_a_host_is_refused(url):
    with pytest.raises(VideoRefusedError, match="only http and https"):
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
