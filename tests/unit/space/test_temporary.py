"""What visitors leave lies in one folder, and goes: what is old at once, the rest with the page."""

import os
import tempfile
import time
from pathlib import Path

from kinoclip.space.temporary import TemporaryFolder, sweep


def test_what_is_old_is_deleted_and_what_is_new_stays(tmp_path):
    for name in ("old/half.mp4", "old/new.mp4", "gone/half.mp4", "examples/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    long_ago = time.time() - 100
    for place in ("old/half.mp4", "old", "gone/half.mp4", "examples/a.mp4", "examples"):
        os.utime(tmp_path / place, (long_ago, long_ago))
    sweep(tmp_path, 50, but=tmp_path / "examples")
    assert [place.name for place in sorted(tmp_path.rglob("*"))] == ["examples", "a.mp4", "gone", "old", "new.mp4"]
    # deleting a file renews its folder, which goes the next time
    os.utime(tmp_path / "gone", (long_ago, long_ago))
    sweep(tmp_path, 50, but=tmp_path / "examples")
    assert not (tmp_path / "gone").exists()


def test_temporary_files_of_the_process_lie_in_the_folder_until_it_is_closed():
    before = tempfile.gettempdir()
    folder = TemporaryFolder(every_seconds=0.01, keep_seconds=0.05)
    try:
        descriptor, left = tempfile.mkstemp()
        os.close(descriptor)
        assert not Path(left).is_relative_to(folder.examples)
        for _ in range(500):
            if not Path(left).exists():
                break
            time.sleep(0.01)
        assert not Path(left).exists()
        assert folder.examples.is_dir()
    finally:
        folder.close()
    assert tempfile.gettempdir() == before
    assert not folder.examples.exists()
