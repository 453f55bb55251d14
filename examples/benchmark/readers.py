"""Frames of a video and pixels for CLIP, as kinoclip, its peers and the authors' loaders make them.

A reader takes a path and T and gives frames 0, n // T, 2n // T, ... as uint8 (T, H, W, 3). What it needs is imported on its first use.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from PIL import Image

from kinoclip import VideoReader

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SIZE = 224


def places(num_frames: int, count: int) -> list[int]:
    return [i * num_frames // count for i in range(count)]


def read_kinoclip(path: str, count: int, threads: int | None = None) -> np.ndarray:
    with VideoReader(path, threads=threads) as reader:
        return reader.frames(places(reader.num_frames, count), channels_last=True).permute(0, 2, 3, 1).numpy()


def read_kinoclip_one_core(path: str, count: int) -> np.ndarray:
    return read_kinoclip(path, count, threads=1)


def read_decord(path: str, count: int) -> np.ndarray:
    """As the official loaders do: one index after another."""
    import decord

    reader = decord.VideoReader(path)
    return np.stack([reader[i].asnumpy() for i in places(len(reader), count)])


def read_torchcodec(path: str, count: int, threads: int = 1) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, seek_mode="exact", dimension_order="NHWC", num_ffmpeg_threads=threads)
    return decoder.get_frames_at(places(len(decoder), count)).data.numpy()


def read_torchcodec_all_cores(path: str, count: int) -> np.ndarray:
    return read_torchcodec(path, count, threads=0)


def read_opencv(path: str, count: int) -> np.ndarray:
    import cv2

    capture = cv2.VideoCapture(path)
    wanted = places(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), count)
    frames = {}
    for index in range(wanted[-1] + 1):
        if not capture.grab():
            raise EOFError(f"frame {index} of {path} is missing")
        if index in wanted:
            frames[index] = cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
    capture.release()
    return np.stack([frames[index] for index in wanted])


def read_transformers(path: str, count: int) -> np.ndarray:
    from transformers.video_utils import load_video

    def choose(metadata, **kwargs) -> np.ndarray:
        return np.array(places(metadata.total_num_frames, count))

    return np.asarray(load_video(path, sample_indices_fn=choose)[0])


READERS: dict[str, Callable[[str, int], np.ndarray]] = {
    "kinoclip": read_kinoclip,
    "kinoclip, one core": read_kinoclip_one_core,
    "decord": read_decord,
    "torchcodec": read_torchcodec,
    "torchcodec, all cores": read_torchcodec_all_cores,
    "OpenCV": read_opencv,
    "transformers load_video": read_transformers,
}


def pixels_authors(frames: np.ndarray) -> torch.Tensor:
    """Resize the short side to 256 in PIL, cut out the middle, scale and normalize: what the official transforms do."""
    cropped = []
    for frame in frames:
        image = Image.fromarray(frame)
        scale = 256 / min(image.size)
        width, height = (256 if side == min(image.size) else int(side * scale) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
        cropped.append(np.asarray(image.crop((left, top, left + SIZE, top + SIZE))))
    pixels = torch.from_numpy(np.stack(cropped)).permute(0, 3, 1, 2).contiguous().float().div(255)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def to_grey_levels(pixels: torch.Tensor) -> torch.Tensor:
    """Undo the normalization: from 0 to 255."""
    return (pixels * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255


@cache
def image_processor():
    from transformers import VideoMAEImageProcessor

    size = {"size": {"shortest_edge": 256}, "crop_size": {"height": SIZE, "width": SIZE}}
    return VideoMAEImageProcessor(**size, resample=Image.Resampling.BICUBIC, image_mean=MEAN, image_std=STD)


def pixels_transformers(frames: np.ndarray) -> torch.Tensor:
    """What the processor of X-CLIP does; its crop lies one pixel off the official one in wide videos."""
    return image_processor()(list(frames), return_tensors="pt")["pixel_values"][0]
