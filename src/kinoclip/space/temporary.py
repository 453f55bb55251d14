"""Temporary folder of uploads: cleaned while the page runs, deleted with it."""

import tempfile
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread


class TemporaryFolder:
    """Default folder of temporary files of this process; old files are deleted periodically.

    Gradio deletes complete uploads only. Interrupted ones would fill the disk.

    Args:
        every_seconds: interval of the cleanup.
        keep_seconds: age at which files are deleted.
    """

    def __init__(self, every_seconds: float, keep_seconds: float):
        self._folder = tempfile.TemporaryDirectory(prefix="kinoclip-space-")
        # Inside, because Gradio serves files of the temporary folder only.
        self.examples = Path(self._folder.name, "examples")
        self.examples.mkdir()
        tempfile.tempdir = self._folder.name
        Thread(target=self._sweep_on, args=(every_seconds, keep_seconds), daemon=True).start()

    def _sweep_on(self, every_seconds: float, keep_seconds: float) -> None:
        while self.examples.is_dir():
            time.sleep(every_seconds)
            with suppress(FileNotFoundError):  # closed meanwhile
                sweep(self.examples.parent, keep_seconds, but=self.examples)

    def close(self) -> None:
        """Delete the folder and restore the default one."""
        tempfile.tempdir = None
        self._folder.cleanup()


def sweep(folder: Path, keep_seconds: float, but: Path) -> None:
    """Delete files and empty folders older than `keep_seconds`, except those in `but`."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_relative_to(but):
            continue
        with suppress(OSError):  # already deleted, or a folder that is not empty
            if time.time() - path.lstat().st_mtime > keep_seconds:
                path.rmdir() if path.is_dir() else path.unlink()
