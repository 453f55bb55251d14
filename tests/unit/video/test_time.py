"""Frames by time."""

from itertools import chain

import numpy as np
import pytest

from kinoclip.video import VideoReader


def test_time_zero_is_the_appearance_of_the_first_frame(make_video, each_way):
    path = make_video("late.mkv", range(10), stamps=[5000 + 40 * i for i in range(10)])
    with VideoReader(path) as reader:
        assert reader.timestamps([0, 1, 9]) == pytest.approx([0.0, 0.04, 0.36])


def test_time_stamps_of_a_variable_frame_rate_are_the_files_own(make_video, each_way):
    # 1 s of 25 frames per second, a pause of 2 s, 5 frames more.
    stamps = [40 * i + 2000 * (i >= 25) for i in range(30)]
    with VideoReader(make_video("vfr.mp4", range(30), stamps=stamps)) as reader:
        assert reader.timestamps(range(30)) == pytest.approx([stamp / 1000 for stamp in stamps])


def test_duration_ends_with_the_last_frame(h264, each_way):
    with VideoReader(h264) as reader:
        assert (reader.fps, reader.duration_seconds) == (25.0, 2.0)  # 50 frames of 40 ms


def test_a_stream_without_time_stamps_is_counted_off_at_its_rate(make_video, each_way):
    with VideoReader(make_video("raw.h264", range(10))) as reader:
        assert reader.timestamps([5]) == [5 / reader.fps]


def test_times_that_jump_back_are_replaced_by_the_frame_rate(make_video, each_way):
    path = make_video("again.ts", range(10))
    path.write_bytes(path.read_bytes() * 2)
    with VideoReader(path) as reader:
        assert reader.num_frames == 20
        assert reader.timestamps([19]) == pytest.approx([0.76])  # 19 frames of 40 ms


@pytest.mark.parametrize(
    ("seconds", "index"), [(0.0, 0), (0.039, 0), (0.04, 1), (0.1 + 0.2 - 0.02, 7), (1.99, 49), (2.0, 49)]
)
def test_the_frame_at_a_time_is_the_one_on_the_screen(h264, seconds, index):
    with VideoReader(h264) as reader:
        assert reader.indices_at([seconds]) == [index]


def test_every_frame_is_found_again_by_its_time_stamp(make_video, each_way):
    with VideoReader(make_video("ntsc.mkv", range(40), stamps=[round(i * 1001 / 30) for i in range(40)])) as reader:
        assert reader.indices_at(reader.timestamps(range(40))) == list(range(40))


@pytest.mark.parametrize(("start", "end", "indices"), [(0.4, 0.6, [10, 11, 12, 13, 14]), (1.92, 99.0, [48, 49])])
def test_a_range_holds_its_beginning_and_not_its_end_which_may_be_after_the_video(h264, start, end, indices):
    with VideoReader(h264) as reader:
        assert reader.indices_between(start, end) == indices


def test_ranges_side_by_side_hold_every_frame_once(h264):
    with VideoReader(h264) as reader:
        cut = [reader.indices_between(i * 0.3, (i + 1) * 0.3) for i in range(7)]
    assert [*chain(*cut)] == list(range(50))


@pytest.mark.parametrize("seconds", [-0.1, 2.1, float("nan")])
def test_a_time_outside_the_video_is_an_error(h264, seconds):
    with VideoReader(h264) as reader, pytest.raises(ValueError, match=r"out of range for a video of 2\.0 s"):
        reader.indices_at([seconds])


@pytest.mark.parametrize(("start", "end"), [(1.0, 1.0), (1.0, 0.5), (2.0, 3.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_a_range_that_is_empty_or_begins_outside_is_an_error(h264, start, end):
    with VideoReader(h264) as reader, pytest.raises(ValueError, match="start_seconds"):
        reader.indices_between(start, end)


def test_frames_without_a_clock_have_no_times():
    with VideoReader(np.zeros((4, 8, 8, 3), np.uint8)) as reader:
        assert (reader.fps, reader.duration_seconds) == (None, None)
        with pytest.raises(ValueError, match="Pass fps="):
            reader.timestamps([0])


def test_frames_without_a_clock_get_one_from_the_caller():
    with VideoReader(np.zeros((4, 8, 8, 3), np.uint8), fps=2) as reader:
        assert (reader.timestamps([3]), reader.duration_seconds) == ([1.5], 2.0)
