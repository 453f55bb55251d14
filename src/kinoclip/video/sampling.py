"""Choose frames: the index arithmetic of every paper, on plain integers.

Every function answers with 0-based positions in display order. The authors count from 1, so that their frame number is our
index plus one.

`sample_indices` picks a function by the rule's name:

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
| `motion` | `kinoclip.video.motion.sample_by_motion` | the same with random heights (MGSampler) |

`motion` looks at the video: it needs the motion curve.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import ceil, floor
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Draw = Callable[[int, int], int]
"""`draw(low, high)`: a random integer, `low <= value < high`."""

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
) -> list[int]:
    """Choose the frames of one video by the name of a rule; the table is at the top of this module.

    Args:
        rule: one of `SamplingRule`.
        num_frames: frames in the video, at least 1.
        num_samples: frames wanted per clip (T).
        num_clips: clips of T frames each. More than one needs a rule that knows clips, and is for evaluation only.
        rng: where training takes its random numbers from.
        training: draw at random instead of evenly.
        motion: how much each frame differs from the next one, `num_frames - 1` numbers; for the rule "motion" alone.

    Returns:
        `num_clips * num_samples` indices, one clip after the other. A video shorter than T repeats frames.

    Raises:
        ValueError: an unknown rule, a video without frames, training without `rng`, clips that the rule does not know, or a
            motion curve that is missing or of another length.
    """
    if rule not in get_args(SamplingRule):
        raise ValueError(f"{rule!r} is no sampling rule; choose one of {', '.join(get_args(SamplingRule))}.")
    for name, value in (("num_frames", num_frames), ("num_samples", num_samples), ("num_clips", num_clips)):
        if value < 1:
            raise ValueError(f"{name} is {value}, but sampling needs at least 1.")
    if rule == "segment_center_but_last":
        num_frames = max(1, num_frames - 1)
    if training:
        if rng is None:
            raise ValueError(f"Rule {rule!r} draws at random in training: pass rng=numpy.random.default_rng(seed).")
        if num_clips != 1:
            raise ValueError(f"Training takes one clip per video, not {num_clips}: ask for the video again instead.")
    if rule == "motion":
        return _sample_by_motion(num_frames, num_samples, num_clips, motion, rng if training else None)
    if training and rng is not None:
        return _sample_at_random(rule, num_frames, num_samples, rng)
    return _sample_evenly(rule, num_frames, num_samples, num_clips)


def _sample_evenly(rule: str, num_frames: int, num_samples: int, num_clips: int) -> list[int]:
    if rule in ("segment_start", "segment_start_closed"):
        return segment_starts(num_frames, num_samples, num_clips)
    if rule == "segment_shared_offset":
        return shifted_segment_centers(num_frames, num_samples, num_clips)
    if rule == "dense":
        return dense_windows(num_frames, num_samples, num_clips)
    if rule == "consecutive":
        return strided_windows(num_frames, num_samples, num_clips)
    if num_clips != 1:
        raise ValueError(f"Rule {rule!r} knows one clip per video, not {num_clips}; use 'segment_start' for several.")
    if rule == "uniform":
        return sample_uniform(num_frames, num_samples)
    return segment_centers(num_frames, num_samples)


def _sample_at_random(rule: str, num_frames: int, num_samples: int, rng: np.random.Generator | Draw) -> list[int]:
    if rule == "segment_start_closed":
        return random_in_closed_segments(num_frames, num_samples, rng)
    if rule == "segment_shared_offset":
        return random_shared_offset(num_frames, num_samples, rng)
    if rule == "dense":
        return random_dense_window(num_frames, num_samples, rng)
    if rule == "consecutive":
        return random_strided_window(num_frames, num_samples, rng)
    return random_in_segments(num_frames, num_samples, rng)


def _sample_by_motion(
    num_frames: int,
    num_samples: int,
    num_clips: int,
    motion: Sequence[float] | NDArray[np.float64] | None,
    rng: np.random.Generator | Draw | None,
) -> list[int]:
    from kinoclip.video.motion import sample_by_motion  # brings torch along, which no other rule needs

    if num_clips != 1:
        raise ValueError(f"Rule 'motion' knows one clip per video, not {num_clips}; use 'segment_start' for several.")
    if motion is None or len(motion) != num_frames - 1:
        found = "none" if motion is None else f"{len(motion)} numbers"
        raise ValueError(
            f"Rule 'motion' needs the motion curve of the {num_frames} frames, {num_frames - 1} numbers, and got {found}. "
            "Measure it with kinoclip.video.motion.measure_motion."
        )
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError("Rule 'motion' draws fractions: pass rng=numpy.random.default_rng(seed).")
    return sample_by_motion(motion, num_samples, uniform=None if rng is None else rng.uniform)


def segment_starts(num_frames: int, num_samples: int, num_clips: int = 1) -> list[int]:
    """Take the first frame of each of T equal segments; further clips start later inside the segment.

    In a video shorter than T, clips after the first start at -1, which is its last frame.

    Source: BIKE and Text4Vis `datasets/video.py`, `_get_val_indices` and `_get_test_indices`; SLLM the same.
    """
    tick = num_frames / num_samples
    starts = [floor(start) for start in np.linspace(0, tick - 1, num_clips)]
    # int() truncates towards 0 as the authors' cast does: -1 + 0.5 is frame 0.
    return [int(start + tick * i) % num_frames for start in starts for i in range(num_samples)]


def segment_centers(num_frames: int, num_samples: int) -> list[int]:
    """Take the middle frame of each of T equal segments, or repeat frames evenly in a video of T frames or fewer.

    Source: ActionCLIP `datasets/datasets.py`, `_get_val_indices`; SLLM the same on all frames but the last.
    """
    if num_samples == 1:
        return [num_frames // 2]
    tick = num_frames / num_samples
    shift = (tick - 1) / 2 if num_frames > num_samples else 0.0
    return [int(i * tick + shift) for i in range(num_samples)]


def shifted_segment_centers(num_frames: int, num_samples: int, num_clips: int = 1) -> list[int]:
    """Take the middle frame of each of T equal segments; further clips lie one frame apart around it.

    A video of T frames or fewer is drawn from with replacement, by a generator seeded with the clip's number.

    Source: TAM `utils/video_dataset.py`, `sample_val_test_clip`, uniform.
    """
    indices: list[int] = []
    tick = num_frames / num_samples
    for clip in range(num_clips):
        if num_frames <= num_samples:
            # The legacy generator, because its stream is part of the authors' protocol.
            drawn = np.random.RandomState(clip).randint(0, num_frames, num_samples)
            indices += sorted(int(index) for index in drawn)
        else:
            start = tick / 2 + clip - (num_clips - 1) // 2
            start = min(max(start, 0.0), ceil(tick) - 1)
            indices += [floor(start + tick * i) for i in range(num_samples)]
    return indices


def sample_uniform(num_frames: int, num_samples: int) -> list[int]:
    """Take T frames at even distances, the first and the last included; one frame alone is the middle one."""
    if num_samples == 1:
        return [num_frames // 2]
    return [(i * (num_frames - 1) * 2 + num_samples - 1) // (2 * (num_samples - 1)) for i in range(num_samples)]


def dense_windows(num_frames: int, num_samples: int, num_clips: int = 1, span: int = 128) -> list[int]:
    """Take T frames, `span // T` apart, from each of several windows spread over the video; wraps at its end.

    One clip starts at frame 0, where the authors' code divides by zero.

    Source: BIKE and Text4Vis `datasets/video.py`, `_get_test_indices` with `dense_sample`.
    """
    stride = _dense_stride(num_samples, span)
    step = floor(max(0, num_frames - span) / (num_clips - 1)) if num_clips > 1 else 0
    return [(clip * step + stride * i) % num_frames for clip in range(num_clips) for i in range(num_samples)]


def strided_windows(num_frames: int, num_samples: int, num_clips: int = 1, stride: int = 2) -> list[int]:
    """Take T frames, `stride` apart, from each of several windows spread over the video; wraps at its end.

    Source: TAM `utils/video_dataset.py`, `sample_val_test_clip`, dense (`frames_per_group` is the stride).
    """
    last_start = max(0, num_frames - num_samples * stride)
    starts = [int(start) for start in np.linspace(0, last_start, num_clips)]
    return [(start + stride * i) % num_frames for start in starts for i in range(num_samples)]


def random_in_segments(num_frames: int, num_samples: int, rng: np.random.Generator | Draw) -> list[int]:
    """Draw one frame from each of T segments; a video of T frames or fewer gives every frame and random repeats.

    Source: TSN; Text4Vis, ActionCLIP and SLLM `_sample_indices`, and BIKE `datasets/video_attributes.py`.
    """
    draw = _as_draw(rng)
    if num_frames <= num_samples:
        repeats = [draw(0, num_frames) for _ in range(num_samples - num_frames)]
        return sorted([*range(num_frames), *repeats])
    ticks = [i * num_frames // num_samples for i in range(num_samples + 1)]
    return [low + draw(0, high - low) for low, high in pairwise(ticks)]


def random_in_closed_segments(num_frames: int, num_samples: int, rng: np.random.Generator | Draw) -> list[int]:
    """Draw one frame from each of T segments that share their end points, so that a frame can come twice.

    Source: BIKE `datasets/video.py`, `_sample_indices` (bounds rounded half to even).
    """
    draw = _as_draw(rng)
    segment = (num_frames - 1) / num_samples
    bounds = [round(segment * i) for i in range(num_samples + 1)]
    return [draw(low, high + 1) for low, high in pairwise(bounds)]


def random_in_interval(
    start_seconds: float,
    end_seconds: float,
    total_seconds: float,
    num_samples: int,
    rng: np.random.Generator | Draw,
    frames_per_second: int = 24,
) -> list[int]:
    """Draw one frame from each of T segments of an annotated interval, cut at the video's end.

    Raises:
        ValueError: the interval holds no frame.

    Source: BIKE `datasets/charades.py` (frames extracted at 24 per second).
    """
    first = int(start_seconds * frames_per_second)
    end_seconds = min(end_seconds, total_seconds)
    num_frames = int(end_seconds * frames_per_second - start_seconds * frames_per_second)
    if num_frames < 1:
        raise ValueError(
            f"The interval {start_seconds} to {end_seconds} s of a video of {total_seconds} s holds no frame at "
            f"{frames_per_second} frames per second. Leave such rows out."
        )
    return [first + index for index in random_in_segments(num_frames, num_samples, rng)]


def random_shared_offset(num_frames: int, num_samples: int, rng: np.random.Generator | Draw) -> list[int]:
    """Draw one position and take it in each of T equal segments; a video shorter than T is drawn from with replacement.

    Source: TAM `utils/video_dataset.py`, `sample_train_clip`, uniform.
    """
    draw = _as_draw(rng)
    segment = num_frames // num_samples
    if segment == 0:
        return sorted(draw(0, num_frames) for _ in range(num_samples))
    offset = draw(0, segment)
    return [segment * i + offset for i in range(num_samples)]


def random_dense_window(
    num_frames: int, num_samples: int, rng: np.random.Generator | Draw, span: int = 128
) -> list[int]:
    """Draw one window of `span` frames and take T of them, `span // T` apart; wraps at the video's end.

    The last possible window is never drawn, as in the authors' code.

    Source: BIKE and Text4Vis `datasets/video.py`, `_sample_indices` and `_get_val_indices` with `dense_sample`.
    """
    return _random_window(num_frames, num_samples, span, _dense_stride(num_samples, span), rng)


def random_strided_window(
    num_frames: int, num_samples: int, rng: np.random.Generator | Draw, stride: int = 2
) -> list[int]:
    """Draw one window and take T frames from it, `stride` apart; wraps at the video's end.

    Source: TAM `utils/video_dataset.py`, `random_clip`.
    """
    return _random_window(num_frames, num_samples, num_samples * stride, stride, rng)


def split_kept_frames(num_samples: int, rate: int = 2) -> tuple[list[int], list[int], list[int]]:
    """Split T sampled frames into the ones that are encoded, the ones that are restored, and the dropped tail.

    Returns:
        Positions among the T frames: kept (every `rate`-th), restored (between two kept ones), dropped (after the last).

    Source: SLLM eq. 4 and footnote 1; the official `Video_dataset.get` does the same for `rate` 2.
    """
    if num_samples < 1 or rate < 1:
        raise ValueError(f"Cannot keep every {rate}-th of {num_samples} frames: both must be at least 1.")
    kept = list(range(0, num_samples, rate))
    restored = [i for i in range(kept[-1]) if i % rate]
    return kept, restored, list(range(kept[-1] + 1, num_samples))


def _random_window(
    num_frames: int, num_samples: int, span: int, stride: int, rng: np.random.Generator | Draw
) -> list[int]:
    num_starts = max(1, num_frames - span + 1)
    start = 0 if num_starts == 1 else _as_draw(rng)(0, num_starts - 1)
    return [(start + stride * i) % num_frames for i in range(num_samples)]


def _dense_stride(num_samples: int, span: int) -> int:
    if num_samples > span:
        raise ValueError(
            f"A dense window of {span} frames cannot give {num_samples} samples; ask for {span} or fewer."
        )
    return span // num_samples


def _as_draw(rng: np.random.Generator | Draw) -> Draw:
    if isinstance(rng, np.random.Generator):
        return lambda low, high: int(rng.integers(low, high))
    return rng
