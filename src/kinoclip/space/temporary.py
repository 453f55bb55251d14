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
        # inside, because Gradio shows files of the temporary folder alone
        self.examples = Path(self._folder.name, "examples")
        self.examples.mkdir()
        tempfile.tempdir = self._folder.name
        Thread(target=self._sweep_on, args=(every_seconds, keep_seconds), daemon=True).start()

    def _sweep_on(self, every_seconds: float, keep_seconds: float) -> None:
        while self.examples.is_dir():
            time.sleep(every_seconds)
            sweep(self.examples.parent, keep_seconds, but=self.examples)

    def close(self) -> None:
        """Delete everything; temporary files are made where they were before."""
        tempfile.tempdir = None
        self._folder.cleanup()


def sweep(folder: Path, keep_seconds: float, but: Path) -> None:
    """Delete what nobody wrote to for so long, and folders that are empty for as long, but nothing in one of them."""
    for place in sorted(folder.rglob("*"), reverse=True):
        if place.is_relative_to(but):
            continue
        with suppress(OSError):  # it is gone already, or a folder that is not empty
            if time.time() - place.lstat().st_mtime > keep_seconds:
                place.rmdir() if place.is_dir() else place.unlink()
