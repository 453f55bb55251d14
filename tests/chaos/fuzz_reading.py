"""A fuzz that coverage guides: `python fuzz_reading.py TARGET LOG [libFuzzer's options and folders]`, with atheris.

The code that guides it is kinoclip's own and PyAV's Python; FFmpeg is packaged without instruments. An input is lost if it ends in
anything but an answer or one clear error; libFuzzer then keeps it as `crash-...`. The first line of a text names the reader for the rest,
or chooses one by its length.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PACKAGES = ["kinoclip", "av"]
SEEDS = Path(__file__).with_name("seeds")


def read_video(content: bytes, folder: Path) -> str:
    """Read a video from memory, and say how it went."""
    from chaos.warden import read_video

    (folder / "video").write_bytes(content)
    return read_video(str(folder / "video"), "bytes")


def read_text(content: bytes, folder: Path) -> str:
    """Read a list, a table, a recipe or a record, and say how it went."""
    from chaos.test_files import READERS, outcome

    line, _, rest = content.partition(b"\n")
    name = line.decode("latin-1")
    if name not in READERS:
        name = list(READERS)[len(line) % len(READERS)]
    (folder / name).write_bytes(rest)
    return outcome(READERS[name][1], folder / name)


TARGETS: dict[str, Callable[[bytes, Path], str]] = {"video": read_video, "text": read_text}


def main(target: str, log: str, *options: str) -> None:
    """Fuzz until libFuzzer ends the process; each outcome is a letter in the log."""
    import atheris

    with atheris.instrument_imports(include=PACKAGES):
        import av  # noqa: F401
        from chaos import test_files, warden  # noqa: F401

        import kinoclip.video.reader  # noqa: F401

    folder = Path(tempfile.mkdtemp())
    letters = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def attack(content: bytes) -> None:
        found = TARGETS[target](content, folder)
        os.write(letters, found[:1].encode())
        if found not in ("frames", "error"):
            raise AssertionError(found)

    atheris.Setup([sys.argv[0], *options], attack)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
