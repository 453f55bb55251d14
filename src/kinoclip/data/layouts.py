"""Videos on disk: which files are there, and which of them an annotation means."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath

from kinoclip.text.labels import match_key
from kinoclip.video.pictures import IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset(
    [
        ".3gp",
        ".asf",
        ".avi",
        ".flv",
        ".gif",
        ".m2ts",
        ".m4v",
        ".mkv",
        ".mov",
        ".mp4",
        ".mpeg",
        ".mpg",
        ".mts",
        ".ogv",
        ".ts",
        ".vob",
        ".webm",
        ".wmv",
    ]
)
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "validate", "dev"),
    "test": ("test", "testing"),
}
# A folder of frames shows itself by its first entries; it can hold thousands.
_PEEK = 32


class MissingSplitError(ValueError):
    """Data that has no such split."""


def split_name(text: str | None) -> str | None:
    """Give "train", "validation" or "test" for what people call them, and None for anything else.

    >>> split_name("val"), split_name("Training"), split_name("archery")
    ('validation', 'train', None)
    """
    return next((split for split, names in _SPLITS.items() if (text or "").casefold() in names), None)


def is_video_file(path: Path) -> bool:
    """Tell by the ending whether a path is a video file; anything else that is a video is a folder of frames."""
    return path.suffix.lower() in VIDEO_SUFFIXES


class FileTree:
    """The videos under a folder, as paths relative to it; hidden files (`._x.mp4` of archives too) are left out.

    A folder of numbered images is one video. Links are followed, but never round in circles.

    Args:
        root: the folder.

    Raises:
        FileNotFoundError: there is no such folder.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"There is no folder {root}.")

    @cached_property
    def _found(self) -> tuple[list[str], list[str]]:
        videos: list[str] = []
        others: list[str] = []
        for path, is_video in _walk(self.root, "", frozenset()):
            (videos if is_video else others).append(path)
        return sorted(videos), sorted(others)

    @property
    def videos(self) -> list[str]:
        """Give video files and folders of frames, sorted."""
        return self._found[0]

    @property
    def others(self) -> list[str]:
        """Give all other files, sorted."""
        return self._found[1]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for path in self.videos:
            stems.setdefault(video_stem(path), []).append(path)
        return stems

    def holds(self, path: str) -> bool:
        """Say whether there is a file of this path in the folder, which `..` does not lead out of."""
        inside = (self.root / path).absolute()
        return ".." not in inside.parts and inside.is_relative_to(self.root.absolute()) and inside.exists()

    def find(self, names: Sequence[str]) -> str | None:
        """Give the video that an annotation means, or None if it is not there.

        Args:
            names: paths, file names or ids it may go by, best first. Its ending may differ, and so may the folders above it;
                where both have folders, the innermost must agree, and the most similar ones decide.

        Raises:
            ValueError: several fit equally well.
        """
        for name in names:
            parts = [part for part in name.split("/") if part not in ("", ".")]
            path = "/".join(parts)
            found = self._by_stem.get(video_stem(path), [])
            if path in found:
                return path
            scores = {candidate: _likeness(path, candidate) for candidate in found}
            best = [candidate for candidate, score in scores.items() if score > 0 and score == max(scores.values())]
            if len(best) > 1:
                raise ValueError(
                    f"{self.root}: {name} could be {best[0]} or {best[1]}. Keep one of them, or say with videos= which "
                    "folder is meant."
                )
            if best:
                return best[0]
        return None


def class_folders(paths: Sequence[str], names: Sequence[str] | None = None) -> dict[str, tuple[str | None, str]]:
    """Give split and class of each video from the folders it lies in; those in no folder of a class are left out.

    Args:
        paths: relative to the root. A folder around everything is stepped into; then comes a split, or not; then the class, with
            whatever lies deeper.
        names: the classes, where they are known: the innermost folder with such a name counts then.
    """
    keys = {match_key(name) for name in names or ()}
    folders = {path: PurePosixPath(path).parts[:-1] for path in paths}
    while len({parts[:1] for parts in folders.values()}) == 1 and all(len(parts) > 1 for parts in folders.values()):
        if split_name(next(iter(folders.values()))[0]):
            break
        folders = {path: parts[1:] for path, parts in folders.items()}
    found = {}
    for path, parts in folders.items():
        split = next((split_name(part) for part in parts if split_name(part)), None)
        unsplit = [part for part in parts if not split_name(part)]
        classes = [part for part in parts if match_key(part) in keys] or unsplit[:1]
        if classes:
            found[path] = (split, classes[-1])
    return found


def _walk(folder: Path, prefix: str, above: frozenset[str]) -> Iterator[tuple[str, bool]]:
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        visible = (entry for entry in entries if not entry.name.startswith("."))
        first = list(islice(visible, _PEEK))
        if prefix and first and all(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in first):
            yield prefix.rstrip("/"), True
            return
        rest = [*first, *visible]
    for entry in rest:
        path = prefix + _readable(entry.name, folder)
        if entry.is_dir():
            yield from _walk(folder / entry.name, f"{path}/", above | {real})
        else:
            yield path, is_video_file(Path(entry.name))


def _readable(name: str, folder: Path) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{folder}: the file name {name!r} is no UTF-8. Rename it.") from error
    return name


def video_stem(path: str) -> str:
    """Give the name of a video without folders and ending.

    >>> video_stem("class/x.y.avi"), video_stem("frames/x.y")
    ('x.y', 'x.y')
    """
    name = unicodedata.normalize("NFC", path.rpartition("/")[2])  # macOS writes accents apart
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in VIDEO_SUFFIXES else name


def _likeness(path: str, candidate: str) -> float:
    """Count the folders above both that have the same name, from the file upwards, and compare the endings; 0 if they differ."""
    wanted, given = path.split("/")[::-1], candidate.split("/")[::-1]
    count = 0
    for one, other in zip(wanted[1:], given[1:], strict=False):
        if (split_name(one) or match_key(one)) != (split_name(other) or match_key(other)):
            break
        count += 1
    if count == 0 and len(wanted) > 1 and len(given) > 1:
        return 0
    return 1 + count + (0.5 if wanted[0] == given[0] else 0)
