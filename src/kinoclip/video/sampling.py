"""Sampling rules of the papers, as arithmetic on frame indices.

All functions return 0-based indices in display order. The authors count from 1: their frame number is our index plus one.

`sample_indices` selects a function by the name of the rule:

| rule | evaluation | training |
|---|---|---|
| `segment_start` | `segment_starts` | `random_in_segments` (Text4Vis, BIKE's attributes branch, Charades) |
| `segment_start_closed` | `segment_starts` | `random_in_closed_segments` (BIKE) |
| `segment_center` | `segment_centers` | `random_in_segments` (ActionCLIP, TSN) |
| `segment_center_but_last` | `segment_centers` of all frames but the last | `random_in_segments` of the same (SLLM) |
| `segment_shared_offset` | `shifted_segment_centers` | `random_shared_offset` (TAM, "uniform") |
| `dense` | `dense_windows`, 128 frames wide | `random_dense_window` (BIKE, Text4Vis) |
| `consecutive` | `strided_windows`, stride 2 | `random_strided_window` (TAM, "dense") |
| `uniform` | `sample_uniform`, both ends included | `random_in_segments` |
| `motion` | `sample_by_motion` | the same with random heights (MGSampler) |
| `cheapest` | `sample_cheapest` | `random_in_segments` (ours) |

`motion` needs the motion curve of the video, `cheapest` the costs of decoding its frames.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from math import ceil, floor
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Draw = Callable[[int, int], int]
"""`draw(low, high)`: a random integer, `low <= value < high`."""

_DENSE_SPAN = 128  # frames of a window of the rule "dense"
_STRIDE = 2  # frames between two of the rule "consecutive"

SamplingRule = Literal[
    "segment_start",
    "segment_start_closed",
    "segment_center",
    "segment_center_but_last",
    "segment_shared_offset",
    "dense",
    "consecutive",
    "uniform",
    "motion",
    "cheapest",
]


def sample_indices(
    rule: str,
    num_frames: int,
    num_samples: int,
    *,
    num_clips: int = 1,
    rng: np.random.Generator | Draw | None = None,
    training: bool = False,
    motion: Sequence[float] | NDArray[np.float64] | None = None,
    exponent: float = 0.5,
    costs: Sequence[float] | None = None,
) -> list[int]:
    """Sample frame indices of a video by the name of a rule (see the table at the top of this module).

    Args:
        rule: one of `SamplingRule`.
        num_frames: frames in the video, at least 1.
        num_samples: frames per clip (T).
        num_clips: clips per video; more than one requires a rule with clips, and is for evaluation only.
        rng: random numbers for training.
        training: sample at random.
        motion: `num_frames - 1` differences of each frame from the next one; for the rule "motion" only.
        exponent: of the motion, see `cumulative_motion`; for the rule "motion" only.
        costs: of decoding each frame; for the rule "cheapest" only.

    Returns:
        `num_clips * num_samples` indices, clip after clip. A video shorter than T repeats frames.

    Raises:
        ValueError: unknown rule, empty video, training without `rng`, several clips for a rule without clips, or a missing or wrong
            motion curve or list of costs.
    """
    if rule not in get_args(SamplingRule):
        raise ValueError(f"rule must be one of {', '.join(get_args(SamplingRule))}, got {rule!r}.")
    for name, value in (("num_frames", num_frames), ("num_samples", num_samples), ("num_clips", num_clips)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}.")
    if rule == "segment_center_but_last":
        num_frames = max(1, num_frames - 1)
    if training:
        if rng is None:
            raise ValueError(f"Rule {rule!r} is random in training: pass rng=numpy.random.default_rng(seed).")
        if num_clips != 1:
            raise ValueError(f"num_clips must be 1 in training, got {num_clips}.")
    if num_clips != 1 and rule not in (*_WITH_CLIPS, "cheapest"):
        raise ValueError(
            f"num_clips must be 1 for rule {rule!r}, got {num_clips}. Use 'segment_start' for several clips."
        )
    if rule == "motion":
        return _sample_by_motion(num_frames, num_samples, motion, rng if training else None, exponent)
    if training and rng is not None:
        return _AT_RANDOM.get(rule, random_in_segments)(num_frames, num_samples, _as_draw(rng))
    if rule == "cheapest":
        if costs is None or len(costs) != num_frames or num_clips != 1:
            raise ValueError(
                f"Rule 'cheapest' needs {num_frames} costs (VideoReader.decoding_costs) and num_clips=1, got "
                f"{'none' if costs is None else len(costs)} and {num_clips}."
            )
        return sample_cheapest(costs, num_samples)
    if rule in _WITH_CLIPS:
        return _WITH_CLIPS[rule](num_frames, num_samples, num_clips)
    return sample_uniform(num_frames, num_samples) if rule == "uniform" else segment_centers(num_frames, num_samples)


def _as_draw(rng: np.random.Generator | Draw) -> Draw:
    if isinstance(rng, np.random.Generator):
        return lambda low, high: int(rng.integers(low, high))
    return rng


def _sample_by_motion(
    num_frames: int,
    num_samples: int,
    motion: Sequence[float] | NDArray[np.float64] | None,
    rng: np.random.Generator | Draw | None,
    exponent: float,
) -> list[int]:
    if motion is None or len(motion) != num_frames - 1:
        length = "none" if motion is None else f"{len(motion)} values"
        raise ValueError(
            f"Rule 'motion' needs a motion curve of {num_frames - 1} values for {num_frames} frames, got {length}. "
            "Compute it with kinoclip.video.motion.measure_motion."
        )
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError("Rule 'motion' needs a numpy generator: pass rng=numpy.random.default_rng(seed).")
    uniform = None if rng is None else rng.uniform
    return sample_by_motion(motion, num_samples, exponent=exponent, uniform=uniform)


def segment_starts(num_frames: int, num_samples: int, num_clips: int = 1) -> list[int]:
    """Return the first frame of each of T equal segments; further clips start later in the segments.

    In a video shorter than T, clips after the first start at -1, the last frame.

    Source: BIKE and Text4Vis `datasets/video.py`, `_get_val_indices` and `_get_test_indices`; SLLM the same.
    """
    tick = num_frames / num_samples
    starts = [floor(start) for start in np.linspace(0, tick - 1, num_clips)]
    # int() truncates towards 0 like the authors' cast: -1 + 0.5 is frame 0.
    return [int(start + tick * i) % num_frames for start in starts for i in range(num_samples)]


def segment_centers(num_frames: int, num_samples: int) -> list[int]:
    """Return the middle frame of each of T equal segments; a video of at most T frames repeats frames evenly.

    Source: ActionCLIP `datasets/datasets.py`, `_get_val_indices`; SLLM the same on all frames but the last.
    """
    if num_samples == 1:
        return [num_frames // 2]
    tick = num_frames / num_samples
    shift = (tick - 1) / 2 if num_frames > num_samples else 0.0
    return [int(i * tick + shift) for i in range(num_samples)]


def shifted_segment_centers(num_frames: int, num_samples: int, num_clips: int = 1) -> list[int]:
    """Return the middle frame of each of T equal segments; further clips are shifted by one frame each.

    A video of at most T frames is sampled with replacement, with the number of the clip as the seed.

    Source: TAM `utils/video_dataset.py`, `sample_val_test_clip`, uniform.
    """
    indices: list[int] = []
    tick = num_frames / num_samples
    for clip in range(num_clips):
        if num_frames <= num_samples:
            # The legacy generator: its numbers are part of the authors' protocol.
            drawn = np.random.RandomState(clip).randint(0, num_frames, num_samples)
            indices += sorted(int(index) for index in drawn)
        else:
            start = tick / 2 + clip - (num_clips - 1) // 2
            start = min(max(start, 0.0), ceil(tick) - 1)
            indices += [floor(start + tick * i) for i in range(num_samples)]
    return indices


def sample_uniform(num_frames: int, num_samples: int) -> list[int]:
    """Return T equidistant frames including the first and the last; a single one is the middle frame."""
    if num_samples == 1:
        return [num_frames // 2]
    return [(i * (num_frames - 1) * 2 + num_samples - 1) // (2 * (num_samples - 1)) for i in range(num_samples)]


def dense_windows(num_frames: int, num_samples: int, num_clips: int = 1) -> list[int]:
    """Return T frames, `128 // T` apart, of each of several equidistant windows; wraps at the end of the video.

    A single clip starts at frame 0; the authors' code divides by zero there.

    Source: BIKE and Text4Vis `datasets/video.py`, `_get_test_indices` with `dense_sample`.
    """
    stride = _dense_stride(num_samples)
    step = floor(max(0, num_frames - _DENSE_SPAN) / (num_clips - 1)) if num_clips > 1 else 0
    return [(clip * step + stride * i) % num_frames for clip in range(num_clips) for i in range(num_samples)]


def strided_windows(num_frames: int, num_samples: int, num_clips: int = 1) -> list[int]:
    """Return T frames, 2 apart, of each of several equidistant windows; wraps at the end of the video.

    Source: TAM `utils/video_dataset.py`, `sample_val_test_clip`, dense (`frames_per_group` is the stride).
    """
    last_start = max(0, num_frames - num_samples * _STRIDE)
    starts = [int(start) for start in np.linspace(0, last_start, num_clips)]
    return [(start + _STRIDE * i) % num_frames for start in starts for i in range(num_samples)]


def random_in_segments(num_frames: int, num_samples: int, draw: Draw) -> list[int]:
    """Sample one frame of each of T segments; a video of at most T frames yields all frames and random duplicates.

    Source: TSN; Text4Vis, ActionCLIP and SLLM `_sample_indices`, and BIKE `datasets/video_attributes.py`.
    """
    if num_frames <= num_samples:
        repeats = [draw(0, num_frames) for _ in range(num_samples - num_frames)]
        return sorted([*range(num_frames), *repeats])
    ticks = [i * num_frames // num_samples for i in range(num_samples + 1)]
    return [low + draw(0, high - low) for low, high in pairwise(ticks)]


def random_in_closed_segments(num_frames: int, num_samples: int, draw: Draw) -> list[int]:
    """Sample one frame of each of T segments with shared end points, so that frames can be duplicated.

    Source: BIKE `datasets/video.py`, `_sample_indices` (bounds rounded half to even).
    """
    segment = (num_frames - 1) / num_samples
    bounds = [round(segment * i) for i in range(num_samples + 1)]
    return [draw(low, high + 1) for low, high in pairwise(bounds)]


def random_shared_offset(num_frames: int, num_samples: int, draw: Draw) -> list[int]:
    """Sample one offset for all of T equal segments; a video shorter than T is sampled with replacement.

    Source: TAM `utils/video_dataset.py`, `sample_train_clip`, uniform.
    """
    segment = num_frames // num_samples
    if segment == 0:
        return sorted(draw(0, num_frames) for _ in range(num_samples))
    offset = draw(0, segment)
    return [segment * i + offset for i in range(num_samples)]


def random_dense_window(num_frames: int, num_samples: int, draw: Draw) -> list[int]:
    """Sample a window of 128 frames and return T of them, `128 // T` apart; wraps at the end of the video.

    The last possible window is never sampled, as in the authors' code.

    Source: BIKE and Text4Vis `datasets/video.py`, `_sample_indices` and `_get_val_indices` with `dense_sample`.
    """
    return _random_window(num_frames, num_samples, _DENSE_SPAN, _dense_stride(num_samples), draw)


def random_strided_window(num_frames: int, num_samples: int, draw: Draw) -> list[int]:
    """Sample a window and return T frames of it, 2 apart; wraps at the end of the video.

    Source: TAM `utils/video_dataset.py`, `random_clip`.
    """
    return _random_window(num_frames, num_samples, num_samples * _STRIDE, _STRIDE, draw)


def split_kept_frames(num_samples: int, rate: int = 2) -> tuple[list[int], list[int], list[int]]:
    """Split T sampled frames into encoded, restored and dropped ones.

    Returns:
        Positions among the T frames: kept (every `rate`-th), restored (between two kept ones), dropped (after the last).

    Source: SLLM eq. 4 and footnote 1; the official `Video_dataset.get` does the same for `rate` 2.
    """
    if num_samples < 1 or rate < 1:
        raise ValueError(f"num_samples and rate must be at least 1, got {num_samples} and {rate}.")
    kept = list(range(0, num_samples, rate))
    restored = [i for i in range(kept[-1]) if i % rate]
    return kept, restored, list(range(kept[-1] + 1, num_samples))


def sample_cheapest(costs: Sequence[float], num_samples: int) -> list[int]:
    """Return a frame of each of T segments, so that few frames are decoded.

    The frame of each segment that costs the least has to be decoded, and with it all frames since the last key frame.
    Of what is decoded then, the frame nearest to the middle of each segment is returned. The segments are those of
    `random_in_segments`. A video of at most T frames repeats frames evenly.

    Args:
        costs: of each frame, see `VideoReader.decoding_costs`; a key frame costs 1.
        num_samples: T.
    """
    num_frames = len(costs)
    if num_frames <= num_samples:
        return segment_centers(num_frames, num_samples)
    ticks = [i * num_frames // num_samples for i in range(num_samples + 1)]
    segments = [
        sorted(range(low, high), key=lambda index: abs(2 * index - low - high + 1)) for low, high in pairwise(ticks)
    ]
    groups = list(accumulate(cost == 1 for cost in costs))
    decoded = [0.0] * (groups[-1] + 1)  # the highest cost that is paid in each group
    for segment in segments:
        cheapest = min(segment, key=lambda index: costs[index])
        decoded[groups[cheapest]] = max(decoded[groups[cheapest]], costs[cheapest])
    return [next(index for index in segment if costs[index] <= decoded[groups[index]]) for segment in segments]


def _random_window(num_frames: int, num_samples: int, span: int, stride: int, draw: Draw) -> list[int]:
    num_starts = max(1, num_frames - span + 1)
    start = 0 if num_starts == 1 else draw(0, num_starts - 1)
    return [(start + stride * i) % num_frames for i in range(num_samples)]


def _dense_stride(num_samples: int) -> int:
    if num_samples > _DENSE_SPAN:
        raise ValueError(f"num_samples must be at most {_DENSE_SPAN} in a dense window, got {num_samples}.")
    return _DENSE_SPAN // num_samples


# (num_frames, num_samples, num_clips) -> indices
_WITH_CLIPS: dict[str, Callable[[int, int, int], list[int]]] = {
    "segment_start": segment_starts,
    "segment_start_closed": segment_starts,
    "segment_shared_offset": shifted_segment_centers,
    "dense": dense_windows,
    "consecutive": strided_windows,
}
# of training; other rules use `random_in_segments`
_AT_RANDOM: dict[str, Callable[[int, int, Draw], list[int]]] = {
    "segment_start_closed": random_in_closed_segments,
    "segment_shared_offset": random_shared_offset,
    "dense": random_dense_window,
    "consecutive": random_strided_window,
}


def cumulative_motion(
    motion: Sequence[float] | NDArray[np.float64], exponent: float = 0.5
) -> NDArray[np.float64] | None:
    """Return the normalized cumulative sum of a motion curve, from 0 to 1, or None without motion.

    Args:
        motion: N - 1 values of at least 0.
        exponent: smooths the curve: 1 follows the motion, 0 weighs all frames equally. The paper uses 0.5.

    Raises:
        ValueError: motion that is negative or not finite, or a negative exponent.

    Source: the official sampler of MGSampler; summed sequentially in double precision, since the last bit decides ties.
    """
    curve = np.asarray(motion, dtype=np.float64)
    if curve.ndim != 1 or not np.isfinite(curve).all() or (curve < 0).any():
        raise ValueError(
            "A motion curve must be a vector of finite values of at least 0, one for each frame except the last."
        )
    if not 0 <= exponent < float("inf"):
        raise ValueError(f"exponent must be at least 0 (ignore motion; 1 follows it), got {exponent}.")
    if not curve.any():
        return None
    # Powers and sums of extreme values would overflow; dividing other curves by 1 changes no bit.
    largest = curve.max() if exponent > 1 or curve.max() > 1e300 else 1.0
    smoothed = (curve / largest) ** exponent
    return np.cumsum(smoothed / np.sum(smoothed))


def sample_by_motion(
    motion: Sequence[float] | NDArray[np.float64],
    num_samples: int,
    *,
    exponent: float = 0.5,
    uniform: Callable[[float, float], float] | None = None,
) -> list[int]:
    """Return T frames at equidistant values of the cumulative motion: the middle of each T-th, or a random point in it.

    Args:
        motion: N - 1 values of at least 0 for a video of N frames, see `motion_curve`.
        num_samples: T.
        exponent: see `cumulative_motion`.
        uniform: for training: `uniform(low, high)` returns a random number, as of a `numpy.random.Generator`; called once for each of
            the T points in order.

    Returns:
        T ascending indices, possibly with duplicates. Without motion, the segment centers.

    Raises:
        ValueError: see `cumulative_motion`.

    Source: the official sampler of MGSampler: the nearest point of the curve, the first among equally near ones.
    """
    cumulative = cumulative_motion(motion, exponent)
    if cumulative is None:
        return segment_centers(len(motion) + 1, num_samples)
    if uniform is None:
        values = [(2 * k + 1) / (2 * num_samples) for k in range(num_samples)]
    else:
        values = [float(uniform(k / num_samples, (k + 1) / num_samples)) for k in range(num_samples)]
    return [int(np.abs(cumulative - value).argmin()) for value in values]
