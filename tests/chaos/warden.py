"""Children of a process that has imported everything: each reads one video within limits of time and memory."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from chaos.limits import limited

SECONDS = 30
# beyond what the imports take
MEMORY_BYTES = 1_500_000_000
FRAMES = 300


def read_video(path: str, how: str) -> str:
    """Read a video as a stranger's: some frames, all of them in order, and their times; say how it went."""
    from kinoclip.video import VideoDecodeError, VideoReader

    try:
        source = {"path": path, "bytes": Path(path).read_bytes, "folder": lambda: Path(path).parent}[how]
        source = source() if callable(source) else source
        with VideoReader(source) as reader:
            reader.frames([i * reader.num_frames // 8 for i in range(8)])
            for number, _ in enumerate(reader.iterate()):
                if number >= FRAMES:
                    break
            if reader.fps:
                reader.timestamps(range(min(reader.num_frames, FRAMES)))
    except (VideoDecodeError, FileNotFoundError) as error:
        return "error" if "\n" not in str(error) and len(str(error)) < 1000 else f"a long message: {str(error)[:200]}"
    return "frames"


def _serve() -> None:
    import torch
    from PIL import Image

    import kinoclip.video._session
    import kinoclip.video.reader  # noqa: F401  (children must not import it again)

    torch.set_num_threads(1)
    Image.init()  # the plug-ins that a child would import for each picture
    with contextlib.suppress(ImportError):
        import av  # noqa: F401
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        outcome = limited(lambda request=request: read_video(**request), memory_bytes=MEMORY_BYTES, seconds=SECONDS)
        sys.stdout.write(json.dumps(outcome) + "\n")
        sys.stdout.flush()


class Warden:
    """Reads videos in limited children, one at a time.

    Args:
        wrapper: a command to run it under, such as strace.
    """

    def __init__(self, *wrapper: str):
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "chaos.warden"],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._requests, self._answers = self.process.stdin, self.process.stdout
        assert self._answers.readline() == "ready\n"

    def read(self, path: str | Path, how: str = "path") -> str:
        """Give "frames", "error" (one clear one), or what went wrong."""
        self._requests.write(json.dumps({"path": str(path), "how": how}) + "\n")
        self._requests.flush()
        return str(json.loads(self._answers.readline()))

    def attack_pictures(self, folder: Path, attacks: Iterable[tuple[str, str, bytes]]) -> dict[str, str]:
        """Read each content as the second frame of a folder, behind a sound one, and give the outcome by name.

        Args:
            folder: with the sound frame in it.
            attacks: name of the attack, suffix of the file, and content.
        """
        outcomes = {}
        for name, suffix, content in attacks:
            path = folder / f"frame_2{suffix}"
            path.write_bytes(content)
            outcomes[name] = self.read(path, "folder")
            path.unlink()
        return outcomes

    def attack(self, folder: Path, attacks: Iterable[tuple[str, bytes]]) -> dict[str, str]:
        """Read each content as a file and from memory in turn, and give the outcome by the name of the attack."""
        outcomes = {}
        for number, (name, content) in enumerate(attacks):
            path = folder / "attack.mp4"
            path.write_bytes(content)
            outcomes[name] = self.read(path, "path" if number % 2 else "bytes")
        return outcomes

    def close(self) -> None:
        """End the process."""
        self._requests.close()
        self.process.wait(timeout=60)


def lost(outcomes: dict[str, str]) -> dict[str, str]:
    """Give the attacks that ended neither in frames nor in one clear error."""
    return {name: outcome for name, outcome in outcomes.items() if outcome not in ("frames", "error")}


def count(outcomes: dict[str, str]) -> dict[str, int]:
    """Count the outcomes."""
    return dict(Counter(outcome if outcome in ("frames", "error") else "lost" for outcome in outcomes.values()))


if __name__ == "__main__":
    _serve()
