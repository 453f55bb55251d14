"""Opening of all kinds of sources: paths, addresses, bytes, files, arrays, images, folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Union, cast

from kinoclip.addresses import is_address
from kinoclip.video._clip import Clip, FileClip, PictureClip, ReadOptions
from kinoclip.video._remote import RemoteFile
from kinoclip.video._session import Media
from kinoclip.video.display import Frame
from kinoclip.video.errors import VideoDecodeError, decoding
from kinoclip.video.pictures import load_from_array, load_from_folder, load_from_list, to_array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

VideoSource = Union[
    str,
    "os.PathLike[str]",
    bytes,
    bytearray,
    memoryview,
    BinaryIO,
    "NDArray[np.generic]",
    "Tensor",
    Sequence["Image | NDArray[np.generic] | Tensor"],
    Mapping[str, Any],
    Sized,
]  # fmt: skip; the last is a VideoDecoder of torchcodec


def open_source(source: VideoSource, options: ReadOptions) -> Clip:
    """Open a source.

    Raises:
        FileNotFoundError: the file does not exist.
        TypeError: the source has an unsupported type.
        VideoRefusedError: it is not a video.
        VideoDecodeError: it cannot be read.
    """
    if isinstance(source, str) and source.lower().startswith(("http://", "https://")):
        return _open_url(source, options)
    if is_address(source):
        return _open_address(source, options)
    if isinstance(source, str | os.PathLike):
        return _open_path(source, options)
    if isinstance(source, bytes | bytearray | memoryview):
        return FileClip(Media.of_bytes(bytes(source)), options)
    if hasattr(source, "read"):
        return FileClip(_media_of_file(cast("BinaryIO", source), options.max_bytes), options)
    if hasattr(source, "__array__") and not hasattr(source, "getexif"):
        return _open_pictures("<array>", load_from_array(to_array(source), options.max_pixels), options)
    if isinstance(source, list | tuple):
        return _open_pictures("<images>", load_from_list(source, options.max_pixels), options)
    if isinstance(source, Mapping):
        return open_source(stored_source(source), options)
    if hasattr(source, "get_frames_at"):
        return _open_decoder(source, options)
    raise TypeError(
        f"A video must be a path, address, bytes, binary file, array of frames, list of images, folder of images, a dict "
        f"with bytes or path, or a VideoDecoder of torchcodec, got {type(source).__name__}."
    )


def stored_source(row: Mapping[str, Any]) -> bytes | str:
    """Return the bytes or else the path of a video as `datasets.Video` stores it."""
    content = row.get("path") if row.get("bytes") is None else row["bytes"]
    if not isinstance(content, bytes | str):
        raise TypeError(f"A dict that is a video must have bytes or a path, got the keys {', '.join(map(str, row))}.")
    return content


def _open_decoder(decoder: Any, options: ReadOptions) -> Clip:
    """Open what a decoder of `datasets` was made from, or else its frames as it decodes them."""
    stored = getattr(decoder, "_hf_encoded", None)
    if stored and (stored.get("bytes") is not None or os.path.exists(stored["path"])):  # noqa: PTH110, also URLs
        return open_source(stored, options)

    def load(index: int) -> Frame:
        frames = to_array(decoder.get_frames_at([index]).data)
        return load_from_array(frames, options.max_pixels)[1](0)

    name = str(getattr(decoder.metadata, "path", None) or "<decoder>")
    fps = options.fps or getattr(decoder.metadata, "average_fps", None)
    return PictureClip(name, len(decoder), load, fps)


def _open_pictures(name: str, loaded: tuple[int, Callable[[int], Frame]], options: ReadOptions) -> Clip:
    num_frames, load = loaded
    return PictureClip(name, num_frames, load, options.fps)


def _open_path(source: str | os.PathLike[str], options: ReadOptions) -> Clip:
    text = os.fspath(source)
    if not isinstance(text, str):
        raise TypeError(f"A path must be text, got {text!r}. Use os.fsdecode.")
    if "\0" in text or not text:
        raise FileNotFoundError(f"{text!r}: the file does not exist.")
    path = Path(text)
    try:
        is_folder = path.is_dir()
    except OSError as error:
        raise VideoDecodeError(f"{text}: the path cannot be opened ({error.strerror}).") from error
    if is_folder:
        return _open_pictures(text, load_from_folder(path, text, options.max_pixels), options)
    return FileClip(Media.of_path(text), options)


def _open_url(url: str, options: ReadOptions) -> Clip:
    from kinoclip.video.download import download  # the HTTP client takes a tenth of a second to import

    path = download(
        url, max_bytes=options.max_bytes, timeout_seconds=options.timeout_seconds, allow_local=options.allow_local
    )
    return _open_temporary(url, path, options)


def _open_address(address: str, options: ReadOptions) -> Clip:
    """Open a remote file: an mp4 in place, of which a part is read, and any other from a copy of the whole file."""
    file = RemoteFile(address, options.max_bytes)
    if file.is_mp4:
        with decoding(address):
            media = Media.of_file(file, address)
        return FileClip(media, options)
    return _open_temporary(address, file.download(options.timeout_seconds), options)


def _open_temporary(name: str, path: Path, options: ReadOptions) -> Clip:
    try:
        clip = FileClip(Media.of_path(path, name), options)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    clip.temporary = path
    return clip


def _media_of_file(file: BinaryIO, max_bytes: int) -> Media:
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else "<file>"
    if getattr(file, "closed", False):
        raise ValueError(f"{name}: the file is closed. Open it for reading.")
    start = file.read(0)
    if not isinstance(start, bytes):
        raise TypeError(f"{name}: the file must be binary, got a text file. Open it with mode 'rb'.")
    if getattr(file, "seekable", lambda: False)():
        return Media.of_file(file, name)
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise VideoDecodeError(
            f"{name}: larger than max_bytes={max_bytes}. Pass a larger max_bytes, or save it to a file."
        )
    return Media.of_bytes(content, name)
