"""Learning rates over a run: warm-up, cosine, and how often the official loops refresh them."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

# The official loops of BIKE, Text4Vis and ActionCLIP refresh the rate every tenth iteration of an epoch.
OFFICIAL_REFRESH_EVERY = 10


def cosine_with_warmup(
    epoch: float, base_lr: float, warmup_epochs: float, epochs: float, final_scale: float = 0.0
) -> float:
    """Rise linearly from 0 to `base_lr`, then fall along half a cosine.

    Args:
        epoch: position in the run, with fractions.
        base_lr: the highest rate.
        warmup_epochs: length of the rise. A run of at most this many epochs never leaves it.
        epochs: length of the run; the rate stays at its end value afterwards.
        final_scale: the end value as a share of `base_lr`.

    Source: official BIKE `utils/solver.py`, `_lr_scheduler`, with `final_scale` 0.
    """
    if epoch < warmup_epochs:
        return base_lr * epoch / warmup_epochs
    if epoch >= epochs:
        return base_lr * final_scale
    progress = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return base_lr * (final_scale + (1 - final_scale) * (1 + math.cos(math.pi * progress)) / 2)


def refreshed_epoch(step: int, iterations_per_epoch: int, refresh_every: int = OFFICIAL_REFRESH_EVERY) -> float:
    """Position in the run, with fractions, at which the rate in force at an optimizer step was computed.

    The rate is refreshed before iteration i of an epoch if i is 0 or i + 1 is a multiple of `refresh_every`. So with
    a warm-up from 0, the first `refresh_every - 1` steps of a run do not move the weights.

    Args:
        step: optimizer steps taken before this one.
        iterations_per_epoch: optimizer steps per epoch.
        refresh_every: 1 refreshes before every step.

    Source: official BIKE `train.py`, `train`.
    """
    if iterations_per_epoch < 1 or refresh_every < 1:
        raise ValueError(
            f"iterations_per_epoch is {iterations_per_epoch} and refresh_every {refresh_every}. "
            "Both must be at least 1."
        )
    epoch, iteration = divmod(step, iterations_per_epoch)
    refreshed = max((iteration + 1) // refresh_every * refresh_every - 1, 0)
    return epoch + refreshed / iterations_per_epoch


def official_learning_rates(
    base_lr: float, warmup_epochs: float, epochs: int, iterations_per_epoch: int
) -> list[float]:
    """The rate in force at every optimizer step of a run of the official loop."""
    return [
        cosine_with_warmup(refreshed_epoch(step, iterations_per_epoch), base_lr, warmup_epochs, epochs)
        for step in range(epochs * iterations_per_epoch)
    ]


def build_scheduler(
    optimizer: Optimizer,
    warmup_epochs: float,
    epochs: float,
    iterations_per_epoch: int,
    *,
    refresh_every: int = OFFICIAL_REFRESH_EVERY,
    final_scale: float = 0.0,
) -> LambdaLR:
    """Drive the rate of every parameter group along the same curve, each from its own base rate.

    Call `step()` once after every `optimizer.step()`. The rate of the first step is set at once.

    Args:
        optimizer: its groups carry the base rates, see `parameter_groups`.
        warmup_epochs: see `cosine_with_warmup`.
        epochs: see `cosine_with_warmup`.
        iterations_per_epoch: optimizer steps per epoch.
        refresh_every: 1 gives a smooth curve; the default is the stair of the official loops.
        final_scale: see `cosine_with_warmup`.
    """

    def scale(step: int) -> float:
        epoch = refreshed_epoch(step, iterations_per_epoch, refresh_every)
        return cosine_with_warmup(epoch, 1.0, warmup_epochs, epochs, final_scale)

    return LambdaLR(optimizer, scale)
