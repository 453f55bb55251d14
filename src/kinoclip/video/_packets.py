"""The packets of a video: which frames they hold, and how to decode only the packets that requested frames need."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple

from kinoclip.video._remote import RemoteFile
from kinoclip.video._session import Media, Session
from kinoclip.video.display import Orientation, read_orientation

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

# Containers with explicit frame boundaries. Elsewhere a parser guesses, and splits the two fields of a frame into packets.
_FRAMED_CONTAINERS = {"mov", "matroska", "avi", "flv", "asf"}
# Of these, containers whose time stamps lead to the same packet after a seek.
_SEEKABLE_CONTAINERS = {"mov", "matroska"}
# Codecs with one frame per packet. Not VP8, whose hidden frames have packets of their own.
_ONE_TO_ONE_CODECS = {
    *("h264", "hevc", "av1", "vp9", "mpeg4", "msmpeg4v3", "msmpeg4v2", "h263", "flv1", "wmv1", "wmv2"),
    *("mjpeg", "prores", "dnxhd", "ffv1"),
}
# Codecs whose decoder can skip unreferenced frames without changing the others.
_SKIPPING_CODECS = {"h264", "hevc"}
# An MPEG-4 packet this small is a placeholder for a frame in the packet before it.
_PLACEHOLDER_BYTES = 8
# Beyond this many packets a seek is faster than reading on.
_READ_ON_PACKETS = 64
# Packets of a file stay in memory up to this size, so that they are not read twice.
_KEPT_BYTES = 16_000_000
# A first group of pictures this long, or a video that is shorter, is decoded by most reads, so that decoding goes on behind the first frame.
_LONG_GROUP = 32


class LostFrameError(Exception):
    """Decoding does not agree with the packets; the whole video must be decoded to count its frames."""


class PacketInfo(NamedTuple):
    """A packet of the video stream."""

    pts: int | None  # presentation time in units of the stream; None if the container has none
    is_key: bool  # decoding can start here
    is_sound: bool  # not damaged, empty or marked as hidden
    size: int  # bytes


@dataclass
class Run:
    """A range of packets to decode."""

    first: int  # position of a key packet
    last: int  # position of the last packet that a requested frame needs
    targets: dict[int, int] = field(default_factory=dict)  # frame index by time stamp


@dataclass(frozen=True)
class PacketTable:
    """All packets of a video stream in decode order, which is that of the file."""

    packets: Sequence[PacketInfo]
    container: str  # FFmpeg's first name of the format
    codec: str  # canonical name
    is_complete: bool  # the file can be read to its end

    @cached_property
    def is_countable(self) -> bool:
        """Whether each packet holds one frame, as far as can be known without decoding."""
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
        keys = [stamp for stamp, packet in zip(stamps, self.packets, strict=True) if packet.is_key]
        if any(a >= b for a, b in pairwise(keys)):  # type: ignore[operator]
            return False
        return self.display_stamps[0] == stamps[0] and all(
            self._start_of[position] <= position for position in self._display
        )

    @cached_property
    def display_stamps(self) -> list[int]:
        """Time stamps of the frames in display order."""
        return sorted(packet.pts for packet in self.packets if packet.pts is not None)

    @cached_property
    def _display(self) -> list[int]:
        """Packet position of each displayed frame."""
        stamps = [packet.pts or 0 for packet in self.packets]
        return sorted(range(len(stamps)), key=stamps.__getitem__)

    @cached_property
    def _start_of(self) -> dict[int, int]:
        """Position of the key packet to start at, by packet position: the last key displayed no later than the frame.

        Frames that follow a key packet in the file but are displayed before it (open GOP) need the key before.
        """
        starts: dict[int, int] = {}
        start = 0
        for position in self._display:
            if self.packets[position].is_key:
                start = position
            starts[position] = start
        return starts

    def sizes(self) -> list[tuple[str, float]]:
        """Return picture type (I, P or B) and size of the packet of each frame in display order; requires `is_seekable`.

        A packet is of type B if a packet before it in the file is displayed after it. Sizes are in bytes above the smallest packet of
        the type, which repeats the frame before it.
        """
        kinds, latest = [], -math.inf
        for packet in self.packets:
            stamp = packet.pts or 0
            kinds.append("I" if packet.is_key else "B" if stamp < latest else "P")
            latest = max(latest, stamp)
        sized = [(kind, float(packet.size)) for kind, packet in zip(kinds, self.packets, strict=True)]
        smallest = {kind: min(size for other, size in sized if other == kind) for kind in set(kinds)}
        return [(sized[position][0], sized[position][1] - smallest[sized[position][0]]) for position in self._display]

    def decoding_costs(self) -> list[int]:
        """Return the packets from the key packet to each frame, in display order; requires `is_seekable`."""
        return [position - self._start_of[position] + 1 for position in self._display]

    def plan(self, indices: Sequence[int], *, separate: bool = False) -> list[Run]:
        """Return the packets to decode for frames in ascending order without duplicates; requires `is_seekable`.

        Adjacent runs are merged, unless `separate`: then each starts at another key packet, and runs may overlap.
        """
        runs: list[Run] = []
        for index in indices:
            position = self._display[index]
            start = self._start_of[position]
            if not runs or start > (runs[-1].first if separate else runs[-1].last + 1):
                runs.append(Run(start, position))
            run = runs[-1]
            run.last = max(run.last, position)
            run.targets[self.display_stamps[index]] = index
        return runs


def read_table(session: Session) -> PacketTable:
    """List the packets of a newly opened session; of a remote file, a session of its own does without their content."""
    if isinstance(session.media.file, RemoteFile) and session.parses:
        view = session.media.file.view()
        media = Media(session.media.name, file=view)
        with closing(Session(media, session.stream_number, session.max_pixels, parses=False)) as headers:
            view.skip_payload()
            return read_table(headers)
    packets, kept, size = [], [], 0
    for packet in session.packets():
        is_sound = packet.size > 0 and not packet.is_corrupt and not packet.is_discard
        packets.append(PacketInfo(packet.pts, packet.is_keyframe, is_sound, packet.size))
        size += packet.size
        if size <= _KEPT_BYTES:
            kept.append(packet)
        else:
            kept.clear()
    session.kept = kept if size <= _KEPT_BYTES else None
    container = session.container.format.name.split(",")[0]
    return PacketTable(packets, container, session.stream.codec_context.codec.canonical_name, not session.errors)


@dataclass(frozen=True)
class Count:
    """Result of decoding a whole video."""

    num_frames: int
    height: int  # of the first frame, as coded
    width: int
    orientation: Orientation
    stamps: list[int | None]  # one per frame; None if the decoder gave none
    errors: list[str]  # of the decoder
    frames: list[VideoFrame] | None  # all decoded frames if they fit into memory


def count_by_decoding(session: Session, kept_bytes: int) -> Count:
    """Decode a newly opened session to its end, and keep the frames if they fit into `kept_bytes`."""
    stamps: list[int | None] = []
    frames: list[VideoFrame] | None = []
    height = width = corrupt = 0
    orientation = Orientation()
    for frame in session.frames():
        if not stamps:
            height, width, orientation = frame.height, frame.width, read_orientation(frame)
        corrupt += bool(frame.is_corrupt)
        stamps.append(frame.pts)
        if frames is not None:
            frames.append(frame)
            kept_bytes -= sum(plane.buffer_size for plane in frame.planes)
            frames = frames if kept_bytes >= 0 else None
    errors = session.errors + (["frame marked as corrupt"] * corrupt)
    return Count(len(stamps), height, width, orientation, stamps, errors, frames)


def first_frame(session: Session, table: PacketTable) -> tuple[VideoFrame | None, Cursor | None]:
    """Decode the first frame of a session, whatever its position.

    Returns:
        The frame, None if it does not decode; and where decoding can go on, if the first group of pictures is long or the video short.
    """
    is_short = len(table.packets) <= _LONG_GROUP
    if table.is_seekable and (is_short or not any(packet.is_key for packet in table.packets[1:_LONG_GROUP])):
        with suppress(LostFrameError):
            cursor = Cursor(session, table)
            cursor.go_to(0)
            while not session.errors:
                frames = session.decode(cursor.next_packet())
                if frames:
                    cursor.decoded_from, cursor.decoded = 0, frames
                    return frames[0], cursor
        session.flush()
    for packet in _all_packets(session, table):
        frames = session.decode(packet) or session.decode(None)
        session.flush()
        if frames or session.errors:
            return (frames[0] if frames else None), None
    return None, None


def _all_packets(session: Session, table: PacketTable) -> Iterator[Packet[VideoStream]]:
    """Return all packets again; a seek is faster than opening the file again."""
    if table.is_seekable:
        cursor = Cursor(session, table)
        with suppress(LostFrameError):
            cursor.go_to(0)
            return cursor.packets
    session.restart()
    return session.packets()


def read_in_order(session: Session, indices: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Decode a newly opened session and yield the frames of ascending indices.

    Raises:
        LostFrameError: the video ends before the last of them.
    """
    remaining = iter(indices)
    target = next(remaining, None)
    if target is None:
        return
    for index, frame in enumerate(session.frames()):
        if index == target:
            yield index, frame
            target = next(remaining, None)
            if target is None:
                return
    raise LostFrameError


def read_run(cursor: Cursor, run: Run) -> Iterator[tuple[int, VideoFrame]]:
    """Decode one run of packets and yield its requested frames as they are decoded.

    Raises:
        LostFrameError: a seek failed, a packet did not decode, or a requested frame is missing.
    """
    from av.video.frame import PictureType

    session, table = cursor.session, cursor.table
    first = cursor.start(run)
    can_skip = table.codec in _SKIPPING_CODECS
    start_pts = table.packets[run.first].pts
    targets = dict(run.targets)
    started = run.first == 0
    for position in range(min(first, run.last + 1), run.last + 2):
        packet = cursor.next_packet() if position <= run.last else None
        if can_skip and packet is not None:
            session.skip_unreferenced(packet.pts not in targets)
        decoded, cursor.decoded = cursor.decoded, []
        for frame in [*decoded, *session.decode(packet)]:
            if frame.pts == start_pts and not started:
                # Intra refresh marks pictures as key that are not; decoding from them gives a blur.
                started = frame.pict_type == PictureType.I
            if frame.pts in targets and started:
                if frame.is_corrupt:
                    raise LostFrameError
                yield targets.pop(frame.pts), frame
        if session.errors:
            raise LostFrameError
    session.flush()
    if targets:
        raise LostFrameError


class Cursor:
    """Position of the demuxer in the file.

    Attributes:
        position: of the next packet; None at first.
        decoded_from: the packets from here to `position` are in the decoder, which was not flushed; None if none are.
        decoded: the frames that it has returned of them.
    """

    def __init__(self, session: Session, table: PacketTable):
        self.session = session
        self.table = table
        self.position: int | None = None
        self.decoded_from: int | None = None
        self.decoded: list[VideoFrame] = []
        self.packets: Iterator[Packet[VideoStream]] = iter(())

    def start(self, run: Run) -> int:
        """Go to the first packet of a run that is not in the decoder yet, and return its position.

        Raises:
            LostFrameError: the seek failed.
        """
        decoded_from, self.decoded_from = self.decoded_from, None
        if decoded_from is not None and self.position is not None:
            if decoded_from == run.first:
                return self.position
            self.session.flush()
            self.decoded = []
        self.go_to(run.first)
        return run.first

    def go_to(self, position: int) -> None:
        """Make `position` the next packet.

        Raises:
            LostFrameError: the seek failed.
        """
        if self.session.kept is not None:
            self.packets, self.position = self.session.packets(position), position
            return
        # of a remote file, what is read on is fetched
        read_on = 0 if isinstance(self.session.media.file, RemoteFile) else _READ_ON_PACKETS
        if self.position is None or position - self.position > read_on:
            self.position = self._seek(position)
        while self.position < position:
            self.next_packet()

    def _seek(self, position: int) -> int:
        pts = self.table.packets[position].pts
        if pts is None or not self.session.seek(pts):
            raise LostFrameError
        packets = self.session.packets()
        landed = next(packets, None)
        found = next((i for i in range(position, -1, -1) if landed and self._is(landed, i)), None)
        if landed is None or found is None:
            raise LostFrameError
        self.packets = chain([landed], packets)
        return found

    def next_packet(self) -> Packet[VideoStream]:
        """Return the next packet of the table.

        Raises:
            LostFrameError: the file has another one.
        """
        packet = next(self.packets, None)
        if packet is None or self.position is None or not self._is(packet, self.position):
            raise LostFrameError
        self.position += 1
        return packet

    def _is(self, packet: Packet[VideoStream], position: int) -> bool:
        packets = self.table.packets
        return position < len(packets) and bool(packet.pts == packets[position].pts)
