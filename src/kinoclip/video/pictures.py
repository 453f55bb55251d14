"""Frames from arrays, tensors, lists of images and folders of image files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinoclip.video.display import Frame
from kinoclip.video.errors import VideoDecodeError, VideoRefusedError, decoding
from kinoclip.video.sniffing import check_regular_file

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}
# Pillow tries its other plug-ins, whatever a file is called, unless they are left out; that of EPS starts Ghostscript.
_IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
_IMAGE_FAILURE = "the image cannot be read"
_IMAGE_ADVICE = "Remove it or extract the frames again."


def load_from_array(video: NDArray[Any], max_pixels: int) -> tuple[int, Callable[[int], Frame]]:
    """Return the number of frames of an array and a function that returns one.

    Args:
        video: (T, H, W, 3), or (T, 3, H, W); the last axis decides where both have 3. uint8, or float from 0 to 1.
        max_pixels: of a frame.

    Raises:
        ValueError: another shape, or values out of range.
        TypeError: another data type.
    """
    if video.ndim != 4 or 3 not in (video.shape[-1], video.shape[1]):
        raise ValueError(f"An array must have shape (T, H, W, 3) or (T, 3, H, W), RGB, got {video.shape}.")
    if video.shape[-1] != 3:
        video = np.moveaxis(video, 1, -1)
    _check_size("an array", video.shape[1], video.shape[2], max_pixels)
    _check_values(video)
    return len(video), lambda index: _as_bytes(video[index])


def load_from_list(images: Sequence[Any], max_pixels: int) -> tuple[int, Callable[[int], Frame]]:
    """Return the number of images and a function that returns one.

    Args:
        images: PIL images, arrays or tensors (H, W, 3) or (3, H, W).
        max_pixels: of an image.

    Raises:
        TypeError: an item of another type.
        ValueError: an array of another shape.
    """
    for number, image in enumerate(images):
        if not (hasattr(image, "getexif") or hasattr(image, "__array__")):
            raise TypeError(
                f"A list must hold the frames of one video as images, item {number} is a {type(image).__name__}."
            )
    return len(images), lambda index: _image_to_frame(images[index], f"image {index}", max_pixels)


def load_from_folder(folder: Path, name: str, max_pixels: int) -> tuple[int, Callable[[int], Frame]]:
    """Return the number of image files in a folder and a function that reads one; `img_2` sorts before `img_10`.

    Raises:
        VideoRefusedError: the folder has no images.
    """
    with decoding(name, "the folder cannot be read", "Check its permissions."):
        found = list(folder.iterdir())
    files = [path for path in found if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]
    if not files:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise VideoRefusedError(
            f"{name}: the folder has no images ({kinds}). Pass a video file or a folder of frames."
        )
    files.sort(key=_natural_order)
    return len(files), lambda index: _read_image(files[index], max_pixels)


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def _read_image(path: Path, max_pixels: int) -> Frame:
    from PIL import Image

    with decoding(str(path), _IMAGE_FAILURE, _IMAGE_ADVICE):
        check_regular_file(path, str(path))
        with Image.open(path, formats=_IMAGE_FORMATS) as image:
            return _image_to_frame(image, str(path), max_pixels)


def _image_to_frame(image: Any, name: str, max_pixels: int) -> Frame:
    if hasattr(image, "getexif"):
        from PIL import ImageOps

        _check_size(name, image.height, image.width, max_pixels)
        with decoding(name, _IMAGE_FAILURE, _IMAGE_ADVICE):
            turned = ImageOps.exif_transpose(image)
            return np.array((turned or image).convert("RGB"))
    array = to_array(image)
    if array.ndim != 3 or 3 not in (array.shape[-1], array.shape[0]):
        raise ValueError(f"{name}: a frame must have shape (H, W, 3) or (3, H, W), RGB, got {array.shape}.")
    if array.shape[-1] != 3:
        array = np.moveaxis(array, 0, -1)
    _check_size(name, array.shape[0], array.shape[1], max_pixels)
    _check_values(array)
    return _as_bytes(array)


def to_array(array: Any) -> NDArray[Any]:
    """Convert an array or tensor on any device to numpy."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.float() if array.is_floating_point() else array
    return np.asarray(array)


def _check_values(array: NDArray[Any]) -> None:
    if array.dtype == np.uint8:
        return
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"Frames must be uint8 (0 to 255) or float (0 to 1), got {array.dtype}.")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(
            f"Float frames must be in the range 0 to 1, got {low:g} to {high:g}. Scale them, or pass uint8."
        )


def _as_bytes(frame: NDArray[Any]) -> Frame:
    if frame.dtype != np.uint8:
        frame = np.rint(frame * 255.0).astype(np.uint8)
    return np.ascontiguousarray(frame)


def _check_size(name: str, height: int, width: int, max_pixels: int) -> None:
    if not 0 < height * width <= max_pixels:
        raise VideoDecodeError(
            f"{name}: a frame must have 1 to max_pixels={max_pixels} pixels, got {height} x {width}. Resize it, or pass a larger "
            "max_pixels."
        )
