"""Open one video stream with FFmpeg, and nothing but that."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kinoclip.video.errors import VideoDecodeError, VideoRefusedError
from kinoclip.video.sniffing import HEAD_BYTES, VIDEO_FORMATS, check_head
from kinoclip.video.time_limits import check_time

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

# FFmpeg lets a file of 1 MB declare 1000, for which it takes 800 MB and many seconds.
_MAX_STREAMS = 100


@dataclass
class Media:
    """A file or bytes that may hold a video.

    Args:
        name: for messages.
        path: of a regular file, absolute.
        file: or a seekable binary file.
    """

    name: str
    path: Path | None = None
    file: BinaryIO | None = None

    @staticmethod
    def of_path(path: str | os.PathLike[str], name: str | None = None) -> Media:
        """Take a regular file that may be a video by its first bytes.

        Raises:
            FileNotFoundError: there is none.
            VideoRefusedError: a device, a pipe, a socket, or no video by its first bytes.
        """
        name = name or os.fspath(path)
        # Absolute, because FFmpeg takes "colon:name.mp4" and "concat:a|b" for protocols.
        absolute = Path(os.path.abspath(path))  # noqa: PTH100, Path.absolute keeps ".."
        try:
            found = absolute.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(f"{name}: there is no such file.") from error
        except (OSError, ValueError) as error:
            raise VideoDecodeError(
                f"{name}: the file cannot be opened ({error}). Check path and permissions."
            ) from error
        if not stat.S_ISREG(found.st_mode):
            raise VideoRefusedError(
                f"{name}: this is no regular file (a pipe, a socket or a device). Copy it to a file."
            )
        try:
            # files of the kernel say that they hold nothing, and reading one may wait for ever
            with absolute.open("rb") as file:
                head = file.read(HEAD_BYTES) if found.st_size else b""
        except OSError as error:
            raise VideoDecodeError(
                f"{name}: the file cannot be read ({error.strerror}). Check its permissions."
            ) from error
        check_head(head, name)
        return Media(name, path=absolute)

    @staticmethod
    def of_bytes(content: bytes, name: str = "<bytes>") -> Media:
        """Take a video from memory; nothing is written to disk."""
        check_head(content[:HEAD_BYTES], name)
        return Media(name, file=BytesIO(content))

    @property
    def can_be_shared(self) -> bool:
        """Whether it can be read twice at once: not a file that somebody else has open."""
        return self.file is None or isinstance(self.file, BytesIO)

    def again(self) -> Media:
        """Give the same to be read beside this one, if it can be shared."""
        return Media(self.name, file=BytesIO(self.file.getvalue())) if isinstance(self.file, BytesIO) else self

    @staticmethod
    def of_file(file: BinaryIO, name: str) -> Media:
        """Take a seekable binary file, from its beginning."""
        file.seek(0)
        check_head(file.read(HEAD_BYTES), name)
        return Media(name, file=file)


@dataclass
class Session:
    """One open container and the decoder of its video stream; each decode error is noted, none is raised.

    Args:
        media: what to open.
        stream_number: which of the video streams, attached pictures not counted; None takes the largest.
        max_pixels: of a frame; larger ones are not decoded.
    """

    media: Media
    stream_number: int | None
    max_pixels: int
    errors: list[str] = field(default_factory=list)

    container: InputContainer = field(init=False)
    stream: VideoStream = field(init=False)

    def __post_init__(self) -> None:
        self._open()

    def _open(self) -> None:
        import av

        options = {
            "format_whitelist": VIDEO_FORMATS,
            "protocol_whitelist": "file",
            "max_pixels": str(self.max_pixels),
            "max_streams": str(_MAX_STREAMS),
        }
        target: dict[str, Any] = {"file": str(self.media.path)}
        if self.media.file is not None:
            self.media.file.seek(0)
            target = {"file": self.media.file, "io_open": refuse_to_open}
        try:
            self.container = av.open(mode="r", options=options, metadata_errors="replace", **target)
        except (av.FFmpegError, OSError, ValueError) as error:
            # FFmpeg says so of too many streams, too
            is_memory = getattr(error, "errno", None) == errno.ENOMEM
            reason = f"more than {_MAX_STREAMS} streams, or too little memory" if is_memory else reason_of(error)
            raise VideoDecodeError(
                f"{self.media.name}: FFmpeg finds no video it can open ({reason}). "
                "The file is damaged, incomplete or of another kind; try `ffprobe` on it, or re-encode it."
            ) from error
        self.stream = self._choose_stream()
        self._prepare_decoder()

    def _choose_stream(self) -> VideoStream:
        from av.stream import Disposition

        name = self.media.name
        streams = [s for s in self.container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            self.container.close()
            raise VideoDecodeError(f"{name}: there is no video stream in it, only sound, a cover picture or nothing.")
        number = self.stream_number
        if number is not None and not 0 <= number < len(streams):
            self.container.close()
            raise ValueError(f"{name}: stream={number}, but it has {len(streams)} video streams, counted from 0.")
        usable = [s for s in streams if s.codec_context is not None]
        chosen = streams[number] if number is not None else max(usable or streams, key=_num_pixels)
        if chosen.codec_context is None:
            self.container.close()
            raise VideoDecodeError(f"{name}: this FFmpeg has no decoder for its video. Re-encode it, to H.264 say.")
        return chosen

    def _prepare_decoder(self) -> None:
        codec = self.stream.codec_context
        codec.options = {"max_pixels": str(self.max_pixels)}
        # Threads of FFmpeg make what a damaged video gives differ, and deadlock on it once somebody has set PyAV's log level.
        codec.thread_type, codec.thread_count = "NONE", 1

    def open_again(self) -> Session:
        """Open the same stream once more, to be decoded beside this one; `media` can be shared.

        Raises:
            VideoDecodeError: that fails.
        """
        return Session(self.media.again(), self.stream_number, self.max_pixels)

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Give the packets from here to the end of the file, or to where it cannot be read on.

        Raises:
            VideoTimeoutError: the time of `time_limit` is over.
        """
        import av

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
        """Give the frames that this packet lets out, or with None all that are still inside."""
        import av

        try:
            frames = self.stream.codec_context.decode(packet)
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
        """Decode everything from here to the end."""
        for packet in self.packets():
            yield from self.decode(packet)
        yield from self.decode(None)

    def seek(self, pts: int) -> bool:
        """Go to the key packet at or before a timestamp; says whether FFmpeg managed to."""
        import av

        try:
            self.container.seek(pts, stream=self.stream)
        except (av.FFmpegError, OSError, ValueError):
            return False
        return True

    def skip_unreferenced(self, skip: bool) -> None:
        """Let the decoder leave out, or not, frames that no other frame needs."""
        self.stream.codec_context.skip_frame = "NONREF" if skip else "DEFAULT"

    def flush(self) -> None:
        """Make the decoder ready again after `decode(None)`."""
        if self.stream.codec_context.is_open:
            self.stream.codec_context.flush_buffers()

    def reopen(self) -> None:
        """Start again at the first packet, with a fresh decoder."""
        self.close()
        self.errors = []
        self._open()

    def close(self) -> None:
        """Let go of file, buffers and threads."""
        self.container.close()


def _num_pixels(stream: VideoStream) -> int:
    codec = stream.codec_context
    return codec.width * codec.height if codec is not None else 0


def refuse_to_open(url: str, flags: int, options: dict[str, str]) -> BinaryIO:
    """Keep a video in memory from opening anything."""
    raise PermissionError(f"a video in memory may not open {url!r}")


def reason_of(error: Exception) -> str:
    """Say in a few words what FFmpeg said, without the name of the file."""
    text = getattr(error, "strerror", None) or str(error)
    return str(text).split(":")[0].strip() or type(error).__name__
