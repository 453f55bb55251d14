"""Find videos that are in training and in test, which would invalidate the measured scores."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Hashable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoclip.data.catalog import catalog
from kinoclip.data.coverage import Coverage, video_of
from kinoclip.data.files import video_stem

if TYPE_CHECKING:
    import datasets

_END_BYTES = 65536


def check_leaks(train: datasets.Dataset, test: datasets.Dataset) -> None:
    """Raise a `ValueError` if a video is in training and in test, both with the columns of `load_videos`.

    Two videos are the same if they are one file, if they have one name in one data set of the catalog, or else if
    their bytes are equal; only files of equal size are read, both ends first. The lists released with SLLM, for one,
    contain every test video of UCF101 in training too.
    """
    trained, tested = _Videos(train), _Videos(test)
    train_rows, test_rows = list(range(len(train))), list(range(len(test)))

    def match(key: Callable[[_Videos, int], Hashable]) -> tuple[dict[int, int], list[int]]:
        """Return test rows with the first training row of the same key, and all training rows with one of these keys."""
        keys = {row: key(trained, row) for row in train_rows}
        first = {key: row for row, key in reversed(keys.items()) if key is not None}
        pairs = {row: first[found] for row in test_rows if (found := key(tested, row)) in first}
        shared = {keys[row] for row in pairs.values()}
        return pairs, [row for row in train_rows if keys[row] in shared]

    leaks, _ = match(_Videos.path)
    dataset = Coverage.of(train).dataset
    if dataset in catalog() and dataset == Coverage.of(test).dataset:
        leaks |= match(_Videos.stem)[0]
    else:
        ends = partial(_Videos.hash, end_bytes=_END_BYTES)
        for key in (_Videos.size, ends, _Videos.hash):  # each on the videos that were equal so far
            equal, train_rows = match(key)
            test_rows = list(equal)
        leaks |= equal
    if leaks:
        names = [(tested.name(one), trained.name(other)) for one, other in sorted(leaks.items())[:3]]
        shown = "; ".join(one if one == other else f"{one} (in training: {other})" for one, other in names)
        raise ValueError(
            f"{len(leaks):,} of {len(test):,} test videos are in training too: {shown}. Scores on them are meaningless. Remove "
            "them from one of the two, or use the official split."
        )


class _Videos:
    """Keys that identify videos, by row; None is equal to nothing."""

    def __init__(self, dataset: datasets.Dataset):
        from datasets import Video

        self._videos = dataset.select_columns(["video"]).cast_column("video", Video(decode=False))
        self._names = list(dataset["name"][:]) if "name" in dataset.column_names else None
        flat = self._videos.flatten()
        is_all_files = flat.data.column("video.bytes").null_count == flat.data.num_rows
        self._paths = flat["video.path"][:] if is_all_files else None  # much faster than rows
        self._folder: Callable[[str], str] = cache(os.path.realpath)

    def name(self, row: int) -> str:
        return self._names[row] if self._names else f"video {row}"

    def stem(self, row: int) -> Hashable:
        # files of ActivityNet may have a "v_" before the id
        return video_stem(video_of(self.name(row))).removeprefix("v_")

    def path(self, row: int) -> Hashable:
        video = self._video(row)
        if video["bytes"] is not None:
            return None
        folder, name = os.path.split(video["path"])
        return os.path.join(self._folder(folder), name)  # noqa: PTH118

    def size(self, row: int) -> Hashable:
        return sum(len(part) if isinstance(part, bytes) else part.stat().st_size for part in self._parts(row)) or None

    def _video(self, row: int) -> dict[str, Any]:
        video: dict[str, Any] = (
            {"path": self._paths[row], "bytes": None} if self._paths else self._videos[row]["video"]
        )
        return video

    def _parts(self, row: int) -> list[bytes | Path]:
        """Return the bytes, the file, or the images of a folder."""
        video = self._video(row)
        if video["bytes"] is not None:
            return [video["bytes"]]
        path = Path(video["path"])
        return sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []

    def hash(self, row: int, end_bytes: int | None = None) -> Hashable:
        digest = hashlib.blake2b()
        for part in self._parts(row):
            with io.BytesIO(part) if isinstance(part, bytes) else part.open("rb") as file:
                if end_bytes is None:
                    while block := file.read(1 << 20):
                        digest.update(block)
                else:
                    digest.update(file.read(end_bytes))
                    file.seek(-min(end_bytes, file.seek(0, os.SEEK_END)), os.SEEK_END)
                    digest.update(file.read())
        return digest.hexdigest()
