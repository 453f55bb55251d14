"""Record which videos of a data set were found, so that a result states what it was measured on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinoclip.data.files import video_stem
from kinoclip.data.samples import class_names
from kinoclip.storage import file_state
from kinoclip.text.labels import match_key

if TYPE_CHECKING:
    import datasets

_END_BYTES = 1024
_MAX_NAMES = 20  # names in a list of missing videos; the others are counted only


@dataclass(frozen=True)
class Coverage:
    """How much of a data set was found."""

    dataset: str | None = None  # name in the catalog; None for your own videos
    split: str | None = None  # "train", "validation", "test"; None for all
    layout: str | None = None  # of the files on disk
    expected: int | None = None  # videos of the split by the official annotations, where it is known
    listed: int | None = None  # videos in the annotations that were read
    found: int = 0  # videos that exist
    num_missing: int = 0  # videos that are listed but do not exist
    missing: tuple[str, ...] = ()  # the first of their names
    num_repeated: int = 0  # videos that are listed twice
    dropped: int = 0  # annotated intervals that cannot be used
    num_undecodable: int = 0  # videos that exist but cannot be read, where it was checked
    undecodable: tuple[str, ...] = ()  # the first of their names
    generator: str | None = None  # hash of the code that drew the videos of a procedural benchmark
    fingerprint: str = ""  # equal for the same videos with the same labels, in any folder

    @classmethod
    def of(cls, dataset: datasets.Dataset) -> Coverage:
        """Return the coverage of a loaded data set; the count and fingerprint are those of its current rows."""
        try:
            known = json.loads(dataset.info.description or "{}").get("coverage", {})
        except (ValueError, AttributeError):  # a description that this package did not write
            known = {}
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in known.items()}
        if "name" not in dataset.column_names:
            return replace(cls(**fields), found=len(dataset))
        found = len({video_of(name) for name in dataset["name"][:]})
        return replace(cls(**fields), found=found, fingerprint=fingerprint(dataset))

    def with_missing(self, names: Sequence[str]) -> Coverage:
        """Add videos that do not exist."""
        return replace(self, num_missing=len(names), missing=tuple(names[:_MAX_NAMES]))

    def with_undecodable(self, names: Sequence[str]) -> Coverage:
        """Add videos that cannot be read."""
        return replace(self, num_undecodable=len(names), undecodable=tuple(names[:_MAX_NAMES]))

    def to_dict(self) -> dict[str, Any]:
        """Return values that JSON can represent."""
        return {**asdict(self), "missing": list(self.missing), "undecodable": list(self.undecodable)}

    def attach(self, dataset: datasets.Dataset) -> datasets.Dataset:
        """Store the coverage in the description of a data set, which selecting, shuffling and saving preserve."""
        dataset.info.description = json.dumps({"coverage": self.to_dict()}, ensure_ascii=False)
        return dataset

    def describe(self) -> str:
        """Return one line, such as "19,796 of 19,907 (official) videos"."""
        official = f" of {self.expected:,} (official)" if self.expected is not None else ""
        parts = [f"{self.found:,}{official} videos"]
        if self.num_missing:
            parts.append(f"{self.num_missing:,} are listed and missing, such as {self.missing[0]}")
        if self.num_undecodable:
            parts.append(f"{self.num_undecodable:,} cannot be read, such as {self.undecodable[0]}")
        if self.num_repeated:
            parts.append(f"{self.num_repeated:,} are listed again")
        if self.dropped:
            parts.append(f"{self.dropped:,} intervals cannot be used")
        return "; ".join(parts)


def find_mistakes(dataset: datasets.Dataset) -> list[str]:
    """Return a line for each likely mistake in a data set: missing files, unusable intervals, and classes without videos.

    Raises:
        ValueError: all videos have the same label; or see `class_names`.
    """
    names, is_multi_label = class_names(dataset), hasattr(dataset.features["label"], "feature")
    labels = dataset["label"][:]
    seen = {one for label in labels for one in (label if is_multi_label else [label])}
    if len(seen) == 1 and not is_multi_label:
        raise ValueError(f"All {len(labels)} videos are {names[seen.pop()]!r}. Add videos of a second class.")
    coverage, empty = Coverage.of(dataset), [name for number, name in enumerate(names) if number not in seen]
    found = []
    if coverage.num_missing:
        found.append(f"{coverage.num_missing:,} listed videos do not exist, such as {coverage.missing[0]}")
    if coverage.dropped:
        found.append(f"{coverage.dropped:,} annotated intervals cannot be used")
    if empty:
        found.append(f"{len(empty):,} of {len(names):,} classes have no video, such as {empty[0]!r}")
    return found


def fingerprint(dataset: datasets.Dataset) -> str:
    """Return 16 hex digits that are equal for the same file names with the same labels, in any folder and order."""
    labels = dataset.features["label"]
    keys = [match_key(name) for name in getattr(labels, "feature", labels).names]
    rows = set()
    for name, label in zip(dataset["name"][:], dataset["label"][:], strict=True):
        video = video_of(name)
        classes = sorted(keys[one] for one in (label if isinstance(label, list) else [label]))
        rows.add(f"{','.join(classes)}/{video_stem(video)}{name[len(video) :]}")
    return hashlib.blake2b("\n".join(sorted(rows)).encode(), digest_size=8).hexdigest()  # recorded in saved reports


def content_fingerprint(dataset: datasets.Dataset) -> str:
    """Return 16 hex digits of the files: their names, sizes and modification times, or the size and end of embedded ones."""
    import pyarrow.compute as pc
    from datasets import Video

    videos = dataset.select_columns(["video"]).cast_column("video", Video(decode=False)).with_format("arrow")
    digest = hashlib.blake2b(digest_size=8)
    for batch in videos.iter(batch_size=1000):
        column = batch.column("video")
        content, paths = pc.struct_field(column, "bytes"), pc.struct_field(column, "path").to_pylist()
        ends = pc.binary_slice(content, -_END_BYTES).to_pylist()
        for path, size, end in zip(paths, pc.binary_length(content).to_pylist(), ends, strict=True):
            digest.update(repr([Path(path).name, file_state(path)] if size is None else [size, end]).encode())
    return digest.hexdigest()


def segment_name(video: str, start: float | None, end: float | None, label: str) -> str:
    """Name a part of a video, as in a media fragment.

    >>> segment_name("a/b.mp4", 1.5, 2, "jump")
    'a/b.mp4#t=1.5,2:jump'
    """
    return f"{video}#t={'' if start is None else f'{start:g}'},{'' if end is None else f'{end:g}'}:{label}"


def video_of(name: str) -> str:
    """Return the video that the name of a row belongs to.

    >>> video_of("a/b #1.mp4#t=1.5,2:jump"), video_of("a/b #1.mp4")
    ('a/b #1.mp4', 'a/b #1.mp4')
    """
    return re.sub(r"#t=[0-9.e+]*,[0-9.e+]*:.*$", "", name)
