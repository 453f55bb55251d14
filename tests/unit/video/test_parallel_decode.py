"""Several cores at one video: the same frames in the same order, whatever goes wrong, and nothing is left behind."""

import re
import threading
import time
from contextlib import contextmanager
from io import BytesIO

import av
import pytest
import torch

from kinoclip import VideoReader
from kinoclip.video import _clip, _packets, _parallel_decode
from kinoclip.video._packets import LostFrameError
from kinoclip.video._session import Media, Session
from kinoclip.video.errors import VideoDecodeError, VideoTimeoutError
from kinoclip.video.limits import ReadingThreads, num_cores, time_limit


@pytest.fixture(autouse=True)
def shared(monkeypatch):
    """Share out even the smallest video."""
    for name in ("_KEPT_BYTES", "_MIN_PARALLEL_PIXELS"):
        monkeypatch.setattr(_clip, name, 0)


@pytest.fixture
def decoding(monkeypatch):
    """Tell in which threads runs are decoded."""
    seen = []
    read_run = _parallel_decode.read_run

    def watch(cursor, run):
        seen.append((threading.current_thread(), cursor.session, run.first))
        time.sleep(0.01)  # long enough for another thread to take the next
        return read_run(cursor, run)

    monkeypatch.setattr(_parallel_decode, "read_run", watch)
    return seen


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "kinoclip-decode"]


def test_groups_are_decoded_by_as_many_threads_as_there_are_cores(h264, decoding, read_numbers):
    with VideoReader(h264, threads=2) as reader:
        assert read_numbers(reader.frames(range(50))) == list(range(50))
    assert len({thread for thread, _, _ in decoding}) == 2
    assert len({id(session) for _, session, _ in decoding}) == 2
    groups = [
        [first for _, s, first in decoding if s is session] for session in {id(s): s for _, s, _ in decoding}.values()
    ]
    assert sorted(groups) == [[0, 24, 48], [12, 36]]
    assert workers() == []


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_the_frames_do_not_depend_on_the_cores(h264, threads):
    with VideoReader(h264, threads=1) as one, VideoReader(h264, threads=threads) as several:
        for indices in (range(50), [0, 1, 13, 14, 26, 49], [12], [49, 3, 3, 20]):
            assert torch.equal(one.frames(indices), several.frames(indices))


@pytest.mark.parametrize(
    ("codec", "name", "kept_bytes", "opens"),
    [
        ("libx264", "a.mp4", 10**6, False),
        ("libx265", "a.mp4", 10**6, False),
        ("libvpx-vp9", "a.webm", 10**6, False),
        ("libsvtav1", "a.mp4", 10**6, False),
        ("mpeg4", "a.mp4", 10**6, True),
        ("libx264", "a.mp4", 0, True),
    ],
)
def test_threads_share_the_packets_of_a_small_file(make_video, monkeypatch, codec, name, kept_bytes, opens):
    video, opened, open_again = make_video(name, range(30), codec=codec, gop=10), [], Session.open_again
    monkeypatch.setattr(_packets, "_KEPT_BYTES", kept_bytes)
    monkeypatch.setattr(Session, "open_again", lambda session: opened.append(session) or open_again(session))
    with VideoReader(video, threads=1) as one, VideoReader(video, threads=3) as several:
        assert torch.equal(one.frames(range(30)), several.frames(range(30)))
        assert several._clip._sessions.keys() == {1, 2}
    assert bool(opened) == opens


def without_reordering(path):
    """Remove from the H.264 header of a video how many frames wait for their turn, which many encoders do not write."""
    with av.open(str(path)) as container:
        header = container.streams.video[0].codec_context.extradata
    length = int.from_bytes(header[6:8])
    bits = "".join(f"{byte:08b}" for byte in header[8 : 8 + length]).rstrip("0")[:-1]
    # its last fields: two flags and two numbers of 0, two of 7 to 14, one of 1 or 2, one of 3 to 6
    fields = re.search(r"1111(?:0001[01]{3}){2}01[01]001[01]{2}$", bits)
    changed = int((bits[: fields.start()] + "01").ljust(8 * length, "0"), 2).to_bytes(length)
    path.write_bytes(path.read_bytes().replace(header[8 : 8 + length], changed))


def test_a_header_that_leaves_open_how_many_frames_wait_costs_no_frame(make_video, monkeypatch, read_numbers):
    video = make_video("open.mp4", range(60), options={"bf": "3", "b-pyramid": "normal", "b-adapt": "0"})
    without_reordering(video)
    monkeypatch.setattr(_clip, "count_by_decoding", None)
    with VideoReader(video, threads=3) as reader:
        assert read_numbers(reader.frames(range(60))) == list(range(60))
        assert reader._clip._sessions


def test_a_decoder_of_shared_packets_knows_what_the_container_says_of_colors(h264):
    session = Session(Media.of_path(h264), None, 10**6)
    table = _packets.read_table(session)
    session.stream.codec_context.colorspace = 1  # BT.709; the coded video has none
    seen = [next(one.frames()).colorspace for one in (session.share(), session)]
    session.close()
    assert len(table.packets) == 50
    assert seen == [1, 1]


def test_one_core_starts_no_thread(h264, decoding):
    with VideoReader(h264, threads=1) as reader:
        reader.frames(range(50))
    assert decoding == []


@pytest.fixture
def one_group(make_video):
    """50 frames, of which only the first is a key frame."""
    return make_video("one_group.mp4", range(50), gop=250)


def test_one_long_group_is_decoded_ahead_of_its_conversion(one_group, monkeypatch, read_numbers):
    given, converted = [], []
    read_run, to_rgb = _parallel_decode.read_run, _clip.to_rgb

    def watch(*arguments):
        for item in read_run(*arguments):
            given.append(threading.current_thread())
            yield item

    def convert(*arguments):
        converted.append(threading.current_thread())
        time.sleep(0.002)
        assert len(given) - len(converted) <= _parallel_decode._MAX_PENDING_FRAMES + 1
        return to_rgb(*arguments)

    monkeypatch.setattr(_parallel_decode, "read_run", watch)
    monkeypatch.setattr(_clip, "to_rgb", convert)
    with VideoReader(one_group, threads=4) as reader:
        assert read_numbers(reader.frames(range(50))) == list(range(50))
    assert {thread.name for thread in given} == {"kinoclip-decode"}
    assert set(converted) == {threading.main_thread()}
    assert workers() == []


def test_one_long_group_that_is_given_up_leaves_no_thread(one_group):
    reader = VideoReader(one_group, threads=2)
    frames = reader.iterate()
    next(frames), next(frames)
    assert len(workers()) == 1
    reader.close()
    assert workers() == []


def test_little_is_decoded_without_a_thread(h264, decoding, monkeypatch):
    monkeypatch.setattr(_clip, "_MIN_PARALLEL_PIXELS", 112 * 64 * 20)
    with VideoReader(h264, threads=2) as reader:
        reader.frames([13])
        assert decoding == []
        reader.frames(range(50))
    assert decoding != []


def test_bytes_are_shared_out_too_and_a_file_of_somebody_else_is_not(h264, decoding, read_numbers):
    content = h264.read_bytes()
    with VideoReader(content, threads=2) as reader:
        assert read_numbers(reader.frames([1, 20, 40])) == [1, 20, 40]
    assert len({id(session) for _, session, _ in decoding}) == 2
    decoding.clear()
    with h264.open("rb") as file, VideoReader(file, threads=2) as reader:
        assert read_numbers(reader.frames([1, 20, 40])) == [1, 20, 40]
    assert len({id(session) for _, session, _ in decoding}) == 1
    # a memory file is copied, and stays where the caller left it
    with VideoReader(BytesIO(content), threads=2) as reader:
        assert read_numbers(reader.frames([1, 20, 40])) == [1, 20, 40]


def test_no_more_frames_wait_than_allowed(h264, monkeypatch, read_numbers):
    monkeypatch.setattr(_clip, "_AHEAD_BYTES", 3 * 112 * 64 * 4)
    given = []
    read_run = _parallel_decode.read_run

    def watch(*arguments):
        for item in read_run(*arguments):
            given.append(item[0])
            yield item

    monkeypatch.setattr(_parallel_decode, "read_run", watch)
    with VideoReader(h264, threads=2) as reader:
        frames = reader.iterate()
        first = [next(frames), next(frames)]  # the first of all is there since the opening
        time.sleep(0.3)
        # one was asked for, four wait, and each of the two threads has one more in its hands
        assert 4 <= len(given) <= 1 + 4 + 2
        assert read_numbers(torch.stack([*first, *frames])) == list(range(50))


@pytest.mark.parametrize("end", ["close", "forget"])
def test_a_reading_that_is_given_up_leaves_no_thread(h264, decoding, end):
    reader = VideoReader(h264, threads=3)
    frames = reader.iterate()
    next(frames), next(frames)
    assert {thread.name for thread, _, _ in decoding} == {"kinoclip-decode"}
    if end == "close":
        reader.close()
    del reader, frames
    assert workers() == []


def test_a_frame_that_is_lost_is_looked_for_by_decoding_all(h264, monkeypatch, read_numbers):
    read_run = _parallel_decode.read_run

    def lose(cursor, run):
        if run.first == 24:
            raise LostFrameError
        return read_run(cursor, run)

    monkeypatch.setattr(_parallel_decode, "read_run", lose)
    with VideoReader(h264, threads=2) as reader:
        assert read_numbers(reader.frames([1, 14, 30, 40])) == [1, 14, 30, 40]


def test_a_file_is_not_taken_away_from_threads_that_are_at_it(h264, monkeypatch, read_numbers):
    read_run = _parallel_decode.read_run

    def skip(cursor, run):
        for index, frame in read_run(cursor, run):
            if index != 14:
                yield index, frame
                time.sleep(0.02)

    monkeypatch.setattr(_parallel_decode, "read_run", skip)
    count, alive = _clip.count_by_decoding, []
    monkeypatch.setattr(_clip, "count_by_decoding", lambda *given: alive.extend(workers()) or count(*given))
    with VideoReader(h264, threads=3) as reader:
        assert read_numbers(reader.frames(range(1, 50))) == list(range(1, 50))
    assert alive == []


def test_a_file_that_cannot_be_opened_a_second_time_is_read_all_the_same(h264, monkeypatch, read_numbers):
    def refuse(self):
        raise VideoDecodeError("too many open files")

    monkeypatch.setattr(_packets, "_KEPT_BYTES", 0)
    monkeypatch.setattr(Session, "open_again", refuse)
    monkeypatch.setattr(_clip, "count_by_decoding", None)  # nor is everything decoded
    with VideoReader(h264, threads=2) as reader:
        assert read_numbers(reader.frames([1, 14, 30, 40])) == [1, 14, 30, 40]


def test_what_goes_wrong_in_a_thread_is_raised_where_frames_are_asked_for(h264, monkeypatch):
    def fail(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(_parallel_decode, "read_run", fail)
    with VideoReader(h264, threads=2) as reader, pytest.raises(VideoDecodeError, match="too little memory"):
        reader.frames([1, 20])
    assert workers() == []


def test_the_time_limit_holds_in_the_threads(h264, decoding):
    with (
        VideoReader(h264, threads=2) as reader,
        time_limit(0.005),
        pytest.raises(VideoTimeoutError, match=r"0\.005 s"),
    ):
        reader.frames([20, 40])


def test_readers_beside_each_other_share_the_cores(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    assert [num_cores(threads) for threads in (None, 1, 5)] == [8, 1, 5]
    assert num_cores(0) >= 1
    for readers, share in ((3, 2), (4, 2), (20, 1)):
        with ReadingThreads(lambda video: num_cores(None), readers, 10.0) as threads:
            assert threads.result(threads.submit("a video")) == share


@contextmanager
def one_torch_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_a_worker_of_a_data_loader_decodes_on_its_one_core(h264, decoding):
    with one_torch_thread(), VideoReader(h264) as reader:
        reader.frames(range(50))
    assert decoding == []
