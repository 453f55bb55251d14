"""Read wanted frames from an open session: along its packets where that is safe, otherwise in the order they come out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kinoclip.video.display import Orientation, read_orientation
from kinoclip.video.media import Session
from kinoclip.video.packets import PacketInfo, PacketTable, Run

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

# Decoders that leave out frames nobody refers to without a change in the others.
_SKIPPING_CODECS = {"h264", "hevc"}
# Over this many packets a seek is quicker than reading on.
_READ_ON_PACKETS = 64


class LostFrameError(Exception):
    """A pass did not give what the packets promised; the file must be decoded in full to know what it holds."""


@dataclass(frozen=True)
class Count:
    """What decoding a whole video showed.

    Args:
        num_frames: that came out.
        height: of the first, as coded.
        width: of the first, as coded.
        orientation: of the first.
        stamps: one per frame, None where the decoder gave none.
        errors: what the decoder complained of.
        frames: all of them, as decoded, if they are small enough to keep.
    """

    num_frames: int
    height: int
    width: int
    orientation: Orientation
    stamps: list[int | None]
    errors: list[str]
    frames: list[VideoFrame] | None


def read_table(session: Session) -> PacketTable:
    """List the packets of a freshly opened session."""
    packets = [
        PacketInfo(
            packet.pts,
            packet.is_keyframe,
            packet.size > 0 and not packet.is_corrupt and not packet.is_discard,
            packet.size,
        )
        for packet in session.packets()
    ]
    container = session.container.format.name.split(",")[0]
    return PacketTable(packets, container, session.stream.codec_context.codec.canonical_name, not session.errors)


def count_by_decoding(session: Session, kept_bytes: int) -> Count:
    """Decode a freshly opened session to its end, and keep its frames if they all fit into `kept_bytes`."""
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


def first_frame(session: Session, table: PacketTable) -> VideoFrame | None:
    """Decode just enough of a session, wherever it stands, to get a frame out."""
    for packet in _from_start(session, table):
        frames = session.decode(packet) or session.decode(None)
        session.flush()
        if frames or session.errors:
            return frames[0] if frames else None
    return None


def _from_start(session: Session, table: PacketTable) -> Iterator[Packet[VideoStream]]:
    """Give all packets again; to seek is quicker than to open the file anew."""
    cursor = Cursor(session, table)
    if table.is_seekable:
        with suppress(LostFrameError):
            cursor.go_to(0)
            return cursor.rest()
    session.reopen()
    return session.packets()


def read_in_order(session: Session, indices: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
    """Count frames as they come out of a freshly opened session and give the wanted ones, which ascend.

    Raises:
        LostFrameError: the video ends before the last of them.
    """
    wanted = iter(indices)
    target = next(wanted, None)
    if target is None:
        return
    for index, frame in enumerate(session.frames()):
        if index == target:
            yield index, frame
            target = next(wanted, None)
            if target is None:
                return
    raise LostFrameError


def read_along_packets(
    session: Session, table: PacketTable, indices: Sequence[int]
) -> Iterator[tuple[int, VideoFrame]]:
    """Decode only what the wanted frames need; they ascend, and come out ascending.

    Raises:
        LostFrameError: a seek went astray, a packet did not decode, or a wanted frame did not come out.
    """
    cursor = Cursor(session, table)
    for run in table.plan(indices):
        yield from read_run(session, table, cursor, run)


def read_run(session: Session, table: PacketTable, cursor: Cursor, run: Run) -> Iterator[tuple[int, VideoFrame]]:
    """Decode one stretch of packets, and give the wanted frames as they come out.

    Raises:
        LostFrameError: see `read_along_packets`.
    """
    from av.video.frame import PictureType

    cursor.go_to(run.first)
    can_skip = table.codec in _SKIPPING_CODECS
    start_pts = table.packets[run.first].pts
    targets = dict(run.targets)
    started = run.first == 0
    for position in range(run.first, run.last + 2):
        is_past_the_end = position > run.last
        packet = None if is_past_the_end else cursor.next_packet()
        if can_skip and packet is not None:
            session.skip_unreferenced(packet.pts not in targets)
        for frame in session.decode(packet):
            if frame.pts == start_pts and not started:
                # Intra refresh marks pictures as key that are none: what follows would be a blur.
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
    """Where in the file the demuxer stands."""

    def __init__(self, session: Session, table: PacketTable):
        self.session = session
        self.table = table
        self.position = -1
        self.packets: Iterator[Packet[VideoStream]] | None = None

    def go_to(self, position: int) -> None:
        """Make `position` the next packet."""
        if self.packets is None or position - self.position > _READ_ON_PACKETS:
            self._seek(position)
        while self.position < position:
            self.next_packet()

    def _seek(self, position: int) -> None:
        pts = self.table.packets[position].pts
        if pts is None or not self.session.seek(pts):
            raise LostFrameError
        self.packets = self.session.packets()
        landed = next(self.packets, None)
        self.position = next((i for i in range(position, -1, -1) if landed and self._is(landed, i)), position + 1)
        if landed is None or self.position > position:
            raise LostFrameError
        self.packets = _chain(landed, self.packets)

    def rest(self) -> Iterator[Packet[VideoStream]]:
        """Give the packets from here on as they come."""
        return self.packets or iter(())

    def next_packet(self) -> Packet[VideoStream]:
        """Give the packet that is next by the table.

        Raises:
            LostFrameError: another one comes.
        """
        packet = next(self.packets, None) if self.packets is not None else None
        if packet is None or not self._is(packet, self.position):
            raise LostFrameError
        self.position += 1
        return packet

    def _is(self, packet: Packet[VideoStream], position: int) -> bool:
        packets = self.table.packets
        return position < len(packets) and bool(packet.pts == packets[position].pts)


def _chain(first: Packet[VideoStream], rest: Iterator[Packet[VideoStream]]) -> Iterator[Packet[VideoStream]]:
    yield first
    yield from rest
