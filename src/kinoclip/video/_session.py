"""One video stream, opened with FFmpeg under a whitelist of formats and protocols."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kinoclip.video._remote import RemoteFile
from kinoclip.video.errors import VideoDecodeError
from kinoclip.video.limits import check_time
from kinoclip.video.sniffing import HEAD_BYTES, VIDEO_FORMATS, check_head, check_regular_file

if TYPE_CHECKING:
    from av import Packet, VideoCodecContext, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# A file of 1 MB can declare 1000 streams, for which FFmpeg takes 800 MB and many seconds.
_MAX_STREAMS = 100
# What a container tells a decoder; these codecs need no more.
_PARAMETERS = ("extradata", "width", "height", "pix_fmt", "color_range", "color_primaries", "color_trc", "colorspace")
_SHARED_CODECS = {"h264", "hevc", "av1", "vp9"}
# H.264 may leave open how many frames wait for their turn. FFmpeg finds out as it opens a file; a new decoder that waits for too few loses frames.
# More than 15 cannot wait.
_MOST_DELAYED = {"has_b_frames": "15"}


@dataclass
class Media:
    """A file or bytes that may hold a video."""

    name: str  # in messages
    path: Path | None = None  # absolute, of a regular file
    file: BinaryIO | RemoteFile | None = None  # a seekable binary file instead

    @staticmethod
    def of_path(path: str | os.PathLike[str], name: str | None = None) -> Media:
        """Check that a path is a regular file whose first bytes may be a video; see `check_regular_file`.

        Raises:
            VideoRefusedError: not a video by its first bytes.
        """
        name = name or os.fspath(path)
        # Absolute, because FFmpeg takes "colon:name.mp4" and "concat:a|b" for protocols.
        absolute = Path(os.path.abspath(path))  # noqa: PTH100, Path.absolute keeps ".."
        size = check_regular_file(absolute, name)
        try:
            # Files of the kernel have size 0, and reading one may block forever.
            with absolute.open("rb") as file:
                head = file.read(HEAD_BYTES) if size else b""
        except OSError as error:
            raise VideoDecodeError(
                f"{name}: the file cannot be read ({error.strerror}). Check its permissions."
            ) from error
        check_head(head, name)
        return Media(name, path=absolute)

    @staticmethod
    def of_bytes(content: bytes, name: str = "<bytes>") -> Media:
        """Check bytes in memory; nothing is written to disk."""
        check_head(content[:HEAD_BYTES], name)
        return Media(name, file=BytesIO(content))

    @property
    def can_be_shared(self) -> bool:
        """Whether it can be opened a second time: not a file object of the caller."""
        return self.file is None or isinstance(self.file, BytesIO | RemoteFile)

    def again(self) -> Media:
        """Return the same media for a second session."""
        if isinstance(self.file, RemoteFile):
            return Media(self.name, file=self.file.view())
        return Media(self.name, file=BytesIO(self.file.getvalue())) if isinstance(self.file, BytesIO) else self

    @staticmethod
    def of_file(file: BinaryIO | RemoteFile, name: str) -> Media:
        """Check a seekable binary file from its beginning."""
        file.seek(0)
        check_head(file.read(HEAD_BYTES), name)
        return Media(name, file=file)


@dataclass
class Session:
    """An open container and the decoder of its video stream; decode errors are collected, not raised.

    Args:
        media: to open.
        stream_number: of the video streams without attached pictures; None takes the largest.
        max_pixels: per frame; larger frames are not decoded.
        decoder_options: further options of FFmpeg's decoder.
        parses: whether FFmpeg looks into packets for what the container may not say, such as key frames.

    Attributes:
        decoder: of the stream; that of the container, or one of its own after `share`.
        kept: all packets, if they have been read and are small enough to stay in memory.
    """

    media: Media
    stream_number: int | None
    max_pixels: int
    decoder_options: Mapping[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    parses: bool = True

    container: InputContainer = field(init=False)
    stream: VideoStream = field(init=False)
    decoder: VideoCodecContext = field(init=False)
    kept: list[Packet[VideoStream]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._open()

    def _open(self) -> None:
        import av

        options = {
            "format_whitelist": VIDEO_FORMATS,
            "protocol_whitelist": "file",
            "max_pixels": str(self.max_pixels),
            "max_streams": str(_MAX_STREAMS),
            **({} if self.parses else {"fflags": "noparse"}),
        }
        target: dict[str, Any] = {"file": str(self.media.path)}
        if self.media.file is not None:
            self.media.file.seek(0)
            target = {"file": self.media.file, "io_open": refuse_to_open}
        try:
            self.container = av.open(mode="r", options=options, metadata_errors="replace", **target)
        except (av.FFmpegError, OSError, ValueError) as error:
            # FFmpeg reports too many streams as lack of memory.
            is_memory = getattr(error, "errno", None) == errno.ENOMEM
            reason = f"more than {_MAX_STREAMS} streams, or too little memory" if is_memory else reason_of(error)
            raise VideoDecodeError(
                f"{self.media.name}: FFmpeg cannot open it as a video ({reason}). "
                "The file is damaged, incomplete or of another type; try `ffprobe` on it, or re-encode it."
            ) from error
        self.stream = self._choose_stream()
        self._prepare_decoder(self.stream.codec_context)

    def _choose_stream(self) -> VideoStream:
        from av.stream import Disposition

        name = self.media.name
        streams = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            self.container.close()
            raise VideoDecodeError(f"{name}: the file has no video stream, only sound, a cover picture or nothing.")
        number = self.stream_number
        if number is not None and not 0 <= number < len(streams):
            self.container.close()
            raise VideoDecodeError(f"{name}: stream must be from 0 to {len(streams) - 1}, got {number}.")
        usable = [s for s in streams if s.codec_context is not None]
        chosen = streams[number] if number is not None else max(usable or streams, key=_num_pixels)
        if chosen.codec_context is None:
            self.container.close()
            raise VideoDecodeError(
                f"{name}: this FFmpeg has no decoder for its codec. Re-encode it, for example to H.264."
            )
        return chosen

    def _prepare_decoder(self, decoder: VideoCodecContext) -> None:
        self.decoder = decoder
        self.decoder.options = {"max_pixels": str(self.max_pixels), **self.decoder_options}
        # With FFmpeg's threads the frames of a damaged video vary, and can deadlock once PyAV's log level was set.
        self.decoder.thread_type, self.decoder.thread_count = "NONE", 1

    def open_again(self, **decoder_options: str) -> Session:
        """Open the same stream in a second session, with options of the decoder; requires `media.can_be_shared`.

        Raises:
            VideoDecodeError: it cannot be opened.
        """
        return Session(self.media.again(), self.stream_number, self.max_pixels, decoder_options)

    def share(self) -> Session | None:
        """Return a session with the kept packets of this one and another decoder, for another thread; closing one closes the file of both.

        None if no packets were kept, or the codec may need more than `_PARAMETERS`.
        """
        import av

        source = self.stream.codec_context
        if self.kept is None or source.codec.canonical_name not in _SHARED_CODECS:
            return None
        decoder: Any = av.VideoCodecContext.create(source.codec, "r")
        for name in _PARAMETERS:
            setattr(decoder, name, getattr(source, name))
        other = copy(self)
        other.errors = []
        other.decoder_options = {**self.decoder_options, **_MOST_DELAYED}
        other._prepare_decoder(decoder)
        return other

    def packets(self, start: int = 0) -> Iterator[Packet[VideoStream]]:
        """Yield the packets to the end of the file, or to where it becomes unreadable.

        Args:
            start: position of the first one among `kept`; without these, the position of the file counts.

        Raises:
            VideoTimeoutError: the time of `time_limit` is over.
        """
        import av

        if self.kept is not None:
            for kept in self.kept[start:]:
                check_time(self.media.name)
                yield kept
            return
        packets = self.container.demux(self.stream)
        while True:
            check_time(self.media.name)
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError, ValueError) as error:
                self.errors.append(reason_of(error))
                return
            if packet is None or (packet.size == 0 and packet.pts is None and packet.dts is None):
                return
            yield packet

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """Decode a packet, or with None flush the decoder, and return the finished frames."""
        import av

        try:
            frames = self.decoder.decode(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            self.errors.append(reason_of(error))
            return []
        for frame in frames:
            if frame.width * frame.height > self.max_pixels:
                raise VideoDecodeError(
                    f"{self.media.name}: a frame of {frame.width} x {frame.height} is larger than max_pixels="
                    f"{self.max_pixels}. Pass a larger max_pixels if you trust the file."
                )
        return frames

    def frames(self) -> Iterator[VideoFrame]:
        """Decode to the end."""
        for packet in self.packets():
            yield from self.decode(packet)
        yield from self.decode(None)

    def seek(self, pts: int) -> bool:
        """Seek to the key packet at or before a time stamp; return whether it succeeded."""
        import av

        try:
            self.container.seek(pts, stream=self.stream)
        except (av.FFmpegError, OSError, ValueError):
            return False
        return True

    def skip_unreferenced(self, skip: bool) -> None:
        """Set whether the decoder skips frames that no other frame references."""
        self.decoder.skip_frame = "NONREF" if skip else "DEFAULT"

    def flush(self) -> None:
        """Reset the decoder after `decode(None)`."""
        if self.decoder.is_open:
            self.decoder.flush_buffers()

    def restart(self) -> None:
        """Go back to the first packet, with a new decoder: open the file again if packets are not kept or some were decoded."""
        if self.kept is not None and not self.decoder.is_open:
            return
        self.container.close()
        self.errors = []
        self._open()

    def close(self) -> None:
        """Close the file."""
        self.container.close()
        self.kept = None


def _num_pixels(stream: VideoStream) -> int:
    codec = stream.codec_context
    return codec.width * codec.height if codec is not None else 0


def refuse_to_open(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    """Raise an error: a video in memory must not open files."""
    raise PermissionError(f"a video in memory may not open {url!r}")


def reason_of(error: Exception) -> str:
    """Return FFmpeg's message without the name of the file."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split(":")[0].split()) or type(error).__name__
