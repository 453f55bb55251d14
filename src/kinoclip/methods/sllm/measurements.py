"""Quantities that only SLLM's paper prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

from kinoclip.components.text_features import ensemble

from .modeling_sllm import SllmModel


@torch.inference_mode()
def restored_cosine(
    model: SllmModel, processor: Any, batches: Iterable[Mapping[str, Tensor]], texts: Sequence[str]
) -> float | None:
    """Return the mean cosine of restored features and those of the discarded frames; None where nothing is restored.

    Source: SLLM Table 7.
    """
    if model.restorer is None:
        return None
    cosines: list[float] = []
    for batch in batches:
        frames = model.encode_frames(batch["pixel_values_videos"].to(model.device))
        restored, real = model.restoration_pairs(frames, batch["discarded_pixel_values"].to(model.device))
        cosines += cosine_similarity(restored, real, dim=-1).flatten(1).mean(1).tolist()
    return fmean(cosines)


@torch.inference_mode()
def label_similarity(
    model: SllmModel, processor: Any, batches: Iterable[Mapping[str, Tensor]], texts: Sequence[str]
) -> float:
    """Return the mean cosine of the text features of two different labels.

    Source: SLLM section 4.4.5, beside Table 9.
    """
    ids = {name: tensor.to(model.device) for name, tensor in processor.encode_labels(list(texts)).items()}
    embeds = normalize(ensemble(model.encode_text(**ids).embeds), dim=-1)
    count = len(embeds)
    return float(((embeds @ embeds.T).sum() - count) / (count * (count - 1)))


MEASUREMENTS = {"restored_cosine": restored_cosine, "label_similarity": label_similarity}
