"""How many cores of this machine a video may be decoded on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

# how many readers work beside each other
_readers: ContextVar[int] = ContextVar("_readers", default=1)


@contextmanager
def share_cores(readers: int) -> Iterator[None]:
    """Let what is read inside take one of so many shares of the cores."""
    token = _readers.set(readers)
    try:
        yield
    finally:
        _readers.reset(token)


def num_cores(threads: int | None) -> int:
    """Tell how many cores a reader may use: `threads`, 0 for all there are, None for its share of torch's threads."""
    if threads is None:
        return max(1, torch.get_num_threads() // _readers.get())
    return threads or os.cpu_count() or 1
