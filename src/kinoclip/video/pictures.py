"""Frames that are already pictures: arrays, tensors, lists of images, folders of image files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinoclip.video.display import Frame
from kinoclip.video.errors import VideoDecodeError, VideoRefusedError

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}


def load_from_array(video: NDArray[Any], max_pixels: int) -> tuple[int, Callable[[int], Frame]]:
    """Give the number of frames of an array, and a way to get at each.

    Args:
        video: (T, H, W, 3), or (T, 3, H, W); the last axis decides where both have 3. uint8, or float from 0 to 1.
        max_pixels: of a frame.

    Raises:
        ValueError: another shape, or values out of range.
        TypeError: another kind of number.
    """
    if video.ndim != 4 or 3 not in (video.shape[-1], video.shape[1]):
        raise ValueError(f"An array of shape {video.shape} is no video. Give (T, H, W, 3) or (T, 3, H, W), RGB.")
    if video.shape[-1] != 3:
        video = np.moveaxis(video, 1, -1)
    _check_size("an array", video.shape[1], video.shape[2], max_pixels)
    _check_values(video)
    return len(video), lambda index: _as_bytes(video[index])


def load_from_list(images: Sequence[Any], max_pixels: int) -> tuple[int, Callable[[int], Frame]]:
    """Give the number of images, and a way to get at each.

    Args:
        images: PIL images, or arrays (H, W, 3) or (3, H, W); tensors as well.
        max_pixels: of an image.

    Raises:
        TypeError: something else is in the list.
        ValueError: an array of another shape.
    """
    for number, image in enumerate(images):
        if not (hasattr(image, "getexif") or hasattr(image, "__array__")):
            raise TypeError(
                f"Item {number} is a {type(image).__name__}. A list must hold the frames of one video, as images."
            )
    return len(images), lambda index: _image_to_frame(images[index], f"image {index}", max_pixels)


def load_from_folder(folder: Path, name: str, max_pixels: int) -> tuple[int, Callable[[int], Frame]]:
    """Give the number of image files in a folder, and a way to read each; `img_2` comes before `img_10`.

    Raises:
        VideoRefusedError: there are none.
    """
    files = [
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if not files:
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise VideoRefusedError(
            f"{name}: the folder holds no frame images ({kinds}). Give a video file, or such a folder."
        )
    files.sort(key=_natural_order)
    return len(files), lambda index: _read_image(files[index], max_pixels)


def _natural_order(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def _read_image(path: Path, max_pixels: int) -> Frame:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return _image_to_frame(image, str(path), max_pixels)
    except VideoDecodeError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoDecodeError(
            f"{path}: the image cannot be read ({error}). Remove it or extract the frames again."
        ) from error


def _image_to_frame(image: Any, name: str, max_pixels: int) -> Frame:
    if hasattr(image, "getexif"):
        from PIL import ImageOps

        _check_size(name, image.height, image.width, max_pixels)
        turned = ImageOps.exif_transpose(image)
        return np.array((turned or image).convert("RGB"))
    array = to_array(image)
    if array.ndim != 3 or 3 not in (array.shape[-1], array.shape[0]):
        raise ValueError(f"{name}: an array of shape {array.shape} is no frame. Give (H, W, 3) or (3, H, W), RGB.")
    if array.shape[-1] != 3:
        array = np.moveaxis(array, 0, -1)
    _check_size(name, array.shape[0], array.shape[1], max_pixels)
    _check_values(array)
    return _as_bytes(array)


def to_array(array: Any) -> NDArray[Any]:
    """Make a numpy array of an array or tensor, wherever it lives."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.float() if array.is_floating_point() else array
    return np.asarray(array)


def _check_values(array: NDArray[Any]) -> None:
    if array.dtype == np.uint8:
        return
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"Frames of {array.dtype} are not understood. Give uint8 (0 to 255) or float (0 to 1).")
    low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
    if not (low >= 0.0 and high <= 1.0):
        raise ValueError(
            f"Float frames must lie in 0 to 1, but these go from {low:g} to {high:g}. Scale them, or give uint8."
        )


def _as_bytes(frame: NDArray[Any]) -> Frame:
    if frame.dtype != np.uint8:
        frame = np.rint(frame * 255.0).astype(np.uint8)
    return np.ascontiguousarray(frame)


def _check_size(name: str, height: int, width: int, max_pixels: int) -> None:
    if not 0 < height * width <= max_pixels:
        raise VideoDecodeError(
            f"{name}: {height} x {width} pixels; a frame has at least 1 and at most max_pixels={max_pixels}. "
            "Resize it, or pass a larger max_pixels."
        )
