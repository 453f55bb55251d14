"""What a reader holds, and what importing it costs."""

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

import kinoclip.video
from kinoclip.video import VideoReader

PROC = Path("/proc/self")


def held() -> tuple[int, int]:
    gc.collect()
    return len(list((PROC / "fd").iterdir())), len(list((PROC / "task").iterdir()))


@pytest.mark.skipif(not PROC.exists(), reason="needs /proc")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("close", [True, False])
def test_many_readers_leave_no_file_and_no_thread_open(h264, each_way, threads, close):
    VideoReader(h264, threads=threads).frames([0])
    before = held()
    for _ in range(60):
        reader = VideoReader(h264, threads=threads)
        reader.frames([20])
        if close:
            reader.close()
    del reader
    assert held() == before


@pytest.mark.skipif(not PROC.exists(), reason="needs /proc")
def test_videos_that_cannot_be_read_leave_no_file_open(h264, tmp_path):
    (tmp_path / "cut.mp4").write_bytes(h264.read_bytes()[:2000])
    before = held()
    for _ in range(100):
        with pytest.raises(ValueError, match="FFmpeg cannot open it as a video"):
            VideoReader(tmp_path / "cut.mp4")
    assert held() == before


def test_a_file_of_the_caller_stays_open(h264):
    file = BytesIO(h264.read_bytes())
    VideoReader(file).close()
    assert not file.closed


def test_readers_in_several_threads_do_not_disturb_each_other(h264, each_way, read_numbers):
    def read(index: int) -> list[int]:
        with VideoReader(h264) as reader:
            return read_numbers(reader.frames([index, 49 - index]))

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, range(40))) == [[index, 49 - index] for index in range(40)]


def test_a_half_read_iteration_can_be_dropped(h264, each_way, read_numbers):
    with VideoReader(h264) as reader:
        frames = reader.iterate()
        next(frames)
        frames.close()
        assert read_numbers(reader.frames([5])) == [5]


def test_two_iterations_of_one_reader_taken_in_turn_give_the_right_frames(h264, each_way, read_numbers):
    with VideoReader(h264) as reader:
        first, second = reader.iterate(), reader.iterate([40, 41])
        got = [read_numbers([next(first)]), read_numbers([next(second)])]
        got += [read_numbers([next(first)]), read_numbers([next(second)])]
    assert got == [[0], [40], [1], [41]]


def test_one_reader_used_from_several_threads_gives_the_right_frames(h264, each_way, read_numbers):
    with VideoReader(h264) as reader, ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda index: read_numbers(reader.frames([index, 49 - index])), range(0, 50, 5)))
    assert got == [[index, 49 - index] for index in range(0, 50, 5)]


def test_an_iteration_over_a_closed_reader_is_an_error(h264, each_way):
    reader = VideoReader(h264)
    frames = reader.iterate()
    next(frames)
    reader.close()
    with pytest.raises(ValueError, match="the reader is closed"):
        next(frames)


IMPORTS = """
import sys, types
package = types.ModuleType("kinoclip")
package.__path__ = [{root!r}]
sys.modules["kinoclip"] = package
import {module}
print(" ".join(sorted(name for name in ("torch", "transformers", "av", "torchvision") if name in sys.modules)))
"""


@pytest.mark.parametrize(
    ("module", "loaded"),
    [("kinoclip.video", ""), ("kinoclip.video.sampling", ""), ("kinoclip.video.reader", "torch")],
)
def test_a_module_of_this_folder_imports_only_what_it_needs(module, loaded):
    root = str(Path(kinoclip.video.__file__).parents[1])
    code = IMPORTS.format(root=root, module=module)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == loaded


def test_the_log_level_of_pyav_is_left_alone(h264):
    import av

    VideoReader(h264).frames([0])
    assert av.logging.get_level() is None
