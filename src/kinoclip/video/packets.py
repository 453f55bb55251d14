"""What the packets of a video say about its frames, and how to read few of them: arithmetic, nothing is decoded here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

# Containers that keep frames apart themselves; elsewhere a parser guesses, and gives the two fields of a frame one packet each.
_FRAMED_CONTAINERS = {"mov", "matroska", "avi", "flv", "asf"}
# Of these, the ones whose time stamps lead back to the same packet after a seek.
_SEEKABLE_CONTAINERS = {"mov", "matroska"}
# Codecs that let out one frame per packet. Not VP8, whose hidden frames have packets of their own.
_ONE_TO_ONE_CODECS = {
    *("h264", "hevc", "av1", "vp9", "mpeg4", "msmpeg4v3", "msmpeg4v2", "h263", "flv1", "wmv1", "wmv2"),
    *("mjpeg", "prores", "dnxhd", "ffv1"),
}
# An MPEG-4 packet this small is a placeholder for a frame that travels in the packet before it.
_PLACEHOLDER_BYTES = 8


class PacketInfo(NamedTuple):
    """One packet of the video stream.

    Args:
        pts: when its frame is shown, in the stream's unit; None where the container does not say.
        is_key: decoding can start here.
        is_sound: neither damaged, nor empty, nor marked as not to be shown.
        size: bytes.
    """

    pts: int | None
    is_key: bool
    is_sound: bool
    size: int


@dataclass
class Run:
    """A stretch of packets to decode.

    Args:
        first: position of a key packet.
        last: position of the last packet that a wanted frame needs.
        targets: frame index by time stamp.
    """

    first: int
    last: int
    targets: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PacketTable:
    """All packets of a video stream, in decode order.

    Args:
        packets: in the order of the file.
        container: FFmpeg's first name for the format.
        codec: canonical name.
        is_complete: the file could be read to its end.
    """

    packets: Sequence[PacketInfo]
    container: str
    codec: str
    is_complete: bool

    @cached_property
    def is_countable(self) -> bool:
        """Whether there is one frame per packet as far as can be told without decoding."""
        return (
            self.is_complete
            and self.container in _FRAMED_CONTAINERS
            and self.codec in _ONE_TO_ONE_CODECS
            and bool(self.packets)
            and self.packets[0].is_key
            and all(packet.is_sound for packet in self.packets)
            and not (self.codec == "mpeg4" and any(packet.size <= _PLACEHOLDER_BYTES for packet in self.packets))
        )

    @cached_property
    def is_seekable(self) -> bool:
        """Whether frames can be found by time stamp, starting at any key packet."""
        stamps = [packet.pts for packet in self.packets]
        if not self.is_countable or self.container not in _SEEKABLE_CONTAINERS:
            return False
        if None in stamps or len(set(stamps)) != len(stamps):
            return False
        keys = [stamps[position] for position in self._keys]
        if any(a >= b for a, b in pairwise(keys)):  # type: ignore[operator]
            return False
        return self.display_stamps[0] == stamps[0] and all(
            self._start_of[position] <= position for position in self._display
        )

    @cached_property
    def display_stamps(self) -> list[int]:
        """The time stamps of the frames in the order they are shown."""
        return sorted(packet.pts for packet in self.packets if packet.pts is not None)

    @cached_property
    def _keys(self) -> list[int]:
        return [position for position, packet in enumerate(self.packets) if packet.is_key]

    @cached_property
    def _display(self) -> list[int]:
        """Packet position of each shown frame."""
        stamps = [packet.pts or 0 for packet in self.packets]
        return sorted(range(len(stamps)), key=stamps.__getitem__)

    @cached_property
    def _start_of(self) -> dict[int, int]:
        """Position of the key packet to start at, by packet position: the last key shown no later than the frame.

        Frames that follow a key packet in the file but are shown before it (an open group) need the key before.
        """
        starts: dict[int, int] = {}
        start = 0
        for position in self._display:
            if self.packets[position].is_key:
                start = position
            starts[position] = start
        return starts

    def plan(self, indices: Sequence[int], *, apart: bool = False) -> list[Run]:
        """Say which packets to decode for these frames, ascending and without repeats; needs `is_seekable`.

        Runs that meet are one, unless they shall be kept `apart`: then each starts at another key packet, and runs may overlap.
        """
        runs: list[Run] = []
        for index in indices:
            position = self._display[index]
            start = self._start_of[position]
            if not runs or start > (runs[-1].first if apart else runs[-1].last + 1):
                runs.append(Run(start, position))
            run = runs[-1]
            run.last = max(run.last, position)
            run.targets[self.display_stamps[index]] = index
        return runs
