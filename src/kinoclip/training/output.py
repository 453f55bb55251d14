"""The folder of a run: one run at a time, and a model to publish at its end."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

import torch

from kinoclip.processing import RecognizerProcessor
from kinoclip.recognizer import VideoRecognizer
from kinoclip.whole_files import write_whole

RECORD, RESULT, CHECKPOINTS, _LOCK = "run.json", "training.json", "checkpoints", ".lock"
# of the runs of this process; the workers that decode must not keep them after it was killed
_LOCKS: set[TextIO] = set()


def _close_locks() -> None:
    for lock in _LOCKS:
        lock.close()


os.register_at_fork(after_in_child=_close_locks)


class RunFolder:
    """The output of a run, locked while it is entered.

    Args:
        path: a new or empty folder; or that of a run, to resume it.
        record: what the run is made with; a resumed run must have the same.
        resume: continue what is there.
        is_main: whether this process of several writes.

    Raises:
        ValueError: the folder holds other things, or a run with other settings; the message says which.
        RuntimeError: another run writes there now.
    """

    def __init__(self, path: str | Path, record: dict[str, Any], resume: bool = False, is_main: bool = True):
        self.path = Path(path)
        self.record = json.loads(json.dumps(record))
        self.resume, self.is_main = resume, is_main
        self._lock: TextIO | None = None

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are."""
        return self.path / CHECKPOINTS

    @property
    def result(self) -> dict[str, Any] | None:
        """What a finished run left, or None."""
        place = self.path / RESULT
        return json.loads(place.read_text(encoding="utf-8")) if place.is_file() else None

    def __enter__(self) -> Self:
        if not self.is_main:
            return self
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"The output {self.path} is a file. Name a folder.")
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self._lock = (self.checkpoints / _LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(
                f"Another run writes to {self.path} now. Wait for it, or name another folder."
            ) from error
        _LOCKS.add(self._lock)
        try:
            self._check()
            write_json(self.path / RECORD, self.record)
        except BaseException:
            self._release()
            raise
        # what a run left that was killed while it wrote
        for leftover in (*self.checkpoints.glob(".*/"), *self.path.glob(".model.*/")):
            shutil.rmtree(leftover)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self.is_main:
            self._forget()
        self._release()

    def _forget(self) -> None:
        """Let a run that failed before there was anything to continue be started again in the same folder."""
        left = [path for path in self.path.iterdir() if path.name not in (RECORD, CHECKPOINTS)]
        left += [path for path in self.checkpoints.iterdir() if path.name != _LOCK]
        if not left:
            (self.path / RECORD).unlink(missing_ok=True)

    def _release(self) -> None:
        if self._lock is not None:
            _LOCKS.discard(self._lock)
            self._lock.close()

    def _check(self) -> None:
        # a run may have been killed while it wrote its record
        own = (CHECKPOINTS, f".{RECORD}.partial")
        there = sorted(path.name for path in self.path.iterdir() if path.name not in own)
        if RECORD not in there:
            there += [path.name for path in self.checkpoints.iterdir() if path.name != _LOCK]
            if there:
                raise ValueError(
                    f"The output folder {self.path} holds other things, first {there[0]}. Name a new folder."
                )
            return
        if not self.resume:
            raise ValueError(f"{self.path} holds a run already. Continue it with --resume, or name a new folder.")
        before = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        changed = [*differences(before, self.record)]
        if changed:
            name, old, new = changed[0]
            raise ValueError(
                f"{self.path} holds a run with {name} = {old!r}, and it is {new!r} now. Resume it with the same settings and "
                "videos, or name a new folder."
            )

    @torch.no_grad()
    def publish(
        self, model: VideoRecognizer, processor: RecognizerProcessor, labels: Sequence[str], encoded: dict[str, Any]
    ) -> None:
        """Write the model with the classes as its own candidates, its processor, and the shims; each file whole."""
        model.eval()
        if model.config.reads_text:
            model.set_candidates(labels, model.encode_text(**encoded))
        partial = Path(tempfile.mkdtemp(prefix=".model.", dir=self.path))
        try:
            model.save_pretrained(partial)
            processor.save_pretrained(partial)
            for file in partial.iterdir():
                place = self.path / file.name
                if place.is_dir():
                    shutil.rmtree(place)
                file.replace(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def differences(before: Any, now: Any, name: str = "") -> list[tuple[str, Any, Any]]:
    """Return the dotted name, the value before and the value now of everything that two nested dicts disagree on."""
    if isinstance(before, dict) and isinstance(now, dict):
        return [
            difference
            for key in sorted({*before, *now})
            for difference in differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
        ]
    return [] if before == now else [(name, before, now)]
