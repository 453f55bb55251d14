"""The one folder for whatever visitors leave: swept while the Space runs, and gone with it."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread


class TemporaryFolder:
    """A folder in which this process makes its temporary files from now on; what is old in it is deleted from time to time.

    Gradio deletes the uploads that it knows of. It does not know of those that broke off, which would fill the disk.

    Args:
        every_seconds: how often to look.
        keep_seconds: how old a file may grow.
    """

    def __init__(self, every_seconds: float, keep_seconds: float):
        self._folder = tempfile.TemporaryDirectory(prefix="kinoclip-space-")
        self.examples, visitors = Path(self._folder.name, "examples"), Path(self._folder.name, "visitors")
        for place in (self.examples, visitors):
            place.mkdir()
        tempfile.tempdir = str(visitors)
        Thread(target=_sweep_on, args=(visitors, every_seconds, keep_seconds), daemon=True).start()

    def close(self) -> None:
        """Delete everything; temporary files are made where they were before."""
        tempfile.tempdir = None
        self._folder.cleanup()


def _sweep_on(folder: Path, every_seconds: float, keep_seconds: float) -> None:
    while folder.is_dir():
        time.sleep(every_seconds)
        sweep(folder, keep_seconds)


def sweep(folder: Path, keep_seconds: float) -> None:
    """Delete what nobody wrote to for so long, and folders that are empty for as long."""
    for place in sorted(folder.rglob("*"), reverse=True):
        with suppress(OSError):  # it is gone already, or a folder that is not empty
            if time.time() - place.lstat().st_mtime > keep_seconds:
                place.rmdir() if place.is_dir() else place.unlink()
