"""Inspect many videos before training: which cannot be read, and their codecs, sizes and lengths."""

import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import Any

from kinoclip.storage import Journal, claimed, encode_json, exclusive, file_state, write_text
from kinoclip.video import VideoDecodeError, VideoReader
from kinoclip.video.isolation import IsolatedProcesses

Record = dict[str, Any]
_FIELDS = ("width", "height", "rotation", "fps", "num_frames", "duration_seconds", "damage")
_KEYS = ("video", "full")  # of a record, whatever else it has
_QUEUED = 4  # videos per process


def inspect_video(video: str, full: bool = False) -> Record:
    """Inspect a file or a folder of frames; `full` decodes every frame, not the first, the middle and the last.

    Returns:
        `video`, `full`, and `width`, `height`, `rotation`, `fps`, `num_frames`, `duration_seconds`, `codec`,
        `damage`; or `error`.
    """
    record: Record = {"video": video, "full": full, **file_state(video)}
    try:
        with VideoReader(video, exact=full) as reader:
            last = reader.num_frames - 1
            reader.frames([0, last // 2, last], transform=lambda frame: frame[:, :1, :1])
            return {**record, **{field: getattr(reader, field) for field in _FIELDS}, "codec": _codec(video)}
    except (VideoDecodeError, OSError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        return {**record, "error": {"type": type(error).__name__, "message": message}}


def inspect_videos(videos: Iterable[str], *, workers: int = 0, full: bool = False) -> Iterator[Record]:
    """Inspect many videos in order.

    With `workers` above 0 they are inspected in so many processes, and a video that crashes one gets an error record.
    """
    if workers < 1:
        yield from (inspect_video(video, full) for video in videos)
        return
    waiting: deque[Future[Record]] = deque()
    with IsolatedProcesses() as processes, ThreadPoolExecutor(workers) as pool:
        try:
            for video in videos:
                waiting.append(pool.submit(_inspect_isolated, processes, video, full))
                if len(waiting) == workers * _QUEUED:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            processes.kill()


def _inspect_isolated(processes: IsolatedProcesses, video: str, full: bool) -> Record:
    try:
        return processes.call(inspect_video, video, full, name=video, seconds=math.inf)
    except VideoDecodeError as error:  # of the process; others are in the record
        return {"video": video, "full": full, **file_state(video), "error": {"type": "Crash", "message": str(error)}}


def check_files(path: str | Path, videos: Sequence[str], *, workers: int = 0, full: bool = False) -> Iterator[Record]:
    """Inspect files and keep the records as JSON lines, in their order; an interrupted check is continued.

    A record is reused while its file has the same size and modification time.

    Raises:
        ValueError: the file holds something else.
        RuntimeError: another process writes the file.
    """
    path = Path(path)
    with exclusive(path):
        known = {r["video"]: r for r in Journal(path, _KEYS).records if r["full"] >= full and _is_current(r)}
        write_text(path, "".join(map(encode_json, known.values())), owns=claimed)
        yield from (known[video] for video in videos if video in known)
        todo = [video for video in videos if video not in known]
        with closing(Journal(path, _KEYS)) as journal:
            for record in inspect_videos(todo, workers=workers, full=full):
                journal.append(record)
                known[record["video"]] = record
                yield record
        write_text(path, "".join(encode_json(known[video]) for video in videos), owns=claimed)


def _is_current(record: Record) -> bool:
    state = file_state(record["video"])
    return bool(state) and state.items() <= record.items()


def summarize(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Count readable, unreadable, damaged and rotated videos, codecs, sizes and lengths."""
    records = list(records)
    videos = [record for record in records if "width" in record]
    seconds = [record["duration_seconds"] for record in videos if record["duration_seconds"] is not None]
    lengths: dict[str, Any] = {"shortest": min, "median": median, "longest": max, "all": sum}
    return {
        "videos": len(records),
        "readable": len(videos),
        "unreadable": sum("error" in record for record in records),
        "damaged": sum(record["damage"] is not None for record in videos),
        "rotated": sum(record["rotation"] != 0 for record in videos),
        "codecs": dict(Counter(record["codec"] for record in videos).most_common()),
        "sizes": dict(Counter(f"{record['width']}x{record['height']}" for record in videos).most_common()),
        "seconds": {name: function(seconds) for name, function in lengths.items()} if seconds else None,
    }


def _codec(video: str) -> str:
    import av

    if not Path(video).is_file():
        return "images"
    with av.open(video) as container:
        return str(container.streams.video[0].codec_context.name)
