"""Measure two shortcuts of decoding that kinoclip does not take: python examples/benchmark/shortcuts.py.

Loop filter: H.264, HEVC, VP9 and AV1 with the loop filter off for frames that no other references ("noref"), whose pixels must not change where
a frame is shown. Scaling while converting: swscale from the decoded frame to the size of the model, in one step, and in two, first to at least
twice the size; beside conversion at full size and `resize_frames`: milliseconds per frame of this process, and grey levels off.
"""

import argparse
import json
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import av
import numpy as np
import torch
from av.video.reformatter import Interpolation, VideoReformatter
from measuring import describe_machine

from kinoclip.video.transforms import resize_frames, resize_to

CODECS = {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9", "libsvtav1": "libdav1d"}
EXACT = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
FLAGS = {name: Interpolation[name] | EXACT for name in ("BICUBIC", "LANCZOS", "AREA")} | {
    "FAST": Interpolation.FAST_BILINEAR
}
SHORT_SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heights", type=int, nargs="+", default=(720, 1080, 2160))
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pictures = draw(320, 184, options.frames)
    result = {
        "machine": describe_machine(),
        "loop_filter": {
            codec: measure_filter(encoder, pictures, options.repeats) for encoder, codec in CODECS.items()
        },
        "scaling": {height: measure_scaling(height, options.repeats) for height in options.heights},
    }
    print(json.dumps(result, indent=1))


def draw(width: int, height: int, count: int) -> list[np.ndarray]:
    """Draw pictures with edges, texture and motion."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (height // 6 + 20, width // 6 + 20, 3)).repeat(6, 0).repeat(6, 1)
    noise = rng.integers(-6, 6, (height, width, 3))
    return [
        (np.roll(texture, (i, 2 * i), (0, 1))[:height, :width] + noise).clip(0, 255).astype(np.uint8)
        for i in range(count)
    ]


def encode(encoder: str, pictures: list[np.ndarray]) -> list[av.Packet]:
    """Return the packets of a low-quality video with B-frames where the codec has them; the loop filter has work to do."""
    codec = av.CodecContext.create(encoder, "w")
    codec.height, codec.width = pictures[0].shape[:2]
    codec.pix_fmt, codec.framerate, codec.time_base = "yuv420p", 30, Fraction(1, 30)
    codec.options = {"crf": "38"} | ({"x265-params": "log-level=none"} if encoder == "libx265" else {})
    packets = []
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = number
        packets += codec.encode(frame)
    return [*packets, *codec.encode(None)]


def measure_filter(encoder: str, pictures: list[np.ndarray], repeats: int) -> dict:
    """Compare frames with the loop filter off for none, for unreferenced ones, and for all."""
    packets, frames, seconds = encode(encoder, pictures), {}, {}
    for _ in range(repeats):
        for skipped in ("default", "noref", "all"):
            start = time.process_time()
            decoder = av.CodecContext.create(CODECS[encoder], "r")
            decoder.thread_type, decoder.thread_count = "NONE", 1
            decoder.options = {"skip_loop_filter": skipped}
            frames[skipped] = [frame for packet in (*packets, None) for frame in decoder.decode(packet)]
            seconds[skipped] = min(seconds.get(skipped, 9e9), time.process_time() - start)
    decoder = av.CodecContext.create(CODECS[encoder], "r")
    decoder.skip_frame = "NONREF"
    referenced = {frame.pts for packet in (*packets, None) for frame in decoder.decode(packet)}
    arrays = {skipped: [f.to_ndarray(format="rgb24") for f in each] for skipped, each in frames.items()}
    changed = {
        skipped: {
            frame.pts
            for frame, one, other in zip(frames["default"], arrays["default"], each, strict=True)
            if not np.array_equal(one, other)
        }
        for skipped, each in arrays.items()
    }
    return {
        "frames": len(pictures),
        "referenced": len(referenced),
        "changed": {skipped: len(each) for skipped, each in changed.items()},
        "changed_referenced": {skipped: len(each & referenced) for skipped, each in changed.items()},
        "of_the_time": {skipped: round(each / seconds["default"], 2) for skipped, each in seconds.items()},
    }


def measure_scaling(height: int, repeats: int) -> dict:
    """Compare ways from a decoded frame to a short side of `SHORT_SIDE`."""
    width = height * 16 // 9
    [picture] = draw(width, height, 1)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
    size = (SHORT_SIDE * width // height, SHORT_SIDE)

    def convert(converter: VideoReformatter, flags: int | None = None, factor: int | None = None) -> torch.Tensor:
        scaled = (
            {} if factor is None else {"width": factor * size[0], "height": factor * size[1], "interpolation": flags}
        )
        array = converter.reformat(frame, format="rgb24", threads=1, **scaled).to_ndarray()
        return torch.from_numpy(np.ascontiguousarray(array)).permute(2, 0, 1)

    def two_steps(converter: VideoReformatter, flags: int, factor: int) -> torch.Tensor:
        return resize_to(convert(converter, flags, factor)[None], size[1], size[0])[0]

    def today(converter: VideoReformatter) -> torch.Tensor:
        return resize_frames(convert(converter)[None], SHORT_SIDE)[0]

    ways: dict[str, Callable[[], torch.Tensor]] = {"today": partial(today, VideoReformatter())}
    for name, flags in FLAGS.items():
        ways[f"{name}, one step"] = partial(convert, VideoReformatter(), flags, 1)
        if height > 2 * SHORT_SIDE:
            ways[f"{name}, two steps"] = partial(two_steps, VideoReformatter(), flags, 2)
    found, seconds = {name: way().int() for name, way in ways.items()}, {}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.process_time()
            way()
            seconds[name] = min(seconds.get(name, 9e9), time.process_time() - start)
    off = {name: (one - found["today"]).abs().float() for name, one in found.items()}
    return {
        name: {
            "ms": round(1000 * seconds[name], 2),
            "most": int(off[name].max()),
            "mean": round(float(off[name].mean()), 2),
        }
        for name in ways
    }


if __name__ == "__main__":
    main()
