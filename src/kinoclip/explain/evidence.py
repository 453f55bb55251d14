"""Explanations of one video as plain data, by label and entity."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kinoclip.modeling.outputs import Explanation

_MAX_ENTITIES = 5


def read_evidence(
    explanation: Explanation, labels: Sequence[str], chosen: Sequence[int], num_clips: int = 1
) -> dict[str, Any]:
    """Convert the explanation of all views of one video to fields of a `Classification`.

    Its rows are views, crops outermost, then clips. Saliency is averaged over crops; maps over the frame are those of
    the first crop. The frames of clips are concatenated. The answer names the `chosen` of the K candidates.
    """
    found: dict[str, Any] = {}
    if explanation.saliency is not None:
        per_clip = explanation.saliency.float().unflatten(0, (-1, num_clips)).mean(0)
        whole = per_clip.transpose(0, 1).flatten(1) / num_clips
        found["saliency"] = {labels[i]: whole[i].tolist() for i in chosen}
    for name in ("attention", "regions"):
        maps: Tensor | None = getattr(explanation, name)
        if maps is not None:
            found[name] = maps[:num_clips].flatten(0, 1).cpu()
    entities, scores, names = explanation.entities, explanation.entity_scores, explanation.entity_names
    if entities is not None and scores is not None and names is not None:
        entities, scores = (maps[:num_clips].flatten(0, 1).cpu() for maps in (entities, scores.float()))
        found |= _read_entities(entities, scores, names, found.get("regions"))
    if explanation.english is not None and explanation.chinese is not None:
        english, chinese = (votes.float().mean(0) for votes in (explanation.english, explanation.chinese))
        by_label = {"english": english, "chinese": chinese}
        found["languages"] = {name: {labels[i]: float(votes[i]) for i in chosen} for name, votes in by_label.items()}
        found["agreement"] = float(torch.minimum(english, chinese).sum())
    return found


def _read_entities(entities: Tensor, scores: Tensor, names: Sequence[str], regions: Tensor | None) -> dict[str, Any]:
    """Choose the entities with the highest sum of cosines (T, M) over all regions, and the patches that show them."""
    totals = torch.zeros(len(names)).index_add(0, entities.flatten(), scores.flatten())
    seen = entities.unique()
    best = seen[totals[seen].argsort(descending=True, stable=True)][:_MAX_ENTITIES]
    per_frame = torch.where(entities == best[:, None, None], scores, 0).sum(-1)
    patches = entities[..., None]  # (T, 1, 1) where a frame is aligned as a whole
    if regions is not None and entities.shape[1] > 1:
        patches = entities.gather(1, regions.flatten(1)).view_as(regions)
    ranks = torch.full((len(names),), -1)
    ranks[best] = torch.arange(len(best))
    return {
        "entities": {names[i]: row.tolist() for i, row in zip(best.tolist(), per_frame, strict=True)},
        "entity_map": ranks[patches],
    }
