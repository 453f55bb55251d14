"""What is no video, or would open something else, is refused by its content and not by its name."""

import gzip
import json
import pickle
import tarfile
import zipfile
from io import BytesIO

import numpy as np
import pytest
from chaos.mutations import repeat_track
from PIL import Image

from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError


def image(kind: str, **arguments) -> bytes:
    out = BytesIO()
    Image.new("RGB", (64, 64), "red").save(out, kind, **arguments)
    return out.getvalue()


def archive(kind: str) -> bytes:
    out = BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w") as file:
            file.writestr("a.mp4", b"x" * 100)
    else:
        with tarfile.open(fileobj=out, mode="w") as file:
            file.addfile(tarfile.TarInfo("a.mp4"))
    return out.getvalue()


def array() -> bytes:
    out = BytesIO()
    np.save(out, np.zeros(3))
    return out.getvalue()


NO_VIDEOS = {
    "HLS playlist": b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n",
    "HLS playlist after a byte order mark": b"\xef\xbb\xbf#EXTM3U\nhttp://127.0.0.1/x.ts\n",
    "ffconcat script": b"ffconcat version 1.0\nfile '/etc/hostname'\n",
    "concat list without a header": b"file '/etc/hostname'\nfile 'b.mp4'\n",
    "SDP": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "DASH manifest": b'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>',
    "HTML": b"<!DOCTYPE html><html>404</html>",
    "JSON": json.dumps({"url": "x.mp4"}).encode(),
    "text": ("some words\n" * 500).encode(),
    "text of another language": "видео\n".encode() * 400,
    "UTF-16 text": "hello".encode("utf-16"),
    "subtitles": b"1\n00:00:01,000 --> 00:00:02,000\nhello\n",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "PNG": image("PNG"),
    "JPEG": image("JPEG"),
    "BMP": image("BMP"),
    "TIFF": image("TIFF"),
    "WebP": image("WEBP"),
    "animated WebP": image("WEBP", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
    "PPM": image("PPM"),
    "ICO": image("ICO"),
    "AVIF": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1",
    "zip": archive("zip"),
    "tar": archive("tar"),
    "gzip": gzip.compress(b"x" * 100),
    "7z": b"7z\xbc\xaf\x27\x1c\0\4",
    "xz": b"\xfd7zXZ\0\0\4",
    "rar": b"Rar!\x1a\x07\x01\0",
    "pickle": pickle.dumps({"a": [1]}),
    "numpy": array(),
    "safetensors": b'\x10\0\0\0\0\0\0\0{"a":{}}',
    "PDF": b"%PDF-1.7\n%\xe2\xe3",
}


@pytest.mark.parametrize("kind", NO_VIDEOS)
@pytest.mark.parametrize("wrap", ["file named .mp4", "bytes", "file object"])
def test_what_is_no_video_is_refused_whatever_it_is_called(tmp_path, kind, wrap):
    path = tmp_path / "x.mp4"
    path.write_bytes(NO_VIDEOS[kind])
    source = {"file named .mp4": path, "bytes": NO_VIDEOS[kind], "file object": BytesIO(NO_VIDEOS[kind])}[wrap]
    with pytest.raises(VideoRefusedError, match="not a video"):
        VideoReader(source)


@pytest.fixture
def without_first_look(monkeypatch):
    """Let everything through to FFmpeg, to see that it refuses by itself."""
    monkeypatch.setattr("kinoclip.video._session.check_head", lambda head, name: None)


@pytest.fixture
def scripts(h264):
    """Scripts that FFmpeg would follow to a video."""
    return {
        "concat": f"ffconcat version 1.0\nfile '{h264.name}'\n",
        "concat absolute": f"ffconcat version 1.0\nfile '{h264}'\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{h264}\n#EXT-X-ENDLIST\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    }


@pytest.mark.parametrize("kind", ["concat", "concat absolute", "hls", "sdp"])
@pytest.mark.parametrize("wrap", ["file", "bytes"])
def test_ffmpeg_itself_follows_no_script(scripts, h264, without_first_look, kind, wrap):
    path = h264.parent / "script.mp4"
    path.write_text(scripts[kind])
    with pytest.raises(VideoDecodeError, match="FFmpeg cannot open it as a video"):
        VideoReader(path if wrap == "file" else path.read_bytes())


def test_a_video_in_memory_can_open_nothing_else(scripts, monkeypatch, without_first_look):
    monkeypatch.setattr("kinoclip.video._session.VIDEO_FORMATS", "concat,hls,mov,matroska")
    with pytest.raises(VideoDecodeError):
        VideoReader(scripts["concat absolute"].encode())


def test_an_empty_file_says_so():
    with pytest.raises(VideoDecodeError, match="the file is empty"):
        VideoReader(b"")


def test_a_git_lfs_pointer_says_how_to_fetch_the_video():
    with pytest.raises(VideoDecodeError, match="git lfs pull"):
        VideoReader(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")


@pytest.mark.parametrize("size", [1, 12, 100, 5000])
def test_noise_is_an_error_of_one_line(size):
    noise = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    with pytest.raises(VideoDecodeError) as caught:
        VideoReader(b"\0\1" + noise)
    assert "\n" not in str(caught.value)


def test_sound_without_a_video_says_so(tmp_path):
    import av

    with av.open(str(tmp_path / "x.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoDecodeError, match="no video stream, only sound"):
        VideoReader(tmp_path / "x.mp4")


def test_a_file_of_more_than_100_streams_is_told_so(h264):
    whole = h264.read_bytes()
    assert VideoReader(repeat_track(whole, 100)).num_frames == 50
    with pytest.raises(VideoDecodeError, match="more than 100 streams, or too little memory"):
        VideoReader(repeat_track(whole, 101))
