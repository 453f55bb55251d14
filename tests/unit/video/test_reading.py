"""Which frames come out, of files of every shape."""

import random
import struct

import numpy as np
import pytest
import torch

from kinoclip.video import VideoReader, _packets
from kinoclip.video._session import Session

# 1.0 as the 16.16 fixed point of a display matrix.
ONE = 65536

ENCODINGS = {
    "h264_b_frames.mp4": {},
    "h264.mkv": {},
    "h264_fragmented.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264_open_gop.mkv": {"options": {"x264-params": "open-gop=1:bframes=4:b-adapt=0:scenecut=0"}, "gop": 16},
    "h264_intra_refresh.mkv": {"options": {"intra-refresh": "1", "bf": "0"}, "gop": 20},
    "h264_interlaced.ts": {"options": {"x264-params": "interlaced=1"}},
    "h264_without_stamps.h264": {},
    "hevc_open_gop.mp4": {"codec": "libx265", "options": {"x265-params": "open-gop=1:bframes=4:log-level=none"}},
    "vp8_hidden_frames.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "vp9_hidden_frames.webm": {"codec": "libvpx-vp9", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "mpeg4_b_frames.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg2_b_frames.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "ffv1.nut": {"codec": "ffv1"},
    "raw.y4m": {"codec": "rawvideo"},
    "animation.gif": {"codec": "gif", "pix_fmt": "rgb8"},
}


@pytest.fixture(scope="module", params=ENCODINGS)
def encoded(request, make_video):
    return make_video(request.param, range(40), **ENCODINGS[request.param])


def test_every_frame_comes_out_once_and_in_order(encoded, each_way, read_numbers):
    with VideoReader(encoded) as reader:
        assert read_numbers(reader.iterate()) == list(range(40))
        assert reader.num_frames == 40


def test_frames_in_any_order_are_those_of_a_full_read_also_in_a_second_read(encoded, each_way):
    asked = random.Random(7).choices(range(40), k=9)
    with VideoReader(encoded) as one, VideoReader(encoded) as other:
        all_frames = torch.stack(list(one.iterate()))
        for indices in (asked, [39], [1, 20]):
            assert torch.equal(other.frames(indices), all_frames[indices])


def test_a_video_is_read_along_its_packets(h264, monkeypatch):
    decoded, decode = [], Session.decode
    monkeypatch.setattr(Session, "decode", lambda self, packet: decoded.append(packet) or decode(self, packet))
    with VideoReader(h264) as reader:
        decoded.clear()
        reader.frames([36])
    # Frame 36 is a key frame: its packet, and one call that empties the decoder.
    assert len(decoded) == 2


def test_an_edit_list_hides_the_frames_before_it(make_video, each_way, read_numbers):
    path = make_video("edit.mp4", range(40))
    content = bytearray(path.read_bytes())
    place = content.index(b"elst") + 4
    version, _, count, _, media_time = struct.unpack_from(">B3sIIi", content, place)
    assert (version, count) == (0, 1)
    struct.pack_into(">i", content, place + 12, media_time + 3 * 512)  # 512 ticks a frame
    path.write_bytes(content)
    with VideoReader(path) as reader:
        assert read_numbers(reader.iterate()) == list(range(3, 40))


def test_frames_before_time_zero_of_an_mp4_are_not_shown(make_video, each_way, read_numbers):
    path = make_video("negative.mp4", range(40), stamps=[40 * i - 400 for i in range(40)])
    with VideoReader(path) as reader:
        assert read_numbers(reader.iterate()) == list(range(10, 40))


def test_a_variable_frame_rate_is_indexed_by_frame(make_video, each_way, read_numbers):
    path = make_video("vfr.mp4", range(30), stamps=[40 * i + 500 * (i > 10) for i in range(30)])
    with VideoReader(path) as reader:
        assert read_numbers(reader.frames([10, 11, 29])) == [10, 11, 29]


@pytest.mark.parametrize(
    ("matrix", "turn", "rotation", "mirrored"),
    [
        ((0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30), lambda f: np.rot90(f, 1), 90, False),
        ((-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30), lambda f: np.rot90(f, 2), 180, False),
        ((0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30), lambda f: np.rot90(f, 3), 270, False),
        ((-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30), np.fliplr, 0, True),
        ((ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30), np.flipud, 180, True),
        ((0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30), lambda f: f.transpose(1, 0, 2), 90, True),
        ((0, -ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30), lambda f: np.rot90(f.transpose(1, 0, 2), 2), 270, True),
        ((46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30), lambda f: f, 0, False),
    ],
    ids=["90", "180", "270", "mirror", "mirror 180", "transpose", "transverse", "45 ignored"],
)
def test_frames_are_turned_by_the_display_matrix(make_video, each_way, matrix, turn, rotation, mirrored):
    with VideoReader(make_video("plain.mp4", range(3))) as plain:
        expected = turn(plain.frames([2])[0].permute(1, 2, 0).numpy())
    with VideoReader(make_video("turned.mp4", range(3), matrix=matrix)) as turned:
        got = turned.frames([2])[0].permute(1, 2, 0).numpy()
        assert (turned.rotation, turned.mirrored) == (rotation, mirrored)
        assert (turned.height, turned.width) == got.shape[:2]
    assert np.array_equal(got, expected)


def test_the_largest_video_stream_is_read_unless_another_is_named(two_streams, each_way):
    with VideoReader(two_streams) as best, VideoReader(two_streams, stream=0) as first:
        assert (best.width, first.width) == (224, 112)


def test_a_frame_of_another_size_is_resized_to_the_first(resized_midway, each_way):
    with VideoReader(resized_midway) as reader:
        frames = reader.frames([0, 15])
        assert reader.num_frames == 20
    assert frames.shape == (2, 3, 64, 112)


def test_a_transform_sees_frames_as_they_are_and_only_the_wanted_ones(resized_midway, each_way):
    seen = []

    def measure(frame):
        seen.append(tuple(frame.shape))
        return frame.float().mean().reshape(1)

    with VideoReader(resized_midway) as reader:
        out = reader.frames([15, 0, 15], transform=measure)
    assert seen == [(3, 64, 112), (3, 128, 224)]
    assert out.shape == (3, 1)
    assert out[0] == out[2]


def test_a_transform_that_gives_two_shapes_is_an_error(resized_midway):
    with VideoReader(resized_midway) as reader, pytest.raises(ValueError, match="transform must return one shape"):
        reader.frames([0, 15], transform=lambda frame: frame)


@pytest.mark.parametrize("index", [-1, 50])
def test_an_index_outside_the_video_is_an_error_that_says_what_there_is(h264, index):
    with (
        VideoReader(h264) as reader,
        pytest.raises(ValueError, match=rf"frame {index} is out of range for a video of 50 frames \(0 to 49\)"),
    ):
        reader.frames([0, index])


def test_an_index_that_is_no_integer_is_an_error(h264):
    with VideoReader(h264) as reader, pytest.raises(TypeError):
        reader.frames([0.5])


def test_no_indices_give_no_frames(h264):
    with VideoReader(h264) as reader:
        assert reader.frames([]).shape == (0, 3, 64, 112)


def test_frames_are_contiguous_bytes(h264):
    with VideoReader(h264) as reader:
        frames = reader.frames(range(4))
        last = reader.frames(range(4), channels_last=True)
    assert frames.dtype == torch.uint8
    assert frames.is_contiguous()
    assert last.permute(0, 2, 3, 1).is_contiguous()
    assert torch.equal(last, frames)


def test_iterating_backwards_gives_the_frames_in_that_order(h264, each_way, read_numbers):
    with VideoReader(h264) as reader:
        assert read_numbers(reader.iterate([9, 8, 8, 30, 2])) == [9, 8, 8, 30, 2]


def test_colors_follow_the_range_that_the_file_declares(make_video, paint):
    path = make_video("full.mov", range(2), codec="mjpeg", pix_fmt="yuvj420p")
    with VideoReader(path) as reader:
        got = reader.frames([1])[0, :, 20:, :].permute(1, 2, 0).numpy().astype(int)
    # Full range taken for limited would move dark grey by up to 16 levels; JPEG moves it by a few.
    assert abs(got - paint(1)[20:]).mean() < 4


def test_a_closed_reader_says_so(h264):
    reader = VideoReader(h264)
    reader.close()
    with pytest.raises(ValueError, match="the reader is closed"):
        reader.frames([0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_damage": "ignore"}, "on_damage must be 'keep' or 'raise', got 'ignore'"),
        ({"fps": 0}, "fps must be positive, got 0"),
        ({"threads": -1}, "threads must be at least 0"),
        ({"stream": 1}, "stream must be from 0 to 0, got 1"),
        ({"max_pixels": 4096}, "frames of 112 x 64 are larger than max_pixels=4096"),
    ],
)
def test_an_argument_out_of_range_is_an_error(h264, arguments, message):
    with pytest.raises(ValueError, match=message):
        VideoReader(h264, **arguments)


@pytest.mark.parametrize("name", ["h264_b_frames.mp4", "h264_open_gop.mkv"])
def test_the_cost_of_a_frame_is_what_is_decoded_for_it(name, make_video, monkeypatch):
    decoded, decode = [], Session.decode
    with VideoReader(make_video(f"cost_{name}", range(40), **ENCODINGS[name])) as reader:
        costs = reader.decoding_costs()
        monkeypatch.setattr(Session, "decode", lambda self, packet: decoded.append(packet) or decode(self, packet))
        for index in (5, 12, 39):
            decoded.clear()
            reader.frames([index])
            # a decoder returns a frame a few packets later
            assert 0 <= sum(packet is not None for packet in decoded) - costs[index] <= 4


def test_without_key_frames_to_start_at_all_frames_before_one_are_decoded(make_video):
    with VideoReader(make_video("cost.y4m", range(5), codec="rawvideo")) as reader:
        assert reader.decoding_costs() == [1, 2, 3, 4, 5]


def test_a_video_is_opened_and_read_once_and_its_first_frame_decoded_once(h264, make_video, monkeypatch, read_numbers):
    done = []
    for name in ("_open", "seek", "decode"):
        method = getattr(Session, name)
        monkeypatch.setattr(
            Session, name, lambda *args, name=name, method=method: (done.append(name), method(*args))[1]
        )
    with VideoReader(h264, threads=1) as reader:
        assert read_numbers(reader.frames([0])) == [0]
        before = done.count("decode")
        assert read_numbers(reader.frames([0, 30])) == [0, 30]
        assert done.count("decode") - before < 12  # the group of frame 30 alone
    assert done.count("_open") == 1
    assert "seek" not in done


def test_no_packet_of_a_long_group_is_decoded_twice(make_video, monkeypatch, read_numbers):
    decoded, decode = [], Session.decode
    monkeypatch.setattr(
        Session, "decode", lambda self, packet: decoded.append(packet and packet.pts) or decode(self, packet)
    )
    with VideoReader(make_video("long_group.mp4", range(40), gop=250), threads=1) as reader:
        assert read_numbers(reader.frames([0, 2, 39])) == [0, 2, 39]
        assert len(decoded) == len(set(decoded)) >= 39
        assert read_numbers(reader.frames([1, 39, 3])) == [1, 39, 3]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(("frames", "gop"), [(40, 250), (10, 4)])
@pytest.mark.parametrize("indices", [[0], [1], [0, 1], [2, 3], [9], [0, 9], list(range(10))])
def test_decoding_goes_on_behind_the_first_frame(indices, frames, gop, codec, make_video, read_numbers, each_way):
    with VideoReader(make_video(f"{codec}_{gop}.mp4", range(frames), gop=gop, codec=codec)) as reader:
        assert read_numbers(reader.frames(indices)) == indices
        assert read_numbers(reader.frames([0, 8])) == [0, 8]


def test_packets_of_a_large_file_are_not_kept_in_memory(h264, monkeypatch, read_numbers):
    monkeypatch.setattr(_packets, "_KEPT_BYTES", 1000)
    with VideoReader(h264, threads=1) as reader:
        assert reader._clip._session.kept is None
        assert read_numbers(reader.frames([0, 13, 40])) == [0, 13, 40]
        assert read_numbers(reader.frames([2])) == [2]
