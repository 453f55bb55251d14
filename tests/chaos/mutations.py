"""Videos made wrong on purpose; each from a seed or a place, so that it can be made again."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from typing import NamedTuple

EXTREMES = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"mvex", b"moof", b"traf"}
HUGE = 1_000_000_000


class Box(NamedTuple):
    """A box of an mp4.

    Args:
        path: its kind and those of the boxes around it, joined with "/".
        start: of its header of 8 bytes.
        end: where the next one begins.
    """

    path: str
    start: int
    end: int


def walk_boxes(content: bytes, start: int = 0, end: int | None = None, parent: str = "") -> Iterator[Box]:
    """Give every box of an mp4, outer ones first."""
    end = len(content) if end is None else end
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", content, start)
        if size < 8:
            return
        path = f"{parent}{kind.decode('latin-1')}"
        yield Box(path, start, start + size)
        if kind in _PARENTS:
            yield from walk_boxes(content, start + 8, start + size, f"{path}/")
        start += size


def truncations(content: bytes, is_mp4: bool) -> Iterator[tuple[str, bytes]]:
    """Cut a video at every box and inside its header, or where there are none, at every twelfth."""
    places = {len(content) * part // 12 for part in range(1, 12)}
    if is_mp4:
        places = {place for box in walk_boxes(content) for place in (box.start, box.start + 6, box.start + 12)}
    for place in sorted(places):
        yield f"cut at {place}", content[:place]


def header_changes(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Set each of the first words of each box of an mp4 to values at the ends of their range."""
    for box in walk_boxes(content):
        if box.path.startswith("mdat"):
            continue
        for place in range(box.start, min(box.end - 3, box.start + 60), 4):
            for value in EXTREMES:
                yield f"{box.path} at {place - box.start}: {value:#x}", _patch(content, place, value)


def seeded(content: bytes, other: bytes, seed: int) -> bytes:
    """Damage a video in one to three ways: flips, extremes near the start, zeros, doubled, lost and foreign pieces."""
    draws, damaged = random.Random(seed), bytearray(content)
    for _ in range(draws.randint(1, 3)):
        place = draws.randrange(max(1, len(damaged) - 8))
        length = draws.choice((1, 4, 64, 1000))
        way = draws.randrange(7)
        if way == 0:
            for _ in range(draws.choice((1, 5, 50))):
                damaged[draws.randrange(len(damaged))] ^= 1 << draws.randrange(8)
        elif way == 1:
            place = draws.randrange(min(700, len(damaged) - 8))
            struct.pack_into(draws.choice("<>") + "I", damaged, place, draws.choice(EXTREMES))
        elif way == 2:
            damaged[place : place + length] = bytes(len(damaged[place : place + length]))
        elif way == 3:
            damaged[place:place] = damaged[place : place + length]
        elif way == 4 and len(damaged) > 2 * length:
            del damaged[place : place + length]
        elif way == 5:
            start = draws.randrange(len(other))
            damaged[place : place + length] = other[start : start + length]
        else:
            damaged[place:] = other[draws.randrange(len(other)) :]
    return bytes(damaged)


def declared(mp4: bytes) -> Iterator[tuple[str, bytes]]:
    """Let an H.264 mp4 of one track declare what no video has."""
    stbl = "moov/trak/mdia/minf/stbl"
    stsz, stts = _find(mp4, f"{stbl}/stsz"), _find(mp4, f"{stbl}/stts")
    stsd, tkhd = _find(mp4, f"{stbl}/stsd"), _find(mp4, "moov/trak/tkhd")
    mdhd, mvhd = _find(mp4, "moov/trak/mdia/mdhd"), _find(mp4, "moov/mvhd")
    huge = _patch(_patch(mp4, tkhd.end - 8, 65535 << 16), tkhd.end - 4, 65535 << 16)
    yield "65535 x 65535 in the track", huge
    # the sample entry begins after the 16 bytes of stsd's own header; its width and height are at 32
    yield "65535 x 65535 in track and sample entry", _patch(huge, stsd.start + 16 + 32, 0xFFFFFFFF)
    for size in (0, 1, 100):
        yield f"10^9 frames of {size} bytes", _patch(_patch(mp4, stsz.start + 12, size), stsz.start + 16, HUGE)
    yield "10^9 times of frames", _patch(mp4, stts.start + 12, HUGE)
    yield "10^9 frames at one time each", _patch(mp4, stts.start + 16, HUGE)
    for name, value in (("zero", 0), ("negative", 0xFFFFFFFF), ("the most negative", 0x80000000)):
        yield f"a duration of {name}", _patch(_patch(mp4, mdhd.start + 24, value), mvhd.start + 24, value)
        yield f"frames that last {name}", _patch(mp4, stts.start + 20, value)
        yield f"a time scale of {name}", _patch(_patch(mp4, mdhd.start + 20, value), mvhd.start + 20, value)
    for number in (99, 1000, 20_000):
        yield f"{number} streams", repeat_track(mp4, number)


def repeat_track(mp4: bytes, number: int) -> bytes:
    """Give a track of an mp4, whose moov stands after its data, that many times."""
    moov, trak = _find(mp4, "moov"), _find(mp4, "moov/trak")
    tracks = (_patch(mp4[trak.start : trak.end], 8 + 12, track_id) for track_id in range(1, number + 1))
    body = mp4[moov.start + 8 : trak.start] + b"".join(tracks) + mp4[trak.end : moov.end]
    return mp4[: moov.start] + struct.pack(">I4s", len(body) + 8, b"moov") + body + mp4[moov.end :]


def resize_jpegs(content: bytes, width: int, height: int) -> bytes:
    """Let every JPEG in a video declare another size."""
    changed = bytearray(content)
    place = changed.find(b"\xff\xc0\x00\x11")
    while place >= 0:
        struct.pack_into(">HH", changed, place + 5, height, width)
        place = changed.find(b"\xff\xc0\x00\x11", place + 4)
    return bytes(changed)


def _find(content: bytes, path: str) -> Box:
    return next(box for box in walk_boxes(content) if box.path == path)


def _patch(content: bytes, place: int, value: int) -> bytes:
    return content[:place] + struct.pack(">I", value) + content[place + 4 :]
