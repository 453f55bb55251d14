"""Look into many videos before anything is trained on them: which cannot be read, and what they are like."""

from __future__ import annotations

import io
import json
import multiprocessing
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from kinoclip.video import VideoDecodeError, VideoReader, VideoRefusedError, VideoSource

from .layouts import is_video_file

if TYPE_CHECKING:
    import datasets

Record = dict[str, Any]
# videos that wait for a process, for each process
_WAITING = 4


def inspect_video(source: VideoSource, name: str, full: bool = False) -> Record:
    """Say what a video is like: codec, size, length; or why it cannot be read.

    Args:
        source: path, bytes or folder of frames.
        name: what the record calls it.
        full: decode every frame, not the first, the middle and the last.

    Returns:
        `video` and `width`, `height`, `rotation`, `fps`, `num_frames`, `duration_seconds`, `codec`, `damage`; or `error`; or
        `skipped` for a file that is no video and does not end like one.
    """
    record: Record = {"video": name, "full": full, **_stamp(source)}
    try:
        with VideoReader(source, exact=full) as reader:
            last = reader.num_frames - 1
            reader.frames([0, last // 2, last], transform=lambda frame: frame[:, :1, :1])
            fields = ("width", "height", "rotation", "fps", "num_frames", "duration_seconds", "damage")
            return {**record, **{field: getattr(reader, field) for field in fields}, "codec": _codec(source)}
    except VideoRefusedError as error:
        if isinstance(source, str) and not is_video_file(Path(source)):
            return {**record, "skipped": _line(error)}
        return {**record, "error": {"type": type(error).__name__, "message": _line(error)}}
    except (VideoDecodeError, OSError) as error:
        return {**record, "error": {"type": type(error).__name__, "message": _line(error)}}


def inspect_videos(
    videos: Iterable[tuple[VideoSource, str]], *, workers: int = 0, full: bool = False
) -> Iterator[Record]:
    """Inspect many videos, in order.

    Args:
        videos: source and name of each.
        workers: processes; 0 stays in this one. A video that ends a process is an error of its own.
        full: see `inspect_video`.
    """
    if workers < 1:
        yield from (inspect_video(source, name, full) for source, name in videos)
        return
    pool = _start(workers)
    waiting: deque[tuple[VideoSource, str, Future[Record]]] = deque()
    try:
        for source, name in videos:
            try:
                future = pool.submit(inspect_video, source, name, full)
            except BrokenProcessPool:
                pool = _start(workers)
                future = pool.submit(inspect_video, source, name, full)
            waiting.append((source, name, future))
            if len(waiting) == workers * _WAITING:
                yield _finish(*waiting.popleft(), full)
        while waiting:
            yield _finish(*waiting.popleft(), full)
    finally:
        pool.shutdown(cancel_futures=True)


def unreadable(dataset: datasets.Dataset, workers: int = 0) -> dict[str, str]:
    """Give the videos of a data set that cannot be read, with the reason."""
    from datasets import Video

    rows = dataset.cast_column("video", Video(decode=False))
    videos = (
        (
            row["video"]["path"] if row["video"]["bytes"] is None else row["video"]["bytes"],
            row.get("name") or f"video {i}",
        )
        for i, row in enumerate(rows)
    )
    return {
        record["video"]: record["error"]["message"]
        for record in inspect_videos(videos, workers=workers)
        if "error" in record
    }


class CheckReport:
    """A file of records, one JSON line each, that an interrupted check continues.

    A record counts again while its file has the same size and time of change.

    Args:
        path: of the report; it appears once there is a record.

    Raises:
        ValueError: the file holds something else.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        *lines, rest = self.path.read_bytes().split(b"\n") if self.path.exists() else [b""]
        begin = b'{"video": '
        try:
            if rest[: len(begin)] != begin[: len(rest)]:  # otherwise a line that was cut off
                raise ValueError
            self._records = {record["video"]: record for record in map(json.loads, lines)}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} holds something else than a report. Choose another output file.") from error

    def check(self, paths: Sequence[str], *, workers: int = 0, full: bool = False) -> Iterator[Record]:
        """Inspect the files that have no record yet; give each record as it comes, and leave them in the order of the paths.

        Raises:
            OSError: the report cannot be written.
        """
        known = {path: record for path, record in self._records.items() if _still_counts(path, record, full)}
        self._write(known.values())
        yield from (known[path] for path in paths if path in known)
        todo = [path for path in paths if path not in known]
        with self.path.open("ab") as file:
            for record in inspect_videos(((path, path) for path in todo), workers=workers, full=full):
                file.write(_json_line(record))
                file.flush()
                known[record["video"]] = record
                yield record
        self._write(known[path] for path in paths)

    def _write(self, records: Iterable[Record]) -> None:
        """Write the whole file, or leave it as it is."""
        partial = self.path.with_name(f".{self.path.name}.partial")
        partial.write_bytes(b"".join(map(_json_line, records)))
        partial.replace(self.path)


def summarize(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Count what records say: readable, unreadable and skipped files, codecs, sizes, turned and damaged ones, lengths."""
    records = list(records)
    videos = [record for record in records if "width" in record]
    seconds = [record["duration_seconds"] for record in videos if record["duration_seconds"] is not None]
    return {
        "videos": sum("skipped" not in record for record in records),
        "readable": len(videos),
        "unreadable": sum("error" in record for record in records),
        "damaged": sum(record["damage"] is not None for record in videos),
        "rotated": sum(record["rotation"] != 0 for record in videos),
        "other_files": sum("skipped" in record for record in records),
        "codecs": dict(Counter(record["codec"] for record in videos).most_common()),
        "sizes": dict(Counter(f"{record['width']}x{record['height']}" for record in videos).most_common()),
        "seconds": {"shortest": min(seconds), "median": median(seconds), "longest": max(seconds), "all": sum(seconds)}
        if seconds
        else None,
    }


def _start(workers: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")  # a fork would copy the threads of torch
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_prepare_process)


def _prepare_process() -> None:
    import torch

    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the interrupt is for the process that writes the report


def _finish(source: VideoSource, name: str, future: Future[Record], full: bool) -> Record:
    """Wait for a record. If the process ended over some video, find out whether it was this one."""
    try:
        return future.result()
    except BrokenProcessPool:
        with _start(1) as alone:
            try:
                return alone.submit(inspect_video, source, name, full).result()
            except BrokenProcessPool:
                message = f"{name}: reading it ended the process. Re-encode it, or leave it out."
                return {"video": name, "full": full, **_stamp(source), "error": {"type": "Crash", "message": message}}


def _stamp(source: VideoSource) -> Record:
    """Tell one state of a file from another."""
    if not isinstance(source, str) or not Path(source).exists():
        return {}
    state = Path(source).stat()
    return {"bytes": state.st_size, "changed": state.st_mtime_ns}


def _still_counts(path: str, record: Record, full: bool) -> bool:
    stamp = _stamp(path)
    return record["full"] >= full and bool(stamp) and stamp == {name: record.get(name) for name in stamp}


def _codec(source: VideoSource) -> str:
    """Name the codec of a file that was read, or "images"."""
    import av

    if not isinstance(source, bytes | str) or (isinstance(source, str) and not Path(source).is_file()):
        return "images"
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else source) as container:
        return str(container.streams.video[0].codec_context.name)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _json_line(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
