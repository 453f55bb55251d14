"""Read videos: exact frames, the papers' sampling rules, augmentation and crops."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kinoclip.video.decoding import VideoReader
    from kinoclip.video.errors import VideoDecodeError, VideoRefusedError, VideoTimeoutError
    from kinoclip.video.sampling import sample_indices
    from kinoclip.video.sources import VideoSource
    from kinoclip.video.time_limits import time_limit

__all__ = [
    "VideoDecodeError",
    "VideoReader",
    "VideoRefusedError",
    "VideoSource",
    "VideoTimeoutError",
    "sample_indices",
    "time_limit",
]

_HOMES = {
    "VideoDecodeError": "errors",
    "VideoReader": "decoding",
    "VideoRefusedError": "errors",
    "VideoSource": "sources",
    "VideoTimeoutError": "errors",
    "sample_indices": "sampling",
    "time_limit": "time_limits",
}


def __getattr__(name: str) -> Any:
    """Import torch and PyAV only when a reader is asked for: sampling and errors need neither."""
    if name in _HOMES:
        return getattr(import_module(f"kinoclip.video.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
