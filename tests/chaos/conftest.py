"""What the attacks share."""

from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch
from chaos.warden import Warden, count, lost

from kinoclip import BikeConfig, BikeModel
from kinoclip.kinoshapes import kinoshapes_clips

CONTAINERS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mjpeg.avi": ("mjpeg", "yuvj420p"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "h264.mkv": ("libx264", "yuv420p"),
    "hevc.mp4": ("libx265", "yuv420p"),
    "mpeg2.ts": ("mpeg2video", "yuv420p"),
    "flv1.flv": ("flv", "yuv420p"),
    "wmv2.asf": ("wmv2", "yuv420p"),
    "gif.gif": ("gif", "rgb8"),
}


@pytest.fixture(scope="session")
def contents(tmp_path_factory) -> dict[str, bytes]:
    """A clip of KinoShapes, 16 frames of 64 x 64, in ten containers and codecs."""
    folder = tmp_path_factory.mktemp("contents")
    clip = next(iter(kinoshapes_clips(1, seed=5, split="test")))
    contents = {}
    for name, (codec, pix_fmt) in CONTAINERS.items():
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream(codec, rate=8, options=options)
            stream.height, stream.width = clip.frames.shape[1:3]
            stream.pix_fmt = pix_fmt
            for picture in clip.frames:
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pix_fmt)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        contents[name] = (folder / name).read_bytes()
    return contents


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, tiny_fields, bike_processor) -> Path:
    """A folder of a sound model of this package."""
    folder = tmp_path_factory.mktemp("models") / "bike"
    torch.manual_seed(0)
    BikeModel(BikeConfig(**tiny_fields)).save_pretrained(folder)
    bike_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def warden():
    """A process that reads videos in limited children."""
    warden = Warden()
    yield warden
    warden.close()


@pytest.fixture
def opened_by(tmp_path_factory):
    """A function that runs attacks under strace: it returns the calls that open something else, and the outcomes."""

    def run(attack: Callable[[Warden], dict[str, str]], folder: Path) -> tuple[list[str], dict[str, str]]:
        log = tmp_path_factory.mktemp("strace") / "calls"
        warden = Warden("strace", "-f", "-qq", "-o", str(log), "-e", "trace=openat,open,creat,connect,execve")
        try:
            begun = len(log.read_text().splitlines())
            outcomes = attack(warden)
        finally:
            warden.close()
        harmless = ("/proc/self/", "/sys/devices/system/cpu", "/proc/cpuinfo", "/proc/meminfo", "site-packages")
        allowed = (str(folder), *harmless, ".py", ".so")
        calls = [line for line in log.read_text().splitlines()[begun:] if '"' in line or "connect(" in line]
        return [line for line in calls if not any(name in line for name in allowed)], outcomes

    return run


@pytest.fixture
def hold(record_property):
    """A function that notes the outcomes of attacks for the table, and fails if any was lost."""

    def hold(outcomes: dict[str, str]) -> None:
        record_property("outcomes", count(outcomes))
        assert not lost(outcomes)

    return hold
