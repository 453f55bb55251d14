"""Clips as files, for tests of what reads them."""

from collections.abc import Iterable
from pathlib import Path

from kinoclip.kinoshapes import write_video
from kinoclip.kinoshapes.files import Clip


def write_clips(folder: Path, clips: Iterable[Clip], name: str = "{number}.mp4") -> Path:
    """Write clips into a folder and return it; `name` is formatted with each clip and its number."""
    for number, clip in enumerate(clips):
        path = folder / name.format(clip=clip, number=number)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, clip.frames, clip.spec.fps)
    return folder
