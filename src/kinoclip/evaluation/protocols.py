"""Protocols: the views of a video, how they are scored, and the classes that are scored together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers.utils.hub import cached_file

from kinoclip.evaluation.metrics import topk_accuracy
from kinoclip.evaluation.scoring import READS, ScoringRule
from kinoclip.methods.auto import find_model
from kinoclip.modeling.checkpoints import naming
from kinoclip.text.parsing import load_json

# (videos (N,), classes (K,)) -> (N, K): scores of these videos over these classes only, with any softmax over classes
ScoreFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Protocol:
    """A way to score."""

    title: str
    num_clips: int = 1  # temporal views per video
    num_crops: int = 1  # spatial views per clip
    scoring: ScoringRule = "probability"  # how the views are combined into one row of scores
    classes: Literal["all", "halves"] = "all"  # halves: also ten random halves, each scored separately
    running_map: bool = False  # also compute `running_mean_average_precision`
    sampling: str | None = None  # rule for frames; None: that of the processor
    full_side: bool = False  # resize the short side to the crop size, and crop along the long side, as in X-CLIP

    @property
    def needs_attributes(self) -> bool:
        """Whether the rule scores the attributes branch separately."""
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
    """Return a protocol by name; raise a `ValueError` if it is unknown."""
    if name not in PROTOCOLS:
        raise ValueError(f"The protocol must be one of {', '.join(PROTOCOLS)}, got {name!r}.")
    return PROTOCOLS[name]


def recorded_recipe(source: str | Path) -> dict[str, Any] | None:
    """Read the recipe (`Recipe.to_dict`) in the `training.json` of a checkpoint: a folder or hub id, or "mini".

    Returns None if the record is missing, or if the Hub cannot be reached. A damaged record is a `ValueError`.
    """
    try:
        path = Path(str(cached_file(find_model(str(source)), "training.json")))
    except OSError:
        return None
    with naming(f"The record of the training in {source}"):
        recipe = load_json(path.read_text(encoding="utf-8")).get("recipe")
    return recipe if isinstance(recipe, dict) else None


def half_class_splits(num_classes: int) -> list[tuple[int, ...]]:
    """Return the ten random halves of the classes that zero-shot papers evaluate on, as ascending class ids.

    Split s is the first half (rounded down) of the permutation that NumPy's legacy generator draws with seed s.

    Source: official BIKE and Text4Vis `test_zeroshot.py`, `multi_split_test`.
    """
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, got {num_classes}.")
    kept = num_classes // 2
    # RandomState, not default_rng: another generator draws other classes.
    orders = [np.random.RandomState(seed).permutation(num_classes) for seed in range(10)]
    return [tuple(sorted(int(class_id) for class_id in order[:kept])) for order in orders]


def evaluate_classes(score: ScoreFunction, labels: Tensor, classes: Sequence[int]) -> dict[str, float]:
    """Compute the accuracies "top1" and "top5" over the "videos" of some classes, which are the only candidates.

    Args:
        score: called once, with the videos of these classes and the classes in ascending order.
        labels: (N,) class id of every video.
        classes: class ids; all of them for the full-class protocol.
    """
    kept = torch.tensor(sorted(classes), dtype=torch.long, device=labels.device)
    videos = torch.isin(labels, kept).nonzero().squeeze(1)
    if len(videos) == 0:
        raise ValueError(
            f"At least one of {len(labels)} videos must have a class in {kept.tolist()}. Check the labels."
        )
    scores = score(videos, kept)
    columns = torch.searchsorted(kept, labels[videos]).to(scores.device)
    return {"videos": len(videos)} | {f"top{top_k}": topk_accuracy(scores, columns, top_k) for top_k in (1, 5)}
