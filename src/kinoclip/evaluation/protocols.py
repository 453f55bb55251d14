"""Protocols: how a video is looked at, how its views become scores, and over which classes accuracy is taken."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kinoclip.metrics import topk_accuracy

from .scoring import READS, ScoringRule

# (videos (N,), classes (K,)) -> (N, K): scores of these videos over these classes alone. A softmax over classes
# belongs inside, because it depends on which classes are kept.
ScoreFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Protocol:
    """One way to score, as data.

    Attributes:
        title: what it is, and whose.
        num_clips: temporal views per video.
        num_crops: spatial views per clip.
        scoring: how the views become one row of scores.
        classes: "all", or ten random halves, each scored by itself, beside all.
        running_map: also give the mean average precision as the official Charades script sums it up.
        sampling: of the frames; None keeps the processor's rule.
        full_side: resize the short side to the crop size and spread the crops along the long side, as X-CLIP does.
    """

    title: str
    num_clips: int = 1
    num_crops: int = 1
    scoring: ScoringRule = "probability"
    classes: Literal["all", "halves"] = "all"
    running_map: bool = False
    sampling: str | None = None
    full_side: bool = False

    @property
    def needs_attributes(self) -> bool:
        """Whether the rule scores the attributes branch by itself."""
        return "attribute_scores" in READS[self.scoring]

    @property
    def reads_attributes(self) -> bool:
        """Whether the attributes branch can change the scores; "probability" reads logits, which fuse all branches."""
        return self.needs_attributes or "logits" in READS[self.scoring]


PROTOCOLS = {
    "single_view": Protocol("one clip, center crop"),
    "three_crops": Protocol("one clip, three crops", num_crops=3),
    "multi_view": Protocol("four clips, three crops", 4, 3, sampling="segment_start"),
    "multi_view_10x3": Protocol("ten clips, three crops", 10, 3, sampling="segment_start"),
    "tam_10x3": Protocol("TAM's test.py: logits of 10 x 3 views averaged", 10, 3, "logits", sampling="segment_start"),
    "xclip_three_crops": Protocol("one clip, three crops of the full short side", num_crops=3, full_side=True),
    "halves": Protocol("ten random halves of the classes, and all of them", classes="halves"),
    "bike_single_view": Protocol("BIKE's test.py: scores without scale, softmax twice", scoring="bike"),
    "bike_multi_view": Protocol("BIKE's test.py, 4 x 3 views", 4, 3, "bike"),
    "bike_four_clips": Protocol("BIKE's test.py, four clips, center crop", 4, 1, "bike"),
    "bike_zero_shot": Protocol("BIKE's test_zeroshot.py: each frame votes", scoring="frame_vote", classes="halves"),
    "bike_charades": Protocol("BIKE's test_charades.py", scoring="bike_charades", running_map=True),
    "bike_charades_four_clips": Protocol(
        "BIKE's test_charades.py, four clips, center crop", 4, 1, "bike_charades", running_map=True
    ),
    "bike_attributes": Protocol("BIKE's train_attributes.py: the attributes branch alone", scoring="bike_attributes"),
    "bike_fused": Protocol("BIKE's fusion: 0.7 video + 0.3 attributes", scoring="bike_fused"),
    "bike_fused_multi_view": Protocol("BIKE's fusion, 4 x 3 views: 0.7 video + 0.3 attributes", 4, 3, "bike_fused"),
    "text4vis_single_view": Protocol("Text4Vis' test.py: 100 x cosine", scoring="text4vis"),
    "text4vis_multi_view": Protocol("Text4Vis' test.py: embeddings of 4 x 3 views averaged", 4, 3, "text4vis"),
    "text4vis_three_crops": Protocol("Text4Vis' test.py: embeddings of three crops averaged", 1, 3, "text4vis"),
    "text4vis_zero_shot": Protocol("Text4Vis' test_zeroshot.py", scoring="text4vis", classes="halves"),
    "actionclip": Protocol("ActionCLIP's test.py: probabilities of all templates averaged", scoring="actionclip"),
}


def find_protocol(name: str) -> Protocol:
    """Give a protocol by name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"There is no protocol {name!r}. Use one of {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class SplitAccuracy:
    """Accuracy over one set of classes.

    Attributes:
        classes: ids of the kept classes, ascending.
        num_videos: videos of these classes.
        top1: fraction of them, in [0, 1].
        top5: fraction of them, in [0, 1].
    """

    classes: tuple[int, ...]
    num_videos: int
    top1: float
    top5: float


@dataclass(frozen=True)
class SplitSummary:
    """Accuracy over several sets of classes.

    Attributes:
        splits: one entry per set.
        top1_mean: mean over sets, in [0, 1].
        top1_std: population standard deviation over sets.
        top5_mean: as `top1_mean`.
        top5_std: as `top1_std`.
    """

    splits: tuple[SplitAccuracy, ...]
    top1_mean: float
    top1_std: float
    top5_mean: float
    top5_std: float


def half_class_splits(num_classes: int, num_splits: int = 10) -> list[tuple[int, ...]]:
    """Draw the halves of the classes that zero-shot papers evaluate on.

    Split s is the first half (rounded down) of the permutation that NumPy's legacy generator draws with seed s.

    Returns:
        One ascending tuple of class ids per split. The same for everyone.

    Source: official BIKE and Text4Vis `test_zeroshot.py`, `multi_split_test`.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes is {num_classes}. Half of the classes can only be kept of at least 2.")
    kept = num_classes // 2
    # RandomState, not default_rng: another generator draws other classes.
    orders = [np.random.RandomState(seed).permutation(num_classes) for seed in range(num_splits)]
    return [tuple(sorted(int(class_id) for class_id in order[:kept])) for order in orders]


def evaluate_classes(score: ScoreFunction, labels: Tensor, classes: Sequence[int]) -> SplitAccuracy:
    """Accuracy over the videos of some classes, when only these classes can be chosen.

    Args:
        score: called once, with the videos of these classes and the classes in ascending order.
        labels: (N,) class id of every video.
        classes: class ids; all of them for the full-class protocol.
    """
    kept = torch.tensor(sorted(classes), dtype=torch.long, device=labels.device)
    videos = torch.isin(labels, kept).nonzero().squeeze(1)
    if len(videos) == 0:
        raise ValueError(f"None of the {len(labels)} videos has one of the classes {kept.tolist()}. Check the labels.")
    scores = score(videos, kept)
    columns = torch.searchsorted(kept, labels[videos]).to(scores.device)
    return SplitAccuracy(
        classes=tuple(kept.tolist()),
        num_videos=len(videos),
        top1=topk_accuracy(scores, columns, 1),
        top5=topk_accuracy(scores, columns, 5),
    )


def evaluate_splits(score: ScoreFunction, labels: Tensor, splits: Sequence[Sequence[int]]) -> SplitSummary:
    """Mean accuracy over several sets of classes, and how far they spread.

    Args:
        score: called once per split.
        labels: (N,) class id of every video.
        splits: class ids of each set, e.g. from `half_class_splits`.
    """
    if not splits:
        raise ValueError("There are no splits to evaluate. Give at least one set of classes.")
    results = tuple(evaluate_classes(score, labels, classes) for classes in splits)
    top1 = [result.top1 for result in results]
    top5 = [result.top5 for result in results]
    return SplitSummary(results, fmean(top1), pstdev(top1), fmean(top5), pstdev(top5))
