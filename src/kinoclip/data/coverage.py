"""Which videos of a data set are there, so that a result says what it was measured on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from kinoclip.text.labels import match_key

from .layouts import video_stem

if TYPE_CHECKING:
    import datasets

# names that a report lists before it only counts
_SHOWN = 20


@dataclass(frozen=True)
class Coverage:
    """How much of a data set was found.

    Args:
        dataset: name in the catalog; None for videos of one's own.
        split: "train", "validation", "test"; None for all.
        layout: how the files lie on disk.
        expected: videos of the split by the official annotations; None where nobody says.
        listed: videos in the annotations that were read.
        found: videos that are there.
        num_missing: videos that are listed and not there.
        missing: the first of their names.
        num_repeated: videos that are listed again.
        dropped: annotated intervals that cannot be used.
        num_undecodable: videos that are there and cannot be read, as far as somebody looked.
        undecodable: the first of their names.
        fingerprint: the same for the same videos with the same labels, wherever they lie.
    """

    dataset: str | None = None
    split: str | None = None
    layout: str | None = None
    expected: int | None = None
    listed: int | None = None
    found: int = 0
    num_missing: int = 0
    missing: tuple[str, ...] = ()
    num_repeated: int = 0
    dropped: int = 0
    num_undecodable: int = 0
    undecodable: tuple[str, ...] = ()
    fingerprint: str = ""

    @classmethod
    def of(cls, dataset: datasets.Dataset) -> Coverage:
        """Say what is known of a loaded data set; what was selected from it since is counted and fingerprinted anew."""
        try:
            known = json.loads(dataset.info.description or "{}").get("coverage", {})
        except (ValueError, AttributeError):  # a description of somebody else's
            known = {}
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in known.items()
        }
        coverage = cls(**fields)
        if "name" not in dataset.column_names:
            return replace(coverage, found=len(dataset))
        names = {video_of(name) for name in dataset["name"][:]}
        return replace(coverage, found=len(names), fingerprint=fingerprint(dataset))

    def with_missing(self, names: Sequence[str]) -> Coverage:
        """Note videos that are not there."""
        return replace(self, num_missing=len(names), missing=tuple(names[:_SHOWN]))

    def with_undecodable(self, names: Sequence[str]) -> Coverage:
        """Note videos that cannot be read."""
        return replace(self, num_undecodable=len(names), undecodable=tuple(names[:_SHOWN]))

    def to_dict(self) -> dict[str, Any]:
        """Give what JSON can hold."""
        return {**asdict(self), "missing": list(self.missing), "undecodable": list(self.undecodable)}

    def to_json(self) -> str:
        """Give it as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def describe(self) -> str:
        """Say it in a line, such as "19,796 of 19,907 (official) videos"."""
        of = f" of {self.expected:,} (official)" if self.expected is not None else ""
        parts = [f"{self.found:,}{of} videos"]
        if self.num_missing:
            parts.append(f"{self.num_missing:,} are listed and missing, such as {self.missing[0]}")
        if self.num_undecodable:
            parts.append(f"{self.num_undecodable:,} cannot be read, such as {self.undecodable[0]}")
        if self.num_repeated:
            parts.append(f"{self.num_repeated:,} are listed again")
        if self.dropped:
            parts.append(f"{self.dropped:,} intervals cannot be used")
        return "; ".join(parts)


def fingerprint(dataset: datasets.Dataset) -> str:
    """Give 16 hex digits that are the same for the same file names with the same labels, in any folder and order."""
    labels = dataset.features["label"]
    to_key = [match_key(name) for name in getattr(labels, "feature", labels).names]
    rows = set()
    for name, label in zip(dataset["name"][:], dataset["label"][:], strict=True):
        classes = label if isinstance(label, list) else [label]
        part = name[len(video_of(name)) :]
        rows.add(f"{','.join(sorted(to_key[one] for one in classes))}/{video_stem(video_of(name))}{part}")
    return hashlib.blake2b("\n".join(sorted(rows)).encode(), digest_size=8).hexdigest()


def segment_name(video: str, start: float | None, end: float | None, label: str) -> str:
    """Name a part of a video, as in a media fragment.

    >>> segment_name("a/b.mp4", 1.5, 2, "jump")
    'a/b.mp4#t=1.5,2:jump'
    """
    return f"{video}#t={'' if start is None else f'{start:g}'},{'' if end is None else f'{end:g}'}:{label}"


def video_of(name: str) -> str:
    """Give the video that a name belongs to.

    >>> video_of("a/b #1.mp4#t=1.5,2:jump"), video_of("a/b #1.mp4")
    ('a/b #1.mp4', 'a/b #1.mp4')
    """
    return re.sub(r"#t=[0-9.e+]*,[0-9.e+]*:.*$", "", name)
