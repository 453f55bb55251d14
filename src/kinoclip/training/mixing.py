"""Targets that are no longer one class: mixup, cutmix and label smoothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchvision.transforms.v2 import CutMix, MixUp
from torchvision.tv_tensors import Video

from .settings import DataSettings


class TargetMixer:
    """Mix the videos of a batch and their labels, by torchvision's transforms and torch's own random numbers.

    Args:
        data: alphas of mixup and cutmix, and the share of smoothing. With both alphas, each is taken half of the times.
        num_classes: K.
    """

    def __init__(self, data: DataSettings, num_classes: int):
        self.transforms = [
            transform(alpha=alpha, num_classes=num_classes, labels_getter=_last)
            for transform, alpha in ((MixUp, data.mixup), (CutMix, data.cutmix))
            if alpha
        ]
        self.smoothing = data.label_smoothing
        self.num_classes = num_classes

    @property
    def changes(self) -> bool:
        """Whether labels come out as shares."""
        return bool(self.transforms or self.smoothing)

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Change all pixels (B, T, 3, H, W) of a batch alike; `labels` (B,) or (B, K) become shares (B, K)."""
        if not self.changes:
            return batch
        labels = batch["labels"]
        shares = labels.float() if labels.ndim == 2 else one_hot(labels, self.num_classes).float()
        shares = shares / shares.sum(1, keepdim=True).clamp(min=1)
        if self.transforms and len(labels) > 1:
            names = [name for name, value in batch.items() if value.ndim == 5]
            chosen = self.transforms[int(torch.randint(len(self.transforms), ()))]
            *videos, shares = chosen(*(Video(batch[name]) for name in names), shares)
            batch = {**batch, **{name: video.as_subclass(Tensor) for name, video in zip(names, videos, strict=True)}}
        shares = (1 - self.smoothing) * shares + self.smoothing / self.num_classes
        return {**batch, "labels": shares}


def _last(inputs: Sequence[Tensor]) -> Tensor:
    return inputs[-1]
