"""Find the videos in a folder, and the video that an annotation refers to."""

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cached_property
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from kinoclip.addresses import accessing, is_address, list_files, open_filesystem
from kinoclip.storage import check_exists
from kinoclip.text.labels import match_key
from kinoclip.video.errors import VideoDecodeError
from kinoclip.video.pictures import IMAGE_SUFFIXES
from kinoclip.video.sniffing import HEAD_BYTES, check_head, check_regular_file

_SUFFIXES = "3gp asf avi flv gif m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts vob webm wmv"
VIDEO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
_AUDIO_SUFFIXES = frozenset((".aac", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav"))
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "validate", "dev"),
    "test": ("test", "testing"),
}
_FRAMES_PROBE = 32  # entries that show whether a folder holds frames; it can hold thousands


class MissingSplitError(ValueError):
    """Data that does not have the requested split."""


def split_name(text: str | None) -> str | None:
    """Return "train", "validation" or "test" for their usual spellings, and None for anything else.

    >>> split_name("val"), split_name("Training"), split_name("archery")
    ('validation', 'train', None)
    """
    return next((split for split, names in _SPLITS.items() if (text or "").casefold() in names), None)


def is_video_file(path: str | Path) -> bool:
    """Check the extension of a path; any other video is a folder of frames."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def is_hub_id(source: str | Path) -> bool:
    """Check whether the name of a data set, without a file or folder of that name, can be one on the hub."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) is not None


def check_source(source: str | Path) -> None:
    """Raise a `FileNotFoundError` if the source of a data set is neither a file, a folder, a hub id nor a task such as "kinoshapes/actions:640"."""
    if not (Path(source).exists() or is_hub_id(str(source).partition(":")[0])):
        raise FileNotFoundError(f"The file or folder {source} does not exist.")


class FoundVideos(NamedTuple):
    """Videos in files and folders, and the other files in these folders."""

    videos: list[str]
    others: list[str]


def find_videos(paths: Sequence[str], exclude: Sequence[str | Path | None] = ()) -> FoundVideos:
    """List the videos to read: files and addresses as given, those in folders, and folders of frame images as one video each.

    What is given is a video, whatever it holds: reading it is an error if it is none. In a folder, a file is a video by its
    extension, or else if its first bytes may be those of a video; hidden files are left out. An address (`is_address`) without the
    extension of a video is a folder, in which files are videos by their extension.

    Args:
        paths: files, folders and addresses.
        exclude: what the job writes itself: files, and folders with everything in them.

    Raises:
        FileNotFoundError: a path does not exist.
        OSError: an address cannot be listed.
    """
    own = [os.path.realpath(path) for path in exclude if path is not None]
    found: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for path in paths:
        check_exists(path)
        if is_address(path) and not is_video_file(path):
            for file in list_files(path):
                found[is_video_file(file)][file] = None
        elif "://" in path:
            found[True][path] = None
        else:
            inside = walk(Path(path), root_may_hold_frames=True) if Path(path).is_dir() else [("", True)]
            for name, is_video in sorted(inside):
                file = str(Path(path, name))
                real = os.path.realpath(file)
                if not any(real == o or real.startswith(o + os.sep) for o in own):
                    found[is_video][file] = None
    return FoundVideos(*(list(found[is_video]) for is_video in (True, False)))


def read_video_list(source: str) -> list[str]:
    """Read names of videos from a file or address: one per line of a text, or the column `video` of a .parquet.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: the Parquet file is damaged or lacks the column.
    """
    filesystem, path = open_filesystem(source)
    with accessing(source), filesystem.open(path, "rb") as file:
        content = file.read()
    if not source.endswith(".parquet"):
        return [line for line in os.fsdecode(content).replace("\r\n", "\n").split("\n") if line.strip()]
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_table(BytesIO(content))["video"].to_pylist()
    except (pa.ArrowException, KeyError) as error:
        raise ValueError(f"{source} must be a Parquet file with a column `video`, which has the names.") from error
    return list(map(str, names))


class FileTree:
    """The files under a folder, as paths relative to it, without hidden files (such as `._x.mp4` from archives).

    A folder of images is one video. Links are followed, cycles are not. The folder is read on first use.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f"The folder {root} does not exist.")

    @cached_property
    def _listing(self) -> tuple[list[str], list[str]]:
        found = list(walk(self.root))
        wrong = next((name for name, _ in found if not _is_utf8(name)), None)
        if wrong is not None:
            raise ValueError(f"{self.root}: the file name {wrong!r} is not UTF-8. Rename it.")
        return sorted(p for p, is_video in found if is_video), sorted(p for p, is_video in found if not is_video)

    @property
    def videos(self) -> list[str]:
        """Video files and folders of frames, sorted."""
        return self._listing[0]

    @property
    def others(self) -> list[str]:
        """All other files, sorted."""
        return self._listing[1]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for path in self.videos:
            stems.setdefault(video_stem(path), []).append(path)
        return stems

    def find(self, names: Sequence[str]) -> str | None:
        """Find the video with one of these paths, file names or ids, best first; None if it is missing.

        Extensions and outer folders may differ; where both have folders, the innermost must agree, and the most similar path is
        chosen. An address is returned as it is. A `ValueError` is raised if several videos match equally well.
        """
        if names[0].startswith(("http://", "https://")):
            return names[0]
        for name in names:
            path = "/".join(part for part in name.split("/") if part not in ("", "."))
            candidates = self._by_stem.get(video_stem(path), [])
            if path in candidates:
                return path
            scores = {candidate: _likeness(path, candidate) for candidate in candidates}
            best = [candidate for candidate, score in scores.items() if score > 0 and score == max(scores.values())]
            if len(best) > 1:
                raise ValueError(
                    f"{self.root}: {name} could be {best[0]} or {best[1]}. Pass the right folder as videos=."
                )
            if best:
                return best[0]
        inside = (self.root / names[0]).absolute()  # a file with an unusual extension, which `..` must not lead out of
        is_inside = ".." not in inside.parts and inside.is_relative_to(self.root.absolute())
        return names[0] if is_inside and inside.exists() else None


def class_folders(paths: Sequence[str], names: Sequence[str] | None = None) -> dict[str, tuple[str | None, str]]:
    """Infer split and class of each video from its folders; videos in no class folder are left out.

    A folder around everything is skipped; then comes a split, or not; then the class, with whatever is below. Where the `names` of
    the classes are known, the innermost folder with such a name is the class.
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


def video_stem(path: str) -> str:
    """Return the name of a video without folders and extension.

    >>> video_stem("class/x.y.avi"), video_stem("frames/x.y")
    ('x.y', 'x.y')
    """
    name = unicodedata.normalize("NFC", path.rpartition("/")[2])  # macOS decomposes accents
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in VIDEO_SUFFIXES else name


def _is_utf8(name: str) -> bool:
    return name.isascii() or name.encode(errors="replace").decode() == name


def _may_be_video(path: Path) -> bool:
    """Check whether a file is a video by its extension, or without a known one by its first bytes."""
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in IMAGE_SUFFIXES or suffix in _AUDIO_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    try:
        check_regular_file(path, str(path))
        with path.open("rb") as file:
            check_head(file.read(HEAD_BYTES), str(path))
    except (OSError, VideoDecodeError):
        return False
    return True


def walk(root: Path, *, root_may_hold_frames: bool = False) -> Iterator[tuple[str, bool]]:
    """Yield the relative path of each file and frame folder, and whether it is a video; "" is the root, if it holds frames."""
    # with their real paths and those of the folders above; folders may be nested deeper than calls of Python
    waiting: list[tuple[Path, str, str, frozenset[str]]] = [(root, "", os.path.realpath(root), frozenset())]
    while waiting:
        folder, prefix, real, above = waiting.pop()
        if real in above:
            continue
        with os.scandir(folder) as entries:
            visible = (entry for entry in entries if not entry.name.startswith("."))
            first = list(islice(visible, _FRAMES_PROBE))
            if (
                (prefix or root_may_hold_frames)
                and first
                and all(Path(entry.name).suffix.lower() in IMAGE_SUFFIXES for entry in first)
            ):
                yield prefix.rstrip("/"), True
                continue
            rest = [*first, *visible]
        for entry in rest:
            if entry.is_dir():
                inner = folder / entry.name
                target = os.path.realpath(inner) if entry.is_symlink() else f"{real}{os.sep}{entry.name}"
                waiting.append((inner, f"{prefix}{entry.name}/", target, above | {real}))
            else:
                yield prefix + entry.name, _may_be_video(folder / entry.name)


def _likeness(path: str, candidate: str) -> float:
    """Score two paths by the folders that agree, from the file upwards, and the file name; 0 if they contradict."""
    one, other = path.split("/")[::-1], candidate.split("/")[::-1]
    count = 0
    for a, b in zip(one[1:], other[1:], strict=False):
        if (split_name(a) or match_key(a)) != (split_name(b) or match_key(b)):
            break
        count += 1
    if count == 0 and len(one) > 1 and len(other) > 1:
        return 0
    return 1 + count + (0.5 if one[0] == other[0] else 0)
