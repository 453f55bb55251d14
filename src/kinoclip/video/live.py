"""Live sources: a camera, a network stream, a pipe, or a file at its own frame rate."""

from __future__ import annotations

import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, cast

from kinoclip.video._session import Media, Session, reason_of, refuse_to_open
from kinoclip.video.display import Frame, read_orientation, to_rgb
from kinoclip.video.errors import VideoDecodeError
from kinoclip.video.sniffing import VIDEO_FORMATS

if TYPE_CHECKING:
    from av import VideoFrame

LiveTarget = str | BinaryIO

_MAX_PIXELS = 64_000_000
_LONGEST_WAIT_SECONDS = 30.0
_TIMEOUT_SECONDS = 10.0  # for the connection and for each packet
# Formats of network streams. Not playlists, which name further addresses.
_NETWORK_FORMATS = f"{VIDEO_FORMATS},rtsp,rtp,mpjpeg,mjpeg"
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsps,rtsp,rtp,udp,tcp,tls,crypto",
    "http": "http,tcp",
    "https": "https,http,tls,tcp",
}
# Analysis before the first frame, in microseconds and bytes.
_START_AT_ONCE = {"analyzeduration": "1000000", "probesize": "200000"}
_LOST = "{name}: the stream ended and {count} attempts to reconnect failed. Check the source and start again."


class _Pipe:
    """A pipe whose reads return the available bytes.

    A buffered file would block for the requested number of bytes, and Python cannot exit while a thread blocks in it.
    """

    def __init__(self, file: BinaryIO):
        self._read = getattr(file, "raw", file).read

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; a signal ends the data, because FFmpeg would drop an exception."""
        try:
            return bytes(self._read(size))
        except KeyboardInterrupt:
            return b""


class LiveSession(Session):
    """A connection to a live source."""

    def _open(self) -> None:
        import av

        name = self.media.name
        target: dict[str, Any] = {"file": name, "timeout": _TIMEOUT_SECONDS}
        options = {"max_pixels": str(self.max_pixels), **_START_AT_ONCE}
        scheme = name.partition("://")[0].lower()
        if self.media.file is not None:
            target = {"file": _Pipe(cast("BinaryIO", self.media.file)), "io_open": refuse_to_open}
            options["format_whitelist"] = _NETWORK_FORMATS
        elif self.media.path is not None:
            target = {"file": str(self.media.path)}
            options |= {"format_whitelist": VIDEO_FORMATS, "protocol_whitelist": "file"}
            if _is_camera(self.media.path):
                target["format"] = "v4l2"
                del options["format_whitelist"], options["protocol_whitelist"]
        else:
            options |= {"protocol_whitelist": _PROTOCOLS[scheme], "format_whitelist": _NETWORK_FORMATS}
        try:
            self.container = av.open(mode="r", options=options, metadata_errors="replace", **target)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise VideoDecodeError(
                f"{name}: cannot be opened as a video ({reason_of(error)}). Check that the source is on and sends video."
            ) from error
        self.stream = self._choose_stream()
        self._prepare_decoder(self.stream.codec_context)


def open_live(source: LiveTarget) -> LiveSession:
    """Connect to a source.

    Args:
        source: a camera (/dev/video0), an rtsp(s):// or http(s):// address, a file, or a binary pipe.

    Raises:
        FileNotFoundError: the file or camera does not exist.
        VideoRefusedError: the file is not a video.
        VideoDecodeError: the source cannot be opened.
        ValueError: unknown scheme of an address.
    """
    if not isinstance(source, str):
        media = Media(str(getattr(source, "name", "<pipe>")), file=source)
    elif "://" in source:
        if source.partition("://")[0].lower() not in _PROTOCOLS:
            raise ValueError(
                f"{source}: a live address must start with {', '.join(f'{name}://' for name in _PROTOCOLS)}."
            )
        media = Media(source)
    elif _is_camera(Path(source)):
        media = Media(source, path=Path(source))
    else:
        media = Media.of_path(source)
    return LiveSession(media, None, _MAX_PIXELS)


def _is_camera(path: Path) -> bool:
    try:
        return path.parts[:2] == ("/", "dev") and stat.S_ISCHR(path.stat().st_mode)
    except OSError as error:
        raise FileNotFoundError(f"{path}: the camera does not exist.") from error


def _ignore(_: str) -> None: ...


@dataclass
class LiveReader:
    """Frames of a live source at a constant rate.

    A thread reads the source into a ring buffer; if the consumer is too slow, the oldest frames are dropped. A file is played at its own
    frame rate. A network stream that breaks off is reconnected.

    Args:
        source: see `open_live`.
        frames_per_second: sampling rate.
        ring: maximum number of waiting frames.
        drop: drop frames instead of blocking the source.
        retries: consecutive attempts to reconnect.
        wait_seconds: before the first attempt; doubled for each further one, at most 30 s.
        notice: callback, called with messages about the connection.

    Attributes:
        dropped: number of dropped frames.
        arrived: arrival of the last yielded frame, by `time.monotonic`.

    Raises:
        ValueError: `frames_per_second` is not positive; or see `open_live`.
    """

    source: LiveTarget
    frames_per_second: float = 4.0
    ring: int = 16
    drop: bool = True
    retries: int = 5
    wait_seconds: float = 1.0
    notice: Callable[[str], None] = _ignore
    dropped: int = field(default=0, init=False)
    arrived: float = field(default=0.0, init=False)
    _error: BaseException | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.frames_per_second < float("inf"):
            raise ValueError(f"frames_per_second must be positive, got {self.frames_per_second}.")
        self._session = open_live(self.source)
        self._is_network = self._session.media.path is None and self._session.media.file is None
        self._waiting: deque[tuple[float, float, Frame]] = deque()
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._ended = False
        self._start = time.monotonic()
        self._clock = _Clock(self.frames_per_second)
        self._thread = threading.Thread(target=self._run, name="kinoclip-live", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join(timeout=0.5)  # a thread that waits for a silent source ends with the process

    def __iter__(self) -> Iterator[tuple[float, Frame]]:
        """Yield the time in seconds after the start and the frame (H, W, 3) uint8, until the source ends or `stop`.

        Raises:
            VideoDecodeError: the stream could not be reconnected.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    break
                self.arrived, seconds, frame = self._waiting.popleft()
                self._changed.notify_all()
            yield seconds, frame
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Close the source; waiting frames are still yielded."""
        self._stopped.set()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._clock.connect(time.monotonic() - self._start)
                for packet in chain(self._session.packets(), [None]):  # None flushes the decoder
                    for frame in self._session.decode(packet):
                        self._take(frame)
                    self._session.errors.clear()
                    if self._stopped.is_set():
                        break
                has_size = self._session.container.size > 0  # so that its end is not a lost connection
                if not self._is_network or has_size:
                    break
                self._session.close()
                self._reconnect()
        except BaseException as error:
            self._error = error
        finally:
            self._session.close()
            self.stop()

    def _take(self, frame: VideoFrame) -> None:
        base = self._session.stream.time_base  # flushed frames have another time base
        stamp = None if frame.pts is None or base is None else float(frame.pts * base)
        seconds, is_due = self._clock.time(stamp, time.monotonic() - self._start)
        if not is_due:
            return
        if self._session.media.path is not None:
            self._stopped.wait(max(0.0, self._start + seconds - time.monotonic()))
        picture = to_rgb(frame, read_orientation(frame))
        with self._changed:
            if not self.drop:
                self._changed.wait_for(lambda: len(self._waiting) < self.ring or self._stopped.is_set())
            elif len(self._waiting) == self.ring:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append((time.monotonic(), seconds, picture))
            self._changed.notify_all()

    def _reconnect(self) -> None:
        for attempt in range(self.retries):
            self.notice(f"{self.source}: the stream ended; reconnecting, attempt {attempt + 1} of {self.retries}")
            if self._stopped.wait(min(_LONGEST_WAIT_SECONDS, self.wait_seconds * 2**attempt)):
                return
            try:
                self._session = open_live(self.source)
                return
            except VideoDecodeError:
                continue
        if not self._stopped.is_set():
            raise VideoDecodeError(_LOST.format(name=self.source, count=self.retries))


class _Clock:
    """Times of frames over several connections, and which of them are sampled."""

    def __init__(self, frames_per_second: float):
        self.frames_per_second = frames_per_second
        self.latest, self.due = -1.0, 0
        self.offset: float | None = None
        self.connected = 0.0

    def connect(self, now: float) -> None:
        """Start a connection: the next frame is displayed now, whatever its time stamp, and after all before."""
        self.connected = now if self.latest < 0 else max(now, self.latest + 1 / self.frames_per_second)
        self.offset = None

    def time(self, stamp: float | None, now: float) -> tuple[float, bool]:
        """Return the time of a frame in seconds after the start, and whether it is sampled."""
        if stamp is None:
            seconds = now
        else:
            if self.offset is None or stamp + self.offset < self.latest:
                first = self.connected if self.offset is None else self.latest
                self.offset = first - stamp
            seconds = stamp + self.offset
        self.latest = max(self.latest, seconds)
        step = int(seconds * self.frames_per_second + 1e-6)
        is_due = step >= self.due
        if is_due:
            self.due = step + 1
        return seconds, is_due
