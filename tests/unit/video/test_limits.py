"""A limit of time holds for a decoder that is slow, and for one that never comes back."""

import os
import threading
import time

import pytest

from kinoclip.video import VideoReader, VideoTimeoutError, _clip, time_limit
from kinoclip.video._session import Session
from kinoclip.video.limits import ReadingThreads


@pytest.fixture
def slow(monkeypatch):
    """Let each packet take a twentieth of a second to decode."""
    decode = Session.decode

    def decode_slowly(session, packet):
        time.sleep(0.05)
        return decode(session, packet)

    monkeypatch.setattr(Session, "decode", decode_slowly)


@pytest.fixture
def gate():
    """What a stuck reading waits for; opened in the end."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_a_slow_decoder_is_stopped_at_the_limit_on_opening(h264, slow):
    begin, said = time.monotonic(), r"h264\.mp4: reading takes longer than 0\.2 s\. Allow more \(--timeout"
    with pytest.raises(VideoTimeoutError, match=said), time_limit(0.2):
        VideoReader(h264, exact=True)
    assert time.monotonic() - begin < 1


def test_a_limit_holds_between_frames_and_for_what_is_inside_it_alone(h264, each_way, monkeypatch):
    monkeypatch.setattr(_clip, "_KEPT_BYTES", 0)
    with VideoReader(h264) as reader:
        with pytest.raises(VideoTimeoutError), time_limit(1e-6):
            reader.frames([40])
        assert reader.frames([40]).shape == (1, 3, 64, 112)


def test_without_a_limit_a_slow_decoder_may_take_its_time(h264, slow):
    with VideoReader(h264) as reader:
        assert reader.num_frames == 50


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_limit_that_is_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match="must be positive"), time_limit(seconds):
        pass


def test_a_reading_that_never_comes_back_is_given_up_and_the_others_are_read(gate):
    def read(video):
        return gate.wait() if video.startswith("stuck") else video.upper()

    names = ["a", "stuck 1", "b", "stuck 2", "stuck 3", "c"]
    found = []
    with ReadingThreads(read, 2, 0.2) as threads:
        for reading in [threads.submit(name) for name in names]:
            try:
                found.append(threads.result(reading))
            except VideoTimeoutError as error:
                found.append(str(error).partition(":")[0])
        gate.set()
    assert found == ["A", "stuck 1", "B", "stuck 2", "stuck 3", "C"]


def test_a_thread_that_comes_back_late_ends(gate):
    before = threading.active_count()
    with ReadingThreads(lambda video: gate.wait(), 1, 0.1) as threads:
        with pytest.raises(VideoTimeoutError):
            threads.result(threads.submit("a"))
        assert threading.active_count() == before + 2
        gate.set()
        assert threads.result(threads.submit("b")) is True
    assert threading.active_count() == before


def test_an_error_of_reading_comes_through():
    with ReadingThreads(int, 1, 1.0) as threads, pytest.raises(ValueError, match="invalid literal"):
        threads.result(threads.submit("x"))


def test_a_pipe_that_never_delivers_is_given_up():
    end, start = os.pipe()
    file, writer = os.fdopen(end, "rb"), os.fdopen(start, "wb")
    with file, writer, ReadingThreads(lambda name: VideoReader(file), 1, 0.1) as threads:
        with pytest.raises(VideoTimeoutError):
            threads.result(threads.submit("pipe"))
        writer.close()  # the thread that waits comes back
