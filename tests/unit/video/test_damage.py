"""Videos that do not decode, or not all of them."""

import logging
import random

import pytest
import torch

from kinoclip.video import VideoDecodeError, VideoReader

CODECS = {
    "h264.mp4": {},
    "h264.ts": {},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
}


@pytest.fixture(scope="module", params=CODECS)
def content(request, make_video):
    return make_video(request.param, range(40), **CODECS[request.param]).read_bytes()


def flip_bits(content: bytes, seed: int) -> bytes:
    damaged, rng = bytearray(content), random.Random(seed)
    for _ in range(20):
        damaged[rng.randrange(len(damaged) // 4, 3 * len(damaged) // 4)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def read(content: bytes, **arguments) -> tuple:
    """Everything a reader gives, or what it says."""
    try:
        with VideoReader(content, **arguments) as reader:
            some = reader.frames([i * reader.num_frames // 8 for i in range(8)])
            everything = list(reader.iterate())
            return len(everything), reader.num_frames, reader.damage, some.numpy().tobytes(), everything
    except VideoDecodeError as error:
        return (str(error),)


def cut_off(content: bytes, part: float) -> bytes:
    return content[: int(part * len(content))]


@pytest.mark.parametrize(
    ("damage", "extent"),
    [*((cut_off, part) for part in (0.03, 0.2, 0.5, 0.8, 0.97)), *((flip_bits, seed) for seed in range(4))],
)
def test_a_damaged_file_gives_the_same_frames_twice_or_the_same_error(content, each_way, damage, extent):
    damaged = damage(content, extent)
    first, second = read(damaged), read(damaged)
    assert first[:4] == second[:4]
    assert len(first) == 1 or first[0] == first[1]


@pytest.mark.parametrize("seed", range(4))
def test_damage_that_is_kept_quietly_is_raised_when_asked_for(content, each_way, seed):
    damaged = flip_bits(content, seed)
    kept, raised = read(damaged), read(damaged, on_damage="raise")
    assert len(raised) == 1 if len(kept) == 1 or kept[2] else raised[:4] == kept[:4]


@pytest.fixture(scope="module")
def damaged_h264(make_video):
    """The 31st of 40 packets is zeros, and key frames alone stand between the others."""
    path = make_video("damaged.mp4", range(40), codec="mjpeg", pix_fmt="yuvj420p")
    content = bytearray(path.read_bytes())
    starts = [place for place in range(len(content) - 3) if content[place : place + 3] == b"\xff\xd8\xff"]
    content[starts[30] : starts[31]] = bytes(starts[31] - starts[30])
    return bytes(content)


def test_a_lost_frame_is_left_out_and_said(damaged_h264, read_numbers, caplog):
    with caplog.at_level(logging.WARNING), VideoReader(damaged_h264) as reader:
        assert read_numbers(reader.iterate()) == [*range(30), *range(31, 40)]
        assert reader.damage.startswith("39 frames decode from 40 packets")
    assert "the video is damaged" in caplog.text


def test_damage_met_late_moves_the_request_to_the_shorter_video(damaged_h264, read_numbers):
    with VideoReader(damaged_h264) as reader:
        assert reader.num_frames == 40
        # 20 * 39 // 40 = 19, 30 * 39 // 40 = 29, and 39 * 39 // 40 = 38 is now the last frame, number 39.
        assert read_numbers(reader.frames([20, 30, 39])) == [19, 29, 39]
        assert reader.num_frames == 39


def test_an_exact_reader_knows_of_damage_before_anything_is_read(damaged_h264):
    with VideoReader(damaged_h264, exact=True) as reader:
        assert reader.num_frames == 39


def test_damage_raises_one_error_that_says_what_and_what_to_do(damaged_h264, each_way):
    (message,) = read(damaged_h264, on_damage="raise")
    assert message.startswith("<bytes>: the video is damaged: 39 frames decode from 40 packets")
    assert message.endswith("Re-encode it, or pass on_damage='keep'.")


def test_a_stream_that_starts_between_key_frames_gives_the_frames_that_decode(make_video, each_way, read_numbers):
    # Packets of 188 bytes; the first key frame of this stream lies before the cut and the second, frame 12, after it.
    content = make_video("whole.ts", range(40), options={"bf": "0"}).read_bytes()
    with VideoReader(content[188 * 9 :]) as reader:
        numbers = read_numbers(reader.iterate())
        assert numbers == list(range(numbers[0], 40))
        assert reader.num_frames == len(numbers)


def test_a_sound_video_has_no_damage(content):
    with VideoReader(content, on_damage="raise") as reader:
        assert reader.damage is None


@pytest.mark.parametrize("part", [0, 20])
def test_a_file_without_a_decodable_frame_is_an_error_that_says_so(make_video, part):
    content = bytearray(make_video("none.mp4", range(2), codec="mjpeg", pix_fmt="yuvj420p").read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = bytes([part]) * (end - start)
    with pytest.raises(VideoDecodeError, match=r"<bytes>: no frame could be decoded"):
        VideoReader(bytes(content))


def test_a_read_after_damage_equals_a_fresh_one(damaged_h264, each_way):
    with VideoReader(damaged_h264, exact=True) as fresh, VideoReader(damaged_h264) as used:
        used.frames([30])
        assert torch.equal(fresh.frames([29, 30, 38]), used.frames([29, 30, 38]))
