"""Videos at addresses: what is read of them, and errors of the store."""

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError, _remote, time_limit
from kinoclip.video._remote import RemoteFile


@pytest.fixture
def put(monkeypatch):
    """A function that puts a file into memory and returns its address; blocks are small."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(_remote, "_BLOCK_BYTES", 4096)

    def put(path):
        fsspec.filesystem("memory").pipe_file(f"/videos/{path.name}", path.read_bytes())
        return f"memory://videos/{path.name}"

    return put


VIDEOS = {
    "h264.mp4": {},
    "fast.mp4": {"container_options": {"movflags": "faststart"}},
    "fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "vp9.mp4": {"codec": "libvpx-vp9"},
    "refreshed.mp4": {"options": {"x264-params": "intra-refresh=1"}},
    "intra.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "matroska.mkv": {},
    "old.avi": {"codec": "mpeg4"},
}


@pytest.mark.parametrize("name", VIDEOS)
def test_frames_times_and_costs_are_those_of_the_local_file(name, put, make_video, each_way):
    path = make_video(name, range(50), **VIDEOS[name])
    with VideoReader(path) as local, VideoReader(put(path)) as remote:
        assert remote.num_frames == local.num_frames == 50
        assert torch.equal(remote.frames([0, 7, 31, 49]), local.frames([0, 7, 31, 49]))
        assert remote.timestamps([31]) == local.timestamps([31])
        assert remote.decoding_costs() == local.decoding_costs()


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}], ids=["moov last", "moov first"])
def test_a_few_frames_of_a_long_mp4_need_a_small_part_of_it(options, put, make_video):
    drawn = {"codec": "prores_ks", "pix_fmt": "yuv422p10le", "size": (448, 256)}
    path = make_video("long.mov", range(60), **drawn, container_options=options)
    size = path.stat().st_size
    assert size > 300_000
    with VideoReader(put(path)) as reader:
        reader.frames([5, 30, 55])
        assert reader._clip._session.media.file.fetched_bytes < 0.2 * size


def test_other_containers_are_copied_and_the_copy_is_deleted(put, make_video, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with VideoReader(put(make_video("a.mkv", range(5)))) as reader:
        assert reader.num_frames == 5
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_an_error_with_its_address(put):
    with pytest.raises(FileNotFoundError, match=r"^memory://videos/none.mp4: the file does not exist"):
        VideoReader("memory://videos/none.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_more_than_max_bytes_is_not_read(name, put, make_video):
    with pytest.raises(VideoDecodeError, match="larger than max_bytes=1000"):
        VideoReader(put(make_video(name, range(50))), max_bytes=1000)


def test_a_playlist_is_refused(put, tmp_path):
    (tmp_path / "a.mp4").write_text("#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n")
    with pytest.raises(VideoRefusedError, match="HLS playlist"):
        VideoReader(put(tmp_path / "a.mp4"))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_time_that_is_over_ends_the_reading(name, put, make_video, monkeypatch):
    address = put(make_video(name, range(50)))
    with pytest.raises(VideoDecodeError, match="takes longer than"), time_limit(1e-6):
        VideoReader(address)


@pytest.mark.parametrize("error", [ConnectionError("reset by peer"), KeyError("odd")])
@pytest.mark.parametrize("requests", range(5))
def test_a_store_that_fails_is_an_error_and_no_damage_of_the_video(requests, error, put, make_video, monkeypatch):
    fetch, left = RemoteFile._fetch, [requests]

    def fail(self, start, end):
        left[0] -= 1
        if left[0] < 0:
            raise error
        return fetch(self, start, end)

    address = put(make_video("long.mov", range(100), codec="mjpeg", pix_fmt="yuvj420p"))
    monkeypatch.setattr(RemoteFile, "_fetch", fail)
    with (
        pytest.raises(OSError, match=r"^memory://videos/long.mov: it cannot be accessed"),
        VideoReader(address) as reader,
    ):
        reader.frames([10, 50, 90])
