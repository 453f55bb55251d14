"""Sources that are read as they come."""

import io
import os
import threading
import time
from contextlib import ExitStack
from fractions import Fraction

import av
import local_server
import numpy as np
import pytest
from local_server import send

from kinoclip.video import VideoDecodeError, VideoRefusedError
from kinoclip.video.live import LiveReader

FPS = 8


def stream(seconds, container="mpegts", first=0, tune="zerolatency"):
    """A stream whose frame i is as gray as 4 * (first + i)."""
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format=container) as out:
        video = out.add_stream("libx264", rate=Fraction(FPS), options={"g": "4", "crf": "10", "tune": tune})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for i in range(first, first + seconds * FPS):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * i, np.uint8), format="rgb24")))
        out.mux(video.encode(None))
    return buffer.getvalue()


def numbers(frames):
    """The frames that these pictures are of."""
    return [round(float(picture.mean()) / 4) for _, picture in frames]


@pytest.fixture
def pipe():
    """Feed a pipe from a thread: whole, or in parts with a wait after each."""
    threads = []

    def feed(*parts, wait=0.0):
        reading, writing = os.pipe()

        def write():
            with open(writing, "wb", buffering=0) as end:  # noqa: PTH123, a file descriptor
                for part in parts:
                    try:
                        end.write(part)
                    except BrokenPipeError:
                        return
                    time.sleep(wait)

        threads.append(threading.Thread(target=write))
        threads[-1].start()
        return open(reading, "rb")  # noqa: PTH123

    yield feed
    for thread in threads:
        thread.join(timeout=10)


@pytest.fixture
def serve():
    """Serve bodies over HTTP, one a connection, and nothing after the last."""
    with ExitStack() as servers:

        def start(*bodies, length=False):
            waiting = list(bodies)

            def answer(handler):
                if waiting:
                    body = waiting.pop(0)
                    send(handler, body, len(body) if length else None)
                else:
                    handler.send_error(503)

            return f"http://127.0.0.1:{servers.enter_context(local_server.serve(answer)).server_port}/live"

        yield start


def test_a_pipe_gives_even_looks_with_their_times(pipe):
    with LiveReader(pipe(stream(3)), frames_per_second=4, drop=False) as reader:
        frames = list(reader)
    assert numbers(frames) == list(range(0, 3 * FPS, 2))
    assert [seconds for seconds, _ in frames] == pytest.approx([frames[0][0] + i / 4 for i in range(12)], abs=0.01)
    assert reader.dropped == 0


def test_who_is_too_slow_loses_the_oldest_and_gets_the_newest(pipe):
    with LiveReader(pipe(stream(6)), frames_per_second=FPS, ring=3) as reader:
        time.sleep(1.5)
        frames = list(reader)
    assert numbers(frames) == [45, 46, 47]
    assert reader.dropped == 45


def test_with_keeping_the_source_waits(pipe):
    with LiveReader(pipe(stream(6)), frames_per_second=FPS, ring=3, drop=False) as reader:
        time.sleep(0.5)
        frames = list(reader)
    assert numbers(frames) == list(range(48))


def test_broken_bytes_cost_no_more_than_the_frames_around_them(pipe):
    whole = stream(6)
    broken = bytearray(whole)
    middle = len(whole) // 2
    broken[middle : middle + 800] = bytes(800)
    with LiveReader(pipe(bytes(broken)), frames_per_second=FPS, drop=False) as reader:
        found = numbers(reader)
    assert found[:5] == list(range(5))
    assert found[-5:] == list(range(43, 48))


def test_frames_that_the_decoder_holds_back_come_at_the_end(pipe):
    with LiveReader(pipe(stream(2, tune="film")), FPS, drop=False) as reader:
        assert numbers(reader) == list(range(16))


def test_a_file_is_played_at_its_own_pace(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(stream(2, "mp4"))
    start = time.monotonic()
    with LiveReader(str(path)) as reader:
        frames = list(reader)
    assert len(frames) == 8
    assert 1.5 < time.monotonic() - start < 6


def test_a_stream_that_breaks_off_is_called_again_and_its_clock_goes_on(serve):
    said, frames = [], []
    address = serve(stream(1), stream(1, first=20))
    reader = LiveReader(address, FPS, drop=False, retries=2, wait_seconds=0.05, notice=said.append)
    with reader, pytest.raises(VideoDecodeError, match="2 attempts to reconnect failed"):
        frames.extend(iter(reader))
    times = [seconds for seconds, _ in frames]
    assert numbers(frames) == [*range(8), *range(20, 28)]
    assert times == sorted(times)
    assert len(said) == 3


def test_a_file_on_a_server_ends_where_it_ends(serve):
    with LiveReader(serve(stream(1), length=True), FPS, drop=False) as reader:
        assert len(list(reader)) == 8


def test_a_playlist_is_never_followed(serve, tmp_path):
    other = tmp_path / "other.mp4"
    other.write_bytes(stream(1, "mp4"))
    for body in (f"#EXTM3U\n#EXTINF:1,\nfile://{other}\n", f"ffconcat version 1.0\nfile {other}\n"):
        with pytest.raises(VideoDecodeError, match="cannot be opened as a video"):
            LiveReader(serve(body.encode()))


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("file:///etc/passwd", ValueError, "a live address must start with rtsp://"),
        ("concat://a|b", ValueError, "a live address must start with"),
        ("rtsp://127.0.0.1:9/none", VideoDecodeError, "cannot be opened as a video"),
        ("/dev/video99", FileNotFoundError, "the camera does not exist"),
        ("missing.mp4", FileNotFoundError, "the file does not exist"),
        (__file__, VideoRefusedError, "text"),
    ],
)
def test_what_cannot_be_watched_is_refused(source, error, message):
    with pytest.raises(error, match=message):
        LiveReader(source)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_a_rate_is_above_zero(rate):
    with pytest.raises(ValueError, match="frames_per_second"):
        LiveReader("missing.mp4", rate)


def test_stopping_ends_the_frames_and_the_thread(pipe):
    before = threading.active_count()
    with LiveReader(pipe(*[stream(2)] * 3, wait=0.2), FPS) as reader:
        next(iter(reader))
        reader.stop()
        list(reader)
    deadline = time.monotonic() + 5
    while threading.active_count() > before + 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "kinoclip-live" not in {thread.name for thread in threading.enumerate()}
