"""The output folder of a run: locked, checked on resumption; and signals that stop a run."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.storage import (
    claimed,
    escape_text,
    exclusive,
    remove,
    remove_all_temporaries,
    temporary_folder,
    write_json,
)

# settings and data of a run, its result, and its checkpoints
RECORD, RESULT, CHECKPOINTS = "run.json", "training.json", "checkpoints"


@contextmanager
def claim_folder(
    path: Path, name: str, record: dict[str, Any], *, resume: bool = True, may_differ: tuple[str, ...] = ()
) -> Iterator[None]:
    """Lock an output folder and write the record of a job, which is removed if the job fails before it writes anything.

    Args:
        path: a new or empty folder, or that of the same job.
        name: of the record's file.
        record: settings of the job.
        resume: the folder may hold the same job.
        may_differ: dotted names of settings without influence on what the job writes.

    Raises:
        ValueError: the folder holds other files, or a job with another record.
        RuntimeError: another process holds the lock.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(f"The output {path} is a file. Name a folder.")
    path.mkdir(parents=True, exist_ok=True)
    with exclusive(path, path / ".lock"):
        file, record = path / name, json.loads(json.dumps(record))
        if not file.is_file():
            if others := _visible_files(path):
                raise ValueError(f"The output folder {path} holds other files, first {others[0]}. Name a new folder.")
        elif not resume:
            raise ValueError(f"{path} holds a run already. Continue it with --resume, or name a new folder.")
        elif changed := [
            one
            for one in differences(json.loads(file.read_text(encoding="utf-8")), record)
            if not one[0].startswith(may_differ)
        ]:
            setting, before, now = changed[0]
            raise ValueError(
                f"{path} holds a run with {setting} = {before!r}, and it is {now!r} now. Continue with the same settings and "
                "data, or name a new folder."
            )
        write_json(file, record, owns=claimed)
        try:
            yield
        except BaseException:
            if _visible_files(path) == [name]:
                file.unlink()
                with suppress(OSError):  # nothing was saved
                    (path / CHECKPOINTS).rmdir()
            raise


def _visible_files(path: Path) -> list[str]:
    """Return the names of files and folders that are neither hidden nor empty."""
    empty = [file for file in path.iterdir() if file.is_dir() and not any(file.iterdir())]
    return sorted(file.name for file in path.iterdir() if not file.name.startswith(".") and file not in empty)


def remove_leftovers(path: Path) -> None:
    """Remove what a killed run was writing."""
    for folder in (path, path / CHECKPOINTS):
        remove_all_temporaries(folder)


def save_model(path: Path, model: VideoRecognizer, processor: RecognizerProcessor) -> None:
    """Save a model and its processor beside other files, each file atomically."""
    with temporary_folder(path / "model") as partial:
        model.save_pretrained(partial)
        processor.save_pretrained(partial)
        for file in partial.iterdir():
            target = path / file.name
            if target.is_dir():
                remove(target)
            file.replace(target)


def differences(before: Any, now: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Return the dotted name, the value before and the value now of each difference between two nested dicts."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for key in sorted({*before, *now})
            for difference in differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == now else [(name, before, now)]


class SignalHandler:
    """Record Ctrl-C and SIGTERM while it is entered, so that a run can stop after an update; a second one stops at once.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            signals = (signal.SIGINT, signal.SIGTERM)
            self._wakeup = signal.set_wakeup_fd(-1)  # the run ends after its update, however long that takes
            self._before = {number: signal.signal(number, self._receive) for number in signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._before:
            signal.set_wakeup_fd(self._wakeup)

    def stop(self) -> NoReturn:
        """Raise the received signal with its previous handler; without a signal, as on Ctrl-C."""
        if self.received is not None:
            signal.signal(self.received, self._before[signal.Signals(self.received)])
            signal.set_wakeup_fd(self._wakeup)
            signal.raise_signal(self.received)
        raise KeyboardInterrupt

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            self.stop()
        self.received = number


def log(message: str) -> None:
    """Write a line of progress to stderr."""
    sys.stderr.write(f"kinoclip: {escape_text(message)}\n")
