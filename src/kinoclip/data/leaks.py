"""Videos that are in training and in test: nothing measured on them counts."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .catalog import catalog
from .coverage import Coverage, video_of
from .layouts import video_stem

if TYPE_CHECKING:
    import datasets

_END_BYTES = 65536


def check_leaks(train: datasets.Dataset, test: datasets.Dataset, *, content: bool | None = None) -> None:
    """Make sure that no video is in training and in test.

    Two videos are the same if they are one file, if they have one name in one data set of the catalog, or if their bytes are
    the same. The lists released with SLLM, for one, hold every test video of UCF101 in training too.

    Args:
        train: columns of `load_videos`.
        test: likewise.
        content: compare bytes; None does where names are not enough. Only files of one size are read, and then their ends first.

    Raises:
        ValueError: some are; the message counts them and names the first.
    """
    trained, tested = _Videos(train), _Videos(test)
    leaks = _same({row: trained.path(row) for row in trained}, {row: tested.path(row) for row in tested})
    dataset = Coverage.of(train).dataset
    have_names = dataset in catalog() and dataset == Coverage.of(test).dataset
    if have_names:
        leaks |= _same({row: trained.stem(row) for row in trained}, {row: tested.stem(row) for row in tested})
    if content or (content is None and not have_names):
        leaks |= _same_content(trained, tested)
    if leaks:
        shown = "; ".join(_pair(tested.name(one), trained.name(other)) for one, other in sorted(leaks.items())[:3])
        raise ValueError(
            f"{len(leaks):,} of {len(test):,} test videos are in training too: {shown}. Scores on them mean nothing. Leave them "
            "out of one, or take the official split."
        )


class _Videos:
    """What tells videos apart, row by row; nothing of them is kept."""

    def __init__(self, dataset: datasets.Dataset):
        from datasets import Video

        self._videos = dataset.select_columns(["video"]).cast_column("video", Video(decode=False))
        flat = self._videos.flatten()
        is_all_files = flat.data.column("video.bytes").null_count == flat.data.num_rows
        self._paths = flat["video.path"][:] if is_all_files else None
        self._folders: dict[str, str] = {}
        self._names = list(dataset["name"][:]) if "name" in dataset.column_names else None

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self._videos)))

    def name(self, row: int) -> str:
        return self._names[row] if self._names else f"video {row}"

    def stem(self, row: int) -> str:
        """Give the id of a video, which files of ActivityNet may have behind a "v_"."""
        return video_stem(video_of(self.name(row))).removeprefix("v_")

    def path(self, row: int) -> str | None:
        video = self._video(row)
        if video["bytes"] is not None:
            return None
        folder, name = os.path.split(video["path"])
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)  # noqa: PTH118

    def size(self, row: int) -> int:
        return sum(len(part) if isinstance(part, bytes) else part.stat().st_size for part in self._parts(row))

    def ends(self, row: int) -> str:
        """Hash the first and the last bytes."""
        return self._hash(row, _END_BYTES)

    def content(self, row: int) -> str:
        """Hash everything."""
        return self._hash(row, None)

    def _video(self, row: int) -> dict[str, Any]:
        if self._paths is not None:  # much faster than a row
            return {"path": self._paths[row], "bytes": None}
        video: dict[str, Any] = self._videos[row]["video"]
        return video

    def _parts(self, row: int) -> list[bytes | Path]:
        """Give the bytes, the file, or the images of a folder."""
        video = self._video(row)
        if video["bytes"] is not None:
            return [video["bytes"]]
        path = Path(video["path"])
        return sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []

    def _hash(self, row: int, end_bytes: int | None) -> str:
        digest = hashlib.blake2b()
        for part in self._parts(row):
            with io.BytesIO(part) if isinstance(part, bytes) else part.open("rb") as file:
                if end_bytes is None:
                    while block := file.read(1 << 20):
                        digest.update(block)
                    continue
                digest.update(file.read(end_bytes))
                file.seek(-min(end_bytes, file.seek(0, os.SEEK_END)), os.SEEK_END)
                digest.update(file.read())
        return digest.hexdigest()


def _pair(one: str, other: str) -> str:
    return one if one == other else f"{one} (in training: {other})"


def _same(train: Mapping[int, Hashable], test: Mapping[int, Hashable]) -> dict[int, int]:
    """Give the test rows that have the key of a training row, and one such row of each; no key is never the same."""
    rows = {key: row for row, key in reversed(list(train.items())) if key is not None}
    return {row: rows[key] for row, key in test.items() if key in rows}


def _same_content(train: _Videos, test: _Videos) -> dict[int, int]:
    """Compare sizes, then both ends, then everything; each time what was the same so far."""
    pairs: dict[int, int] = {}
    trained, tested = list(train), list(test)
    for kind in ("size", "ends", "content"):
        keys = {row: getattr(train, kind)(row) or None for row in trained}
        pairs = _same(keys, {row: getattr(test, kind)(row) or None for row in tested})
        found = {keys[row] for row in pairs.values()}
        trained, tested = [row for row in trained if keys[row] in found], list(pairs)
    return pairs
