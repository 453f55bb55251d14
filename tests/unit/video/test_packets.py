"""What is concluded from the packets of a video."""

import pytest

from kinoclip.video._packets import PacketInfo, PacketTable

# Two groups, I P B B with the B-frames shown before the P, then an open group: two B-frames after its key packet are
# shown before it. Time stamps by packet, keys in upper case:  I0 p3 b1 b2 | I6 b4 b5 p9 b7 b8
OPEN_GROUPS = [(0, True), (3, False), (1, False), (2, False), (6, True), (4, False), (5, False), (9, False), (7, False), (8, False)]  # fmt: skip


def table(packets=OPEN_GROUPS, container="mov", codec="h264", is_complete=True, **changes) -> PacketTable:
    infos = [PacketInfo(pts, is_key, is_sound=True, size=100)._replace(**changes) for pts, is_key in packets]
    return PacketTable(infos, container, codec, is_complete)


def test_frames_are_shown_in_the_order_of_their_time_stamps():
    assert table().display_stamps == list(range(10))


def test_a_sound_mp4_can_be_counted_and_entered_at_key_packets():
    assert (table().is_countable, table().is_seekable) == (True, True)


@pytest.mark.parametrize(
    ("frame", "first", "last"),
    [(0, 0, 0), (3, 0, 1), (6, 4, 4), (7, 4, 8), (4, 0, 5)],
    ids=["key", "P", "second key", "B", "leading B needs the group before"],
)
def test_a_frame_needs_the_packets_from_its_key_packet_to_its_own(frame, first, last):
    (run,) = table().plan([frame])
    assert (run.first, run.last, run.targets) == (first, last, {frame: frame})


def test_the_cost_of_a_frame_counts_the_packets_from_its_key_packet():
    # in the order of display: I0 b1 b2 p3 b4 b5 I6 b7 b8 p9; b4 and b5 need the group before
    assert table().decoding_costs() == [1, 3, 4, 2, 6, 7, 1, 5, 6, 4]


def test_a_group_without_wanted_frames_is_left_out():
    packets = [(i, i % 10 == 0) for i in range(40)]
    assert [(run.first, run.last) for run in table(packets).plan([3, 5, 31])] == [(0, 5), (30, 31)]


def test_runs_that_touch_are_one():
    packets = [(i, i % 10 == 0) for i in range(40)]
    assert [(run.first, run.last) for run in table(packets).plan([9, 10])] == [(0, 10)]


@pytest.mark.parametrize(
    "doubt",
    [
        {"container": "mpegts"},
        {"codec": "vp8"},
        {"is_complete": False},
        {"is_sound": False},
        {"packets": []},
        {"packets": [(0, False), (1, True)]},
        {"codec": "mpeg4", "size": 6},
    ],
)
def test_in_doubt_frames_are_counted_by_decoding(doubt):
    assert (table(**doubt).is_countable, table(**doubt).is_seekable) == (False, False)


@pytest.mark.parametrize(
    "doubt",
    [
        {"container": "avi"},
        {"packets": [(0, True), (None, False)]},
        {"packets": [(0, True), (1, False), (1, False)]},
        {"packets": [(5, True), (6, False), (0, True)]},
        {"packets": [(1, True), (0, False)]},
        {"packets": [(0, True), (9, False), (5, True)]},
    ],
    ids=["avi", "no stamp", "twice", "keys go back", "leading first", "shown after a later key"],
)
def test_in_doubt_a_countable_video_is_not_entered_in_the_middle(doubt):
    assert (table(**doubt).is_countable, table(**doubt).is_seekable) == (True, False)
