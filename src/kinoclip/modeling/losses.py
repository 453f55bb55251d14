"""Losses between videos and candidate texts, all on one definition of a match.

`logits` are (B, K) and scaled, `match` is (B, K), see `label_match`, and a loss is a scalar, averaged over rows.
"""

import torch
from torch import Tensor
from torch.nn import functional


def label_match(labels: Tensor, candidate_labels: Tensor) -> Tensor:
    """Compute which candidates are right for which video: (B, K) float, 1 where the candidate is right, else 0.

    Args:
        labels: (B,) class ids, or (B, K) multi-hot, which are converted to float.
        candidate_labels: (K,) class id of every candidate; ids may repeat.
    """
    if labels.ndim == 2:
        if labels.shape[1] != candidate_labels.shape[0]:
            raise ValueError(
                f"labels are multi-hot of shape {tuple(labels.shape)}, but there are {candidate_labels.shape[0]} "
                "candidates. Give one column per candidate."
            )
        return labels.float()
    return (labels[:, None] == candidate_labels[None, :]).float()


def row_kl(logits: Tensor, match: Tensor) -> Tensor:
    """Divergence of each row's candidate distribution from its softened matches, averaged over rows.

    It is 0 where both distributions agree, since the entropy of the target is subtracted. The target is the softmax of ten
    times `match`: of 256 candidates a single match gets 0.989, so it is soft by a little. A row without a match is pulled to
    uniform.

    Source: BIKE eq. 7; official `utils/NCELoss.py`, `NCELoss`. The paper shares the target equally among the matches
    instead, see `symmetric_cross_entropy`.
    """
    logits = _at_least_float32(logits)
    log_target = torch.log_softmax(10 * match.to(logits.dtype), dim=1)
    divergence = log_target.exp() * (log_target - torch.log_softmax(logits, dim=1))
    return divergence.sum(dim=1).mean()


def symmetric_kl(logits: Tensor, match: Tensor, *, use_dual_softmax: bool = False) -> Tensor:
    """Contrastive loss of a batch in both directions: videos choose texts, texts choose videos.

    The two directions are `row_kl(logits, match)` and `row_kl(logits.T, match.T)`; this is their mean. In training,
    K = B: the candidates are the batch's own captions, and repeated labels give several matches per row. With
    `use_dual_softmax`, which no published configuration has, each direction passes through `dual_softmax` first.

    Source: official BIKE `utils/NCELoss.py`, `NCELoss` and `DualLoss`.
    """
    directions = (logits, match), (logits.T, match.T)
    losses = [row_kl(dual_softmax(scores) if use_dual_softmax else scores, targets) for scores, targets in directions]
    return (losses[0] + losses[1]) / 2


def symmetric_cross_entropy(logits: Tensor, match: Tensor) -> Tensor:
    """Contrastive loss of a batch in both directions, as BIKE's and DSTPR's papers write it.

    A row without a match gives NaN; a column without one, a candidate that no video of the batch shows, is left out.

    Source: BIKE eq. 7 (videos) and 8 (attributes), DSTPR eq. 15-16. BIKE's official code uses `symmetric_kl`.
    """
    shown = match.sum(dim=0)
    columns = match.T / shown.where(shown > 0, 1)[:, None]
    # the mean over all columns, corrected to one over those that are shown
    share = (shown > 0).to(torch.float32).mean()
    return (cross_entropy(logits, match) + soft_cross_entropy(logits.T, columns) / share) / 2


def dual_softmax(logits: Tensor) -> Tensor:
    """Multiply logits by B softmax(logits / 1000) over rows: those that stand out in their column rise.

    Source: official BIKE `utils/NCELoss.py`, `DualLoss`.
    """
    return logits * torch.softmax(logits / 1000, dim=0) * logits.shape[0]


def cross_entropy(logits: Tensor, match: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy over candidates; several matches share the target equally, and a row without a match gives NaN.

    A share `label_smoothing` of the target, in [0, 1), is spread evenly over all candidates.
    """
    target = match / match.sum(dim=1, keepdim=True)
    return soft_cross_entropy(logits, (1 - label_smoothing) * target + label_smoothing / match.shape[1])


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy with whole distributions as targets (B, K), each row of which sums to 1 (mixed videos)."""
    logits = _at_least_float32(logits)
    return -(target.to(logits.dtype) * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()


def binary_cross_entropy(logits: Tensor, match: Tensor) -> Tensor:
    """Treat every candidate as a yes-or-no question, with logits of "yes"; the mean over all of them."""
    logits = _at_least_float32(logits)
    return functional.binary_cross_entropy_with_logits(logits, match.to(logits.dtype))


def _at_least_float32(logits: Tensor) -> Tensor:
    # A log softmax over hundreds of candidates loses its third digit in bfloat16.
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
