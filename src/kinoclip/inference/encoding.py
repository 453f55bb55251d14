"""Encode frames, with all CPU cores at work.

Torch cuts every product into one part per thread and waits for the slowest after each. Threads that encode different frames
wait once, at the end. The number of torch's threads is a setting of the process: a thread that starts to use torch while it
is lowered keeps the lower number.
"""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from itertools import groupby, islice
from threading import Lock
from typing import TypeVar

import torch
from packaging.version import Version
from torch import Tensor
from torch.nn.functional import normalize

from kinoclip.modeling.checkpoints import first_line
from kinoclip.modeling.outputs import FrameFeatures
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.modeling.video_processing import SampledVideo

Item = TypeVar("Item")
Result = TypeVar("Result")

# held while the number of torch's threads is lowered
_lowered = Lock()


@dataclass(frozen=True)
class EncodedVideo:
    """The frame features of one video.

    Args:
        features: of its views, (V, T, D).
        indices: of the frames in the video.
        timestamps: of the frames, in seconds after the first of the video; None where the source has no clock.
        duration_seconds: of the whole video; None where the source has no clock.
    """

    features: FrameFeatures
    indices: list[int]
    timestamps: list[float] | None
    duration_seconds: float | None


@torch.inference_mode()
def encode_videos(model: VideoRecognizer, videos: Sequence[SampledVideo | EncodedVideo]) -> list[EncodedVideo]:
    """Encode the frames of decoded videos in one batch; videos that are encoded already are returned as they are."""
    decoded = [video for video in videos if isinstance(video, SampledVideo)]
    encoded = []
    if decoded:
        pixels = torch.cat([video.pixel_values for video in decoded]).to(model.device, model.dtype)
        times = [video.frame_times for video in decoded if video.frame_times is not None]
        rows = encode_on_cores(model, pixels, torch.cat(times).to(model.device) if times else None)
        views = len(pixels) // len(decoded)
        for number, video in enumerate(decoded):
            own = slice(number * views, (number + 1) * views)
            features = FrameFeatures(**{name: tensor[own] for name, tensor in rows.items()})
            encoded.append(EncodedVideo(features, list(video.indices), video.timestamps, video.duration_seconds))
    fresh = iter(encoded)
    return [video if isinstance(video, EncodedVideo) else next(fresh) for video in videos]


def join_features(model: VideoRecognizer, videos: Sequence[EncodedVideo]) -> FrameFeatures:
    """Concatenate the features of all views of all videos, (B * V, T, D), on the model's device."""
    names = videos[0].features.keys()
    return FrameFeatures(
        **{name: torch.cat([video.features[name].to(model.device) for video in videos]) for name in names}
    )


def mean_of_views(embeds: Tensor, videos: int) -> Tensor:
    """Average the embeddings (B * V, D) of the views of `videos` videos: (B, D) float32, unit length, on the CPU."""
    views = normalize(embeds.float(), dim=-1).unflatten(0, (videos, -1))
    return normalize(views.mean(1), dim=-1).cpu()


@torch.inference_mode()
def encode_on_cores(model: VideoRecognizer, pixels: Tensor, frame_times: Tensor | None = None) -> FrameFeatures:
    """Encode frames as `model.encode_frames` does, without gradients, in as many parallel parts as cores can share evenly.

    Uses `model.compiled_frames` where `compile_frames` has set it.

    The parts are frames where the model encodes each frame alone, otherwise videos.

    Args:
        model: in eval mode.
        pixels: (B, T, 3, H, W), on the model's device.
        frame_times: (B, T'), for a model that takes them.
    """
    inputs = (pixels,) if frame_times is None else (pixels, frame_times)
    encode_frames = model.compiled_frames or model.encode_frames
    by_frame = model.encodes_frames_alone
    total = torch.get_num_threads()
    parts = math.gcd(total, pixels.shape[0] * (pixels.shape[1] if by_frame else 1))
    can_split = parts > 1 and _computes_in_parallel(model) and not torch.is_autocast_enabled("cpu")
    if not can_split or not _lowered.acquire(blocking=False):
        return encode_frames(*inputs)

    @torch.inference_mode()
    def encode(*part: Tensor) -> FrameFeatures:
        torch.set_num_threads(total // parts)
        return encode_frames(*part)

    split = (pixels.flatten(0, 1)[None].chunk(parts, 1),) if by_frame else [tensor.chunk(parts) for tensor in inputs]
    futures = [_pool(parts).submit(encode, *part) for part in zip(*split, strict=True)]
    try:
        wait(futures)
    finally:
        torch.set_num_threads(total)
        _lowered.release()
    results = [future.result() for future in futures]
    joined = {name: torch.cat([part[name] for part in results], int(by_frame)) for name in results[0]}
    if by_frame:
        joined = {name: tensor[0].unflatten(0, pixels.shape[:2]) for name, tensor in joined.items()}
    return FrameFeatures(**joined)


def compile_frames(model: VideoRecognizer) -> None:
    """Compile the encoder of frames for `encode_on_cores`, with CUDA graphs on a GPU.

    Every shape is compiled on its first use. Batches are padded to a power of two videos, so that a job has few of them.

    Raises:
        ValueError: torch is older than 2.7, or has no compiler for the device.
    """
    if Version(torch.__version__) < Version("2.7"):  # 2.6 cannot trace the decorators of the layers of Transformers
        raise ValueError(
            f"compile needs torch 2.7 or later, got {torch.__version__}. Update torch, or leave compile out."
        )
    try:
        torch.compile(torch.neg)(torch.zeros(1, device=model.device))
    except RuntimeError as error:
        raise ValueError(
            f"compile needs a compiler that torch can use on {model.device.type}: g++ or clang for the CPU, Triton for a GPU. "
            f"Install one, or leave compile out ({first_line(error)})."
        ) from error
    is_cuda = model.device.type == "cuda"
    encode = torch.compile(model.encode_frames, dynamic=False, mode="reduce-overhead" if is_cuda else None)

    def encode_frames(*inputs: Tensor) -> FrameFeatures:
        videos = len(inputs[0])
        missing = (1 << (videos - 1).bit_length()) - videos
        padded = [torch.cat([tensor, tensor[-1:].repeat_interleave(missing, 0)]) for tensor in inputs]
        if is_cuda:
            torch.compiler.cudagraph_mark_step_begin()
        # copied, because a CUDA graph writes its next outputs to the same memory
        return FrameFeatures(**{name: tensor[:videos].clone() for name, tensor in encode(*padded).items()})

    model.compiled_frames = encode_frames


def threads_per_batch(count: int, model: VideoRecognizer, *, one_by_one: bool = False) -> list[int]:
    """Return the number of torch's threads for each of `count` batches, so that no core idles.

    One each; the last batches, where fewer are left than threads, share them. All threads serve each batch with `one_by_one`, and
    for models that do not compute in parallel.
    """
    threads = torch.get_num_threads()
    if one_by_one or not _computes_in_parallel(model):
        return [threads] * count
    rest = count % threads
    return [1] * (count - rest) + [threads // max(1, rest)] * rest


def compute_on_cores(
    compute: Callable[[Item], Result], items: Iterable[Item], threads: Sequence[int]
) -> Iterator[tuple[Item, Result]]:
    """Yield each item with its result, in order; as many are computed in parallel as torch has threads for.

    Args:
        compute: called in threads, in parallel.
        items: taken as they are needed.
        threads: of torch, for each item; see `threads_per_batch`.
    """
    source, total = iter(items), torch.get_num_threads()
    for each, group in groupby(threads):
        part = islice(source, len(list(group)))
        if each == total:
            yield from ((item, compute(item)) for item in part)
        else:
            yield from _compute_in_parallel(compute, part, total // each, each)


def _compute_in_parallel(
    compute: Callable[[Item], Result], items: Iterable[Item], workers: int, threads: int
) -> Iterator[tuple[Item, Result]]:
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "kinoclip-compute", torch.set_num_threads, (threads,))
    # otherwise the first worker would split its batch in `encode_on_cores`, and rounding would depend on which is first
    is_held = _lowered.acquire(blocking=False)
    torch.set_num_threads(threads)
    try:
        waiting: deque[tuple[Item, Future[Result]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(compute, item)))
            while waiting and (len(waiting) > workers or waiting[0][1].done()):
                first, future = waiting.popleft()
                yield first, future.result()
        for item, future in waiting:
            yield item, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
        if is_held:
            _lowered.release()


def _computes_in_parallel(model: VideoRecognizer) -> bool:
    return model.computes_in_parallel and model.device.type == "cpu"


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Return a pool that stays, because torch allocates memory for each new thread."""
    return ThreadPoolExecutor(workers, "kinoclip-encode")


if hasattr(os, "register_at_fork"):  # a forked child has none of the threads; Windows has no forks
    os.register_at_fork(after_in_child=_pool.cache_clear)
