"""Keep all cores of the processor at work: each computes something else, and none waits for another in the middle of a product.

Torch cuts every product into a part for each thread, and goes on when the slowest is done. Two threads with a half of the frames each
have no such point before the end. Where their number is set, torch counts its threads for the whole process: a thread that begins to
use torch while this goes on keeps the smaller number.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from itertools import groupby, islice
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

from kinoclip.export.exported import ExportedRecognizer
from kinoclip.outputs import FrameFeatures
from kinoclip.recognizer import VideoRecognizer

Item = TypeVar("Item")
Result = TypeVar("Result")

# held by who shares out the threads of torch; the others take them as they are
_sharing = Lock()


def spread(count: int, model: VideoRecognizer, *, one_by_one: bool = False) -> list[int]:
    """Tell with how many of torch's threads to compute each of so many batches, so that no core is ever without work.

    One each; where fewer batches are left than there are threads, these share them. On other devices, for exports, whose threads are
    their own, and `one_by_one` all threads serve each batch.
    """
    threads = torch.get_num_threads()
    if one_by_one or not _computes_here(model):
        return [threads] * count
    rest = count % threads
    return [1] * (count - rest) + [threads // max(1, rest)] * rest


def compute_on_cores(
    compute: Callable[[Item], Result], items: Iterable[Item], threads: Sequence[int]
) -> Iterator[tuple[Item, Result]]:
    """Give each item with what is computed of it, in their order; as many at once as torch has threads for.

    Args:
        compute: may run in a thread of its own, beside itself.
        items: taken as they are needed.
        threads: of torch, for each item; see `spread`.
    """
    source, total = iter(items), torch.get_num_threads()
    for each, group in groupby(threads):
        part = islice(source, len(list(group)))
        if each == total:
            yield from ((item, compute(item)) for item in part)
        else:
            yield from _compute_at_once(compute, part, total // each, each)


def _compute_at_once(
    compute: Callable[[Item], Result], items: Iterable[Item], workers: int, threads: int
) -> Iterator[tuple[Item, Result]]:
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, "kinoclip-compute", torch.set_num_threads, (threads,))
    # otherwise the first of several workers would share out its threads once more, and rounding would tell which
    holds = _sharing.acquire(blocking=False)
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
        if holds:
            _sharing.release()


@torch.inference_mode()
def encode_on_cores(model: VideoRecognizer, pixels: Tensor) -> FrameFeatures:
    """Encode frames without gradients as `model.encode_frames` does, with as many parts of them at once as cores can share evenly.

    The parts are frames, where each is encoded by itself, and videos elsewhere.

    Args:
        model: in eval mode.
        pixels: (B, T, 3, H, W), where the model is.
    """
    alone = model.encodes_frames_alone
    total = torch.get_num_threads()
    parts = math.gcd(total, pixels.shape[0] * (pixels.shape[1] if alone else 1))
    can_share = _computes_here(model) and not torch.is_autocast_enabled("cpu")
    if parts == 1 or not can_share or not _sharing.acquire(blocking=False):
        return model.encode_frames(pixels)

    @torch.inference_mode()
    def encode(part: Tensor) -> FrameFeatures:
        torch.set_num_threads(total // parts)
        return model.encode_frames(part)

    rows = pixels.flatten(0, 1)[None].chunk(parts, 1) if alone else pixels.chunk(parts)
    futures = [_pool(parts).submit(encode, part) for part in rows]
    try:
        wait(futures)
    finally:
        torch.set_num_threads(total)
        _sharing.release()
    found = [future.result() for future in futures]
    joined = {name: torch.cat([part[name] for part in found], int(alone)) for name in found[0]}
    if alone:
        joined = {name: tensor[0].unflatten(0, pixels.shape[:2]) for name, tensor in joined.items()}
    return FrameFeatures(**joined)


def _computes_here(model: VideoRecognizer) -> bool:
    """Tell whether the threads of torch compute a model."""
    return model.device.type == "cpu" and not isinstance(model, ExportedRecognizer)


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Keep threads, because torch would set aside memory for new ones each time."""
    return ThreadPoolExecutor(workers, "kinoclip-encode")


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks; they have none of the threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
