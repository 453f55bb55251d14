"""Read a source as it comes: a camera, a stream of the network, a pipe, or a file at its own pace."""

from __future__ import annotations

import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from kinoclip.video.display import Frame, read_orientation, to_rgb
from kinoclip.video.errors import VideoDecodeError
from kinoclip.video.media import Media, Session, reason_of, refuse_to_open
from kinoclip.video.sniffing import VIDEO_FORMATS

if TYPE_CHECKING:
    from av import VideoFrame

LiveTarget = str | BinaryIO

_MAX_PIXELS = 64_000_000
_LONGEST_WAIT_SECONDS = 30.0
# what a stream of the network may be made of; a playlist, which names further addresses, is nothing of that
_NETWORK_FORMATS = f"{VIDEO_FORMATS},rtsp,rtp,mpjpeg,mjpeg"
_PROTOCOLS = {
    "rtsp": "rtsp,rtp,udp,tcp",
    "rtsps": "rtsps,rtsp,rtp,udp,tcp,tls,crypto",
    "http": "http,tcp",
    "https": "https,http,tls,tcp",
}
# how much FFmpeg looks at before the first frame: microseconds and bytes
_START_AT_ONCE = {"analyzeduration": "1000000", "probesize": "200000"}
_LOST = "{name}: the stream ended {count} times in a row and did not come back. Check the source and start again."


class _Pipe:
    """A pipe that gives what has come so far.

    A buffered file would wait until it has all that was asked for, and Python could not end while a thread waits in it.
    """

    def __init__(self, file: BinaryIO):
        self.read = getattr(file, "raw", file).read


@dataclass
class LiveSession(Session):
    """One connection to a live source.

    Args:
        timeout_seconds: how long to wait for an answer of the network, and then for each packet.
    """

    timeout_seconds: float = 10.0

    def _open(self) -> None:
        import av

        name = self.media.name
        target: dict[str, Any] = {"file": name, "timeout": self.timeout_seconds}
        options = {"max_pixels": str(self.max_pixels), **_START_AT_ONCE}
        scheme = name.partition("://")[0].lower()
        if self.media.file is not None:
            target = {"file": _Pipe(self.media.file), "io_open": refuse_to_open}
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
                f"{name}: no video comes from there ({reason_of(error)}). Check that the source is on and sends video."
            ) from error
        self.stream = self._choose_stream()
        self._prepare_decoder()

    @property
    def is_finite(self) -> bool:
        """Whether the source has a last byte, so that its end is no lost connection."""
        return bool(self.container.size > 0)


def open_live(source: LiveTarget, *, timeout_seconds: float = 10.0) -> LiveSession:
    """Connect to a source.

    Args:
        source: a camera (/dev/video0), an rtsp(s):// or http(s):// address, a file, or a binary pipe.
        timeout_seconds: see `LiveSession`.

    Raises:
        FileNotFoundError: no such file or camera.
        VideoRefusedError: a file that is no video.
        VideoDecodeError: nothing comes from there.
        ValueError: an address of another kind.
    """
    if not isinstance(source, str):
        media = Media(str(getattr(source, "name", "<pipe>")), file=source)
    elif "://" in source:
        if source.partition("://")[0].lower() not in _PROTOCOLS:
            raise ValueError(f"{source}: a live address starts with {', '.join(f'{name}://' for name in _PROTOCOLS)}.")
        media = Media(source)
    elif _is_camera(Path(source)):
        media = Media(source, path=Path(source))
    else:
        media = Media.of_path(source)
    return LiveSession(media, None, _MAX_PIXELS, timeout_seconds=timeout_seconds)


def _is_camera(path: Path) -> bool:
    try:
        return path.parts[:2] == ("/", "dev") and stat.S_ISCHR(path.stat().st_mode)
    except OSError as error:
        raise FileNotFoundError(f"{path}: there is no such camera.") from error


def _say_nothing(_: str) -> None: ...


@dataclass
class LiveReader:
    """Frames of a live source at an even rate, in the order they come.

    A thread reads the source and keeps the newest pictures in a ring; whoever is too slow loses the oldest, and never falls
    behind. A file is played at its own pace. A stream of the network that breaks off is called again.

    Args:
        source: see `open_live`.
        frames_per_second: how densely to look.
        ring: pictures that wait at most.
        drop: lose pictures rather than let the source wait.
        retries: how often in a row a lost stream is called again.
        wait_seconds: before the first of these calls; each further one waits twice as long, 30 s at most.
        notice: hears what happens to the connection.

    Attributes:
        dropped: pictures that were lost.
        arrived: when the picture that was given last came in, by `time.monotonic`.

    Raises:
        ValueError: `frames_per_second` is not above 0; or what `open_live` raises.
    """

    source: LiveTarget
    frames_per_second: float = 4.0
    ring: int = 16
    drop: bool = True
    retries: int = 5
    wait_seconds: float = 1.0
    notice: Callable[[str], None] = _say_nothing
    dropped: int = field(default=0, init=False)
    arrived: float = field(default=0.0, init=False)
    _error: BaseException | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.frames_per_second < float("inf"):
            raise ValueError(f"frames_per_second is {self.frames_per_second}. Give a number above 0.")
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join(timeout=2)  # one that waits for a silent source ends with the process

    def __iter__(self) -> Iterator[tuple[float, Frame]]:
        """Give each picture (H, W, 3) uint8 and its time in seconds after the start, until the source ends or `stop`.

        Raises:
            VideoDecodeError: the stream was lost for good.
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
        """Let the source go; what waits is given still."""
        self._stopped.set()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                self._clock.connect(time.monotonic() - self._start)
                for packet in chain(self._session.packets(), [None]):  # None: what the decoder holds back
                    for frame in self._session.decode(packet):
                        self._take(frame)
                    self._session.errors.clear()
                    if self._stopped.is_set():
                        break
                if not self._is_network or self._session.is_finite:
                    break
                self._session.close()
                self._reconnect()
        except BaseException as error:
            self._error = error
        finally:
            self._session.close()
            self.stop()

    def _take(self, frame: VideoFrame) -> None:
        base = self._session.stream.time_base  # that of a frame the decoder held back is another
        stamp = None if frame.pts is None or base is None else float(frame.pts * base)
        seconds, is_wanted = self._clock.time(stamp, time.monotonic() - self._start)
        if not is_wanted:
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
            self.notice(f"{self.source}: the stream ended; calling again, {attempt + 1} of {self.retries}")
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
    """The times of frames over several connections, and which of them are due."""

    def __init__(self, frames_per_second: float):
        self.frames_per_second = frames_per_second
        self.latest, self.due = -1.0, 0
        self.offset: float | None = None
        self.connected = 0.0

    def connect(self, now: float) -> None:
        """Begin anew: the next frame is shown now, whatever time it carries, and after those before."""
        self.connected = now if self.latest < 0 else max(now, self.latest + 1 / self.frames_per_second)
        self.offset = None

    def time(self, stamp: float | None, now: float) -> tuple[float, bool]:
        """Give the seconds after the start at which a frame is shown, and whether it is due."""
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
