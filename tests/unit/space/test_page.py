"""Videos that programs and agents name by their address."""

import asyncio
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import pytest

gradio = pytest.importorskip("gradio", reason="pip install 'kinoclip[demo]'")

from kinoclip.space.limits import Limits, check_video  # noqa: E402
from kinoclip.space.page import limit_downloads  # noqa: E402
from kinoclip.video.download import download  # noqa: E402


@pytest.fixture
def address(video_path):
    """The address of a video on this machine."""
    handler = partial(SimpleHTTPRequestHandler, directory=video_path.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{video_path.name}"
        server.shutdown()


@pytest.fixture
def fetch(monkeypatch, tmp_path):
    """Fetch an address as the page does, local ones too."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("kinoclip.space.page.download", partial(download, allow_local=True))
    return lambda url, **limits: asyncio.run(
        limit_downloads(gradio.Video(), Limits(**limits)).async_move_resource_to_block_cache(url)
    )


def test_an_address_is_downloaded_to_the_cache_and_nowhere_else(address, fetch, video_path, tmp_path):
    assert Path(fetch(address)).read_bytes() == video_path.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_download_that_is_too_large_ends_and_leaves_nothing(address, fetch, tmp_path):
    with pytest.raises(gradio.Error) as caught:
        fetch(address, megabytes=0)
    assert caught.value.message == f"{address}: larger than max_bytes=0."
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_address_with_the_credentials_of_the_server_is_not_opened(fetch, video_path):
    fsspec.filesystem("memory").pipe_file("/clip.mp4", video_path.read_bytes())
    assert fetch("memory://clip.mp4") == str(Path("memory:/clip.mp4").absolute())  # Gradio takes it for a missing file
    with pytest.raises(FileNotFoundError):
        check_video("memory://clip.mp4", Limits())
