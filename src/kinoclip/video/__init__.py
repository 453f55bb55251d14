"""Reading videos: exact frames, sampling rules of the papers, crops and augmentation."""

from typing import TYPE_CHECKING

from kinoclip.lazy import lazy_names

if TYPE_CHECKING:
    from kinoclip.video.errors import VideoDecodeError, VideoRefusedError, VideoTimeoutError
    from kinoclip.video.limits import time_limit
    from kinoclip.video.reader import VideoReader
    from kinoclip.video.sampling import sample_indices
    from kinoclip.video.sources import VideoSource

__all__ = [
    "VideoDecodeError",
    "VideoReader",
    "VideoRefusedError",
    "VideoSource",
    "VideoTimeoutError",
    "sample_indices",
    "time_limit",
]

# Sampling and errors must not wait for torch and PyAV.
_MODULES = {
    **dict.fromkeys(("VideoDecodeError", "VideoRefusedError", "VideoTimeoutError"), "errors"),
    "VideoReader": "reader",
    "VideoSource": "sources",
    "sample_indices": "sampling",
    "time_limit": "limits",
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
