"""Everything that can be given as a video, brought to media or pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Union, cast

from kinoclip.video.clips import Clip, FileClip, OnDamage, PictureClip
from kinoclip.video.display import Frame
from kinoclip.video.download import download
from kinoclip.video.errors import VideoDecodeError
from kinoclip.video.media import Media
from kinoclip.video.pictures import load_from_array, load_from_folder, load_from_list, to_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

VideoSource = Union[
    str, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, "NDArray[np.generic]", "Tensor", Sequence["Image | NDArray[np.generic] | Tensor"]
]  # fmt: skip


@dataclass(frozen=True)
class ReadOptions:
    """How to read; the arguments of `VideoReader`."""

    stream: int | None
    on_damage: OnDamage
    max_pixels: int
    threads: int | None
    fps: float | None
    exact: bool
    allow_local: bool
    max_bytes: int
    timeout_seconds: float


@dataclass(frozen=True)
class Opened:
    """A source that was opened.

    Args:
        name: for messages.
        clip: its frames.
        temporary: a file to remove in the end.
    """

    name: str
    clip: Clip
    temporary: Path | None = None

    def close(self) -> None:
        """Let go of everything."""
        self.clip.close()
        if self.temporary is not None:
            self.temporary.unlink(missing_ok=True)


def open_source(source: VideoSource, options: ReadOptions) -> Opened:
    """Open whatever was given.

    Raises:
        FileNotFoundError: no such file.
        TypeError: nothing a video can be made of.
        VideoRefusedError: no video.
        VideoDecodeError: it cannot be read.
    """
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        return _open_url(source, options)
    if isinstance(source, str | os.PathLike):
        return _open_path(source, options)
    if isinstance(source, bytes | bytearray | memoryview):
        media = Media.of_bytes(bytes(source))
        return Opened(media.name, _open_file(media, options))
    if hasattr(source, "read"):
        media = _media_of_file(cast("BinaryIO", source), options.max_bytes)
        return Opened(media.name, _open_file(media, options))
    if hasattr(source, "__array__") and not hasattr(source, "getexif"):
        return _open_pictures("<array>", load_from_array(to_array(source), options.max_pixels), options)
    if isinstance(source, list | tuple):
        return _open_pictures("<images>", load_from_list(source, options.max_pixels), options)
    raise TypeError(
        f"A {type(source).__name__} is no video. Give a path, an http(s) address, bytes, a binary file, an array of frames, "
        "a list of images, or a folder of frame images."
    )


def _open_pictures(name: str, loaded: tuple[int, Callable[[int], Frame]], options: ReadOptions) -> Opened:
    num_frames, load = loaded
    return Opened(name, PictureClip(name, num_frames, load, options.fps))


def _open_path(source: str | os.PathLike[str], options: ReadOptions) -> Opened:
    text = os.fspath(source)
    if not isinstance(text, str):
        raise TypeError(f"The path {text!r} is of bytes. Give it as text, with os.fsdecode.")
    if "\0" in text or not text:
        raise FileNotFoundError(f"{text!r}: there is no such file.")
    path = Path(text)
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise VideoDecodeError(f"{text}: the path cannot be opened ({error.strerror}).") from error
    if is_folder:
        return _open_pictures(text, load_from_folder(path, text, options.max_pixels), options)
    return Opened(text, _open_file(Media.of_path(text), options))


def _open_url(url: str, options: ReadOptions) -> Opened:
    path = download(
        url, max_bytes=options.max_bytes, timeout_seconds=options.timeout_seconds, allow_local=options.allow_local
    )
    try:
        return Opened(url, _open_file(Media.of_path(path, url), options), path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _open_file(media: Media, options: ReadOptions) -> FileClip:
    return FileClip(
        media,
        stream=options.stream,
        on_damage=options.on_damage,
        max_pixels=options.max_pixels,
        threads=options.threads,
        fps=options.fps,
        exact=options.exact,
    )


def _media_of_file(file: BinaryIO, max_bytes: int) -> Media:
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "<file>"
    if getattr(file, "closed", False):
        raise ValueError(f"{name}: the file is closed. Open it for reading.")
    start = file.read(0)
    if not isinstance(start, bytes):
        raise TypeError(f"{name}: the file is open as text. Open it with mode 'rb'.")
    if getattr(file, "seekable", lambda: False)():
        return Media.of_file(file, name)
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise VideoDecodeError(
            f"{name}: larger than max_bytes={max_bytes}. Pass a larger max_bytes, or save it to a file."
        )
    return Media.of_bytes(content, name)
